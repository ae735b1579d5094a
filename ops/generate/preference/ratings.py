"""Ratings of generators from votes, on the scale of Elo, with intervals.

The Imagen 3 report prints Elo scores, but no formula. Ours: the Bradley-Terry model

    P(i beats j) = 1 / (1 + 10^((R_j - R_i) / 400)),

fitted by maximum likelihood to all pairs together; a tie is half a win for each; the mean is 1000. One invented tie
between every two generators (`prior`) keeps a generator finite that nobody beat, and joins those that never met: they
then stand equal, with wide intervals. The report's intervals are of 99 %; these are of 95 %, as all in this project.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array

from ops.errors import AmalgamError
from ops.generate.preference.clusters import (
    Clustering,
    Clusterings,
    Counted,
    clusterings,
    combined,
    quantile,
)
from ops.generate.preference.sources import VERSUS
from ops.generate.preference.strength import ELO, MEAN, fit, with_prior
from ops.runtime import derive_seed

SCORE = {"A": 1.0, "tie": 0.5, "B": 0.0}
"""What the first of a pair wins."""
CHUNK = 4096
"""Clusters whose bootstrap weights are in memory at a time."""


@dataclass(frozen=True)
class Ratings:
    """Generators on the scale of Elo."""

    sources: tuple[str, ...]
    ratings: np.ndarray
    """(M,) of mean 1000."""
    low: np.ndarray
    high: np.ndarray
    """(M,) 95 % intervals, around the mean of these sources."""
    better: np.ndarray
    """(M, M) bool: the 95 % interval of R_i - R_j lies above 0."""
    votes: np.ndarray
    """(M,) votes in which each took part."""
    counted: Counted


@dataclass(frozen=True)
class Games:
    """Votes as numbers."""

    first: np.ndarray
    second: np.ndarray
    """(N,) number of each vote's sources."""
    score: np.ndarray
    """(N,) what the first wins: 1, 1/2 or 0."""


def games_of(votes: pd.DataFrame, sources: Sequence[str]) -> Games:
    """Return votes (`exports.as_frame`) as numbers; AmalgamError if there are none, or of a source not in `sources`."""
    if votes.empty:
        raise AmalgamError("there are no votes yet", "vote on the page, or let a judge vote, before rating")
    number = {name: place for place, name in enumerate(sources)}
    pairs = votes["pair"].str.split(VERSUS, n=1, expand=True, regex=False)
    first, second = pairs[0].map(number), pairs[1].map(number)
    if first.isna().any() or second.isna().any():
        unknown = sorted(set(pairs[0]).union(pairs[1]) - set(sources))
        raise AmalgamError(f"votes are of unknown generators: {', '.join(unknown)}", f"known: {', '.join(sources)}")
    return Games(first.to_numpy(np.int64), second.to_numpy(np.int64), votes["choice"].map(SCORE).to_numpy(np.float64))


def wins_by_cluster(games: Games, clustering: Clustering, count: int) -> coo_array:
    """Return the wins in each cluster (G, M * M) of `count` = M sources; a tie is half a win for both."""
    rows = np.tile(clustering.of_vote, 2)
    columns = np.concatenate([games.first * count + games.second, games.second * count + games.first])
    values = np.concatenate([games.score, 1 - games.score])
    return coo_array((values, (rows, columns)), shape=(clustering.count, count * count))


def rate(votes: pd.DataFrame, sources: Sequence[str], prior: float, replicates: int, seed: int) -> Ratings:
    """Return the ratings of `sources` from votes (columns `pair, choice, rater_id, prompt_id`) of one aspect.

    Intervals are R -+ t sd, where sd is that of a bootstrap over raters and prompts (`clusters`): for each clustering all
    votes of a cluster, and each invented tie's halves, get a weight of their own from the exponential distribution (the
    Bayesian bootstrap, Rubin 1981), and the ratings are fitted again. Unlike counts of resampled clusters, such weights
    are never 0: a generator that nobody beat has a wide interval instead of none, and no replicate tears pairs apart.

    Raises AmalgamError for fewer than two sources, no votes, and votes of other sources.
    """
    if len(sources) < 2:
        raise AmalgamError("ratings need two generators or more", "vote on pairs of them")
    games, clusters, count = games_of(votes, sources), clusterings(votes), len(sources)
    wins = wins_by_cluster(games, clusters.prompts, count).sum(axis=0).reshape(1, count, count)
    ratings = MEAN + ELO * fit(with_prior(wins, prior))[0]
    spreads = [
        None if each is None else _covariance(games, each, count, prior, replicates, derive_seed(seed, "ratings", name))
        for name, each in zip(("prompts", "raters", "both"), clusters, strict=True)
    ]
    eye = np.eye(count)
    half = np.array([_half_width(eye[i], spreads, clusters) for i in range(count)])
    better = np.zeros((count, count), bool)
    for i in range(count):
        for j in range(count):
            better[i, j] = i != j and ratings[i] - ratings[j] > _half_width(eye[i] - eye[j], spreads, clusters)
    took_part = np.bincount(games.first, minlength=count) + np.bincount(games.second, minlength=count)
    return Ratings(tuple(sources), ratings, ratings - half, ratings + half, better, took_part, clusters.counted)


def _half_width(contrast: np.ndarray, spreads: Sequence[np.ndarray | None], clusters: Clusterings) -> float:
    """Return half the width of the 95 % interval of a contrast (M,) of the ratings."""
    prompts, raters, both = (None if s is None else float(contrast @ s @ contrast) for s in spreads)
    assert prompts is not None, "prompts always count"
    variance, df = combined(prompts, raters, both, clusters)
    return quantile(df) * variance**0.5


def _covariance(
    games: Games, clustering: Clustering, count: int, prior: float, replicates: int, seed: int
) -> np.ndarray:
    """Return the covariance (M, M) of ratings over bootstrap weights of the clusters."""
    rng = np.random.default_rng(seed)
    by_cluster = wins_by_cluster(games, clustering, count).tocsr()
    wins = np.zeros((replicates, count * count))
    for start in range(0, clustering.count, CHUNK):
        part = by_cluster[start : start + CHUNK]
        wins += rng.standard_exponential((replicates, part.shape[0])) @ part
    invented = rng.standard_exponential((replicates, count, count))
    ratings = ELO * fit(with_prior(wins.reshape(replicates, count, count), prior, invented))
    # normalised exponential weights are Dirichlet's, whose variance is that of the mean times (G - 1) / (G + 1)
    correction = (clustering.count + 1) / max(clustering.count - 1, 1)
    return np.cov(ratings, rowvar=False) * correction


def rank_table(found: Ratings) -> list[dict[str, str | int | float]]:
    """Return the sources from the best to the worst, each with the ranks that it may have.

    `from` counts the sources that are certainly better (their difference's 95 % interval does not hold 0), `to` those that
    are certainly not worse.
    """
    count = len(found.sources)
    return [
        {
            "rank": rank,
            "generator": found.sources[i],
            "rating": float(found.ratings[i]),
            "low": float(found.low[i]),
            "high": float(found.high[i]),
            "from": 1 + int(found.better[:, i].sum()),
            "to": count - int(found.better[i].sum()),
            "votes": int(found.votes[i]),
        }
        for rank, i in enumerate(np.argsort(-found.ratings, kind="stable"), start=1)
    ]
