"""The Bradley-Terry model (Bradley and Terry 1952), fitted to many tables of wins at once."""

import numpy as np

ELO = 400 / np.log(10)
"""Elo points in one unit of log-odds: 400 points are odds of ten to one."""
MEAN = 1000.0
STEP = 1.0
"""Longest step of a strength: far from the optimum, Newton's method would jump over it."""


def fit(wins: np.ndarray) -> np.ndarray:
    """Return maximum-likelihood log strengths t (R, M), of mean 0, for tables of wins (R, M, M).

    wins[r, i, j] >= 0 is how often i beat j; it need not be whole. P(i beats j) = 1 / (1 + exp(t_j - t_i)), and each t
    maximises sum_ij wins_ij log P(i beats j): a logistic regression, by Newton's method. Every two must have beaten each
    other, if only by a little (`with_prior`): then there is a maximum.

    Raises ValueError where somebody never beat somebody else, or where Newton's method does not converge.
    """
    if not (wins + np.eye(wins.shape[1]) > 0).all():
        raise ValueError("some model never beat another: add invented ties (with_prior) first")
    games = wins + wins.transpose(0, 2, 1)
    count = wins.shape[1]
    strengths = np.zeros(wins.shape[:2])
    for _ in range(200):
        beats = _chance(strengths)
        gradient = (wins - games * beats).sum(axis=2)
        curvature = games * beats * (1 - beats)
        information = np.eye(count) * curvature.sum(axis=2)[:, :, None] - curvature
        # a common shift changes nothing: 1/M takes the place of that direction's curvature, which is 0
        step = np.linalg.solve(information + 1 / count, gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        strengths += step * np.minimum(1.0, STEP / np.maximum(longest, 1e-300))
        if longest.max() < 1e-9:
            return strengths - strengths.mean(axis=1, keepdims=True)
    raise ValueError("the strengths do not converge")


def with_prior(wins: np.ndarray, prior: float, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """Return `wins` (..., M, M) with `prior` invented ties between every two models, each half a win for both.

    So strengths are finite for a model that nobody beat, and for models that never met (which are then as strong as each
    other). With two models and prior 1 each has half a win more than it had, which takes away the first-order bias of the
    log-odds (Haldane 1956; Firth 1993). `weights` (..., M, M) multiply the invented wins, for the bootstrap.
    """
    return wins + prior / 2 * weights * (1 - np.eye(wins.shape[-1]))


def win_chance(ratings: np.ndarray) -> np.ndarray:
    """Return P(i beats j) = 1 / (1 + 10^((R_j - R_i) / 400)) as (M, M) for Elo ratings (M,)."""
    return _chance(np.asarray(ratings)[None] / ELO)[0]


def _chance(strengths: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh((strengths[:, :, None] - strengths[:, None, :]) / 2))
