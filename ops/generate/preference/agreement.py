"""Whether a metric orders generators as people do.

As in the Imagen 3 report: for each pair of generators, people say win, tie or loss (a tie where the interval of the win
rate holds one half), and so does the metric (a tie where Wilcoxon's signed-rank test finds no difference over prompts).
A metric is as good as the share of pairs where the two say the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata, wilcoxon

from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval, wilson
from ops.generate.preference.winning import WinRates

Verdict = Literal["win", "tie", "loss"]
LEVEL = 0.05
"""Of significance."""


@dataclass(frozen=True)
class Agreement:
    """One pair of generators, seen by people and by a metric."""

    pair: tuple[str, str]
    votes: Verdict
    """Of the first against the second."""
    metric: Verdict

    @property
    def same(self) -> bool:
        """Whether the two say the same."""
        return self.votes == self.metric


def vote_verdict(low: float, high: float) -> Verdict:
    """Return what the interval of a win rate says."""
    return "win" if low > 0.5 else "loss" if high < 0.5 else "tie"


def metric_verdict(first: np.ndarray, second: np.ndarray) -> Verdict:
    """Return what scores (P,) of two generators on the same prompts say; more is better.

    Two-sided signed-rank test (Wilcoxon 1945); the direction is that of the larger sum of ranks.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    changed = difference[difference != 0]
    if not len(changed) or wilcoxon(changed).pvalue >= LEVEL:
        return "tie"
    return "win" if (rankdata(np.abs(changed)) * np.sign(changed)).sum() > 0 else "loss"


def agreements(found: WinRates, scores: Mapping[str, np.ndarray]) -> list[Agreement]:
    """Return the agreement of each pair that votes compare with a metric's scores (P,) on one list of prompts.

    Raises AmalgamError for a source without scores, and for scores of different numbers of prompts.
    """
    missing = [name for name in found.sources if name not in scores]
    if missing:
        raise AmalgamError(f"the metric has no scores of {', '.join(missing)}", "score the images of every generator")
    if len({np.shape(scores[name]) for name in found.sources}) > 1:
        raise AmalgamError("the metric's scores are of different prompts", "score the same prompts for every generator")
    return [
        Agreement(
            (first, second),
            vote_verdict(found.low[i, j], found.high[i, j]),
            metric_verdict(scores[first], scores[second]),
        )
        for i, first in enumerate(found.sources)
        for j, second in enumerate(found.sources)
        if i < j and found.votes[i, j]
    ]


def agreement_share(pairs: list[Agreement]) -> Interval:
    """Return the share of pairs on which both agree, with its Wilson interval; nan without pairs."""
    return wilson(sum(pair.same for pair in pairs), len(pairs))
