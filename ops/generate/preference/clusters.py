"""How sure votes make a number, where votes of one rater, and votes on one prompt, are alike.

Raters and prompts are both samples, so the variance is that of two crossed clusterings:

    Var = Var(by rater) + Var(by prompt) - Var(by rater and prompt)

(Cameron, Gelbach and Miller 2011), as for seeds and images elsewhere in this project. It is never less than the larger of
the first two. With one rater nothing is known of others, and only prompts count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t

Counted = Literal["raters and prompts", "prompts only"]


@dataclass(frozen=True)
class Clustering:
    """A partition of votes into clusters."""

    of_vote: np.ndarray
    """(N,) the number of each vote's cluster, 0 to `count` - 1."""
    count: int


@dataclass(frozen=True)
class Clusterings:
    """The clusterings that count; raters and both are None with a single rater."""

    prompts: Clustering
    raters: Clustering | None
    both: Clustering | None

    def __iter__(self) -> Iterator[Clustering | None]:
        return iter((self.prompts, self.raters, self.both))

    @property
    def counted(self) -> Counted:
        """What varies in the interval."""
        return "prompts only" if self.raters is None else "raters and prompts"


def clusterings(votes: pd.DataFrame) -> Clusterings:
    """Return the clusterings of votes with the columns `rater_id` and `prompt_id`."""
    prompts, raters = (_numbered(votes[name]) for name in ("prompt_id", "rater_id"))
    if raters.count < 2:
        return Clusterings(prompts, None, None)
    return Clusterings(prompts, raters, _numbered(pd.Series(prompts.of_vote * raters.count + raters.of_vote)))


def _numbered(column: pd.Series) -> Clustering:
    codes, names = pd.factorize(column, sort=True)
    return Clustering(codes, len(names))


def combined(
    by_prompt: float, by_rater: float | None, by_both: float | None, clusters: Clusterings
) -> tuple[float, float]:
    """Return the variance of two crossed clusterings and its degrees of freedom (Satterthwaite 1946).

    With raters these are at least the number of raters or of prompts, whichever is smaller, less 1.
    """
    prompts = max(clusters.prompts.count - 1, 1)
    if clusters.raters is None or by_rater is None or by_both is None:
        return by_prompt, float(prompts)
    raters = max(clusters.raters.count - 1, 1)
    total = by_prompt + by_rater - min(by_both, by_prompt, by_rater)
    spread = by_prompt**2 / prompts + by_rater**2 / raters
    df = total**2 / spread if spread > 0 else float(min(prompts, raters))
    return total, max(df, float(min(prompts, raters)))


def quantile(df: float) -> float:
    """Return the factor of the standard error in a 95 % interval."""
    return float(t.ppf(0.975, df))
