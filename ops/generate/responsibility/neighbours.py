"""Exact nearest neighbours of features, a chunk of the distance matrix at a time."""

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from ops.errors import AmalgamError

MEGABYTES = 64
"""Of the distance matrix that are in memory at once."""


def nearest(queries: np.ndarray, points: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return Euclidean distances and places (N, k) of the nearest `points` (M, D), nearest first; k = min(count, M).

    Equal distances: the smaller place first. Distances are computed from differences, so that a copy has exactly 0.
    """
    count = min(count, len(points))
    found = []
    for _, distances in _chunks(queries, points):
        near = _smallest(distances, count)
        order = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(near, order, axis=1))
    places = np.concatenate(found)
    return _between(queries, points, places), places


def nearest_others(points: np.ndarray) -> np.ndarray:
    """Return the distance (M,) of each of `points` (M, D), M > 1, to the nearest other one."""
    found = []
    for rows, distances in _chunks(points, points):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        found.append(distances.argmin(axis=1))
    return _between(points, points, np.concatenate(found)[:, None])[:, 0]


def count_nearer(queries: np.ndarray, points: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of `points` (M, D) are nearer to each query (N, D) than its radius (N,), and how many not farther.

    Numbers (N,) int64. Distances within 1 part in 10^7 of the radius count as equal to it.
    """
    below, within = [], []
    for rows, distances in _chunks(queries, points):
        limit = radii[rows, None]
        slack = 1e-7 * (1 + limit)
        below.append((distances < limit - slack).sum(axis=1))
        within.append((distances <= limit + slack).sum(axis=1))
    return np.concatenate(below), np.concatenate(within)


def check_features(features: np.ndarray, count: int, name: str) -> np.ndarray:
    """Return `features` as (N, D) float64; AmalgamError if they are not N finite rows, naming the set."""
    if features.ndim != 2 or len(features) != count:
        raise AmalgamError(
            f"the features of {name} have the shape {features.shape}, not ({count}, D)",
            "compute them for all its images",
        )
    if not np.isfinite(features).all():
        raise AmalgamError(
            f"the features of {name} have values that are no numbers", "look at the model that made them"
        )
    return features.astype(np.float64)


def _chunks(queries: np.ndarray, points: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows and their distances (n, M)."""
    start = 0
    for distances in pairwise_distances_chunked(queries, points, metric="euclidean", working_memory=MEGABYTES):
        yield slice(start, start + len(distances)), distances
        start += len(distances)


def _smallest(distances: np.ndarray, count: int) -> np.ndarray:
    """Return the places (N, count) of the smallest `distances` (N, M) of each row, in order of place.

    Of those equal to the largest of them, which a partition would take from anywhere, the first are taken.
    """
    limit = np.partition(distances, count - 1, axis=1)[:, count - 1 : count]
    below, equal = distances < limit, distances == limit
    left = count - below.sum(axis=1, keepdims=True)
    return np.nonzero(below | (equal & (equal.cumsum(axis=1) <= left)))[1].reshape(len(distances), count)


def _between(queries: np.ndarray, points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the distances (N, k) of queries (N, D) to points[places] (N, k, D), one column in memory at a time."""
    columns = [np.linalg.norm(queries - points[column], axis=1) for column in places.T]
    return np.stack(columns, axis=1)
