"""The area under the ROC curve of many bootstrap samples at once."""

import numpy as np

BLOCK = 128
"""Images whose weights are summed by one matrix product."""
TRIANGLE = np.vstack([np.tri(BLOCK, k=-1) + np.eye(BLOCK) / 2, np.ones((1, BLOCK))]).astype(np.float32)
"""What a block's images have below them within the block, and what all of it weighs."""


def weighted_auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve (R,) float64 of samples in which each of n images is `weights` (n, R) times.

    With F_i the weight of all images that score below i, and half of that of those that score the same (i among them),

        AUROC = (sum over positives of w_i F_i - P^2 / 2) / (P N),

    P and N the weights of positives and negatives: among themselves positives win half of P^2 whatever their scores, so
    that what is left is won against negatives (Mann and Whitney 1947). nan for samples without positives or negatives.

    Args:
        scores: (n,) of being positive; only their order counts.
        positive: (n,) bool.
        weights: (n, R) float32, whole numbers.
    """
    order = np.argsort(scores, kind="stable")
    level, found = weights[order], positive[order]
    winners = level[found]
    starts = np.unique(scores[order], return_index=True)[1]
    if len(starts) < len(scores):  # images that score the same become one
        winners = np.add.reduceat(level * found[:, None], starts, axis=0)
        level, found = np.add.reduceat(level, starts, axis=0), np.logical_or.reduceat(found, starts)
        winners = winners[found]
    won, below = np.zeros(weights.shape[1]), np.zeros(weights.shape[1], np.float32)
    used = 0
    for start in range(0, len(level), BLOCK):
        inside, mine = level[start : start + BLOCK], np.flatnonzero(found[start : start + BLOCK])
        summed = TRIANGLE[np.append(mine, BLOCK), : len(inside)] @ inside
        won += np.einsum("ir,ir->r", winners[used : used + len(mine)], summed[:-1] + below)
        below += summed[-1]
        used += len(mine)
    positives = winners.sum(axis=0, dtype=np.float64)
    negatives = below - positives
    with np.errstate(invalid="ignore", divide="ignore"):
        area: np.ndarray = (won - positives**2 / 2) / (positives * negatives)
    return area
