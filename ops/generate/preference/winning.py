"""How often one generator wins against another, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ops.generate.preference.clusters import Clustering, clusterings, combined, quantile
from ops.generate.preference.ratings import games_of


@dataclass(frozen=True)
class WinRates:
    """Share of wins of the row against the column, ties half; nan where the two never met."""

    sources: tuple[str, ...]
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """(M, M) in [0, 1]."""
    votes: np.ndarray
    ties: np.ndarray
    """(M, M) how many."""


def win_rates(votes: pd.DataFrame, sources: Sequence[str]) -> WinRates:
    """Return the win rates of votes (columns `pair, choice, rater_id, prompt_id`), each pair on its own.

    Intervals are Wilson's (95 %) for n = p (1 - p) / Var votes, the number of independent votes that would be as sure, where
    Var is the variance of the share over raters and prompts (`clusters`); ties make that more than there were votes. Where
    all votes say the same, which says nothing of how they vary, n is the number of prompts.

    Raises AmalgamError for no votes, and votes of other sources.
    """
    count = len(sources)
    games = games_of(votes, sources)
    rate, low, high = (np.full((count, count), np.nan) for _ in range(3))
    numbers, ties = np.zeros((count, count), np.int64), np.zeros((count, count), np.int64)
    for i in range(count):
        for j in range(i + 1, count):
            forward = (games.first == i) & (games.second == j)
            mine = forward | ((games.first == j) & (games.second == i))
            if not mine.any():
                continue
            score = np.where(forward, games.score, 1 - games.score)[mine]
            p, a, b = share(score, votes[mine])
            rate[i, j], low[i, j], high[i, j] = p, a, b
            rate[j, i], low[j, i], high[j, i] = 1 - p, 1 - b, 1 - a
            numbers[i, j] = numbers[j, i] = len(score)
            ties[i, j] = ties[j, i] = int((score == 0.5).sum())
    return WinRates(tuple(sources), rate, low, high, numbers, ties)


def share(score: np.ndarray, votes: pd.DataFrame) -> tuple[float, float, float]:
    """Return the mean of scores (N,) in [0, 1] with its 95 % interval (see `win_rates`)."""
    clusters = clusterings(votes)
    p = float(score.mean())
    by_prompt, by_rater, by_both = (None if each is None else _variance(score, each) for each in clusters)
    assert by_prompt is not None, "prompts always count"
    variance, df = combined(by_prompt, by_rater, by_both, clusters)
    if not np.isfinite(variance):
        n, df = 1.0, 1.0
    else:
        n = p * (1 - p) / variance if variance > 0 else float(clusters.prompts.count)
    z2 = quantile(df) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 / n * (p * (1 - p) + z2 / (4 * n))) ** 0.5 / (1 + z2 / n)
    return p, max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p))


def _variance(score: np.ndarray, clustering: Clustering) -> float:
    """Return the variance of the mean of `score` if clusters are drawn anew (Liang and Zeger 1986); inf for one."""
    if clustering.count < 2:
        return float("inf")
    sums = np.bincount(clustering.of_vote, weights=score - score.mean(), minlength=clustering.count)
    return clustering.count / (clustering.count - 1) * float((sums**2).sum()) / len(score) ** 2
