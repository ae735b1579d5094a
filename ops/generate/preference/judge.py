"""A judge that votes in the place of people: a proxy, never a measure of what people prefer.

A judge has one score for each image, from elsewhere: the probability that a classifier gives to the asked label, or how
near the image is to real images that the generators never saw. It sees the same comparisons as people, votes in the same
form under a name that begins with `judge:`, and is rated apart from them. What it prefers is what its score measures; it
never differs from itself, so that intervals of its ratings are over prompts only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ops.errors import AmalgamError
from ops.generate.preference.study import EvalPlan, sides
from ops.generate.preference.votes import JUDGE, Vote, check_rater

if TYPE_CHECKING:
    from ops.data.loading import ImageSet


@dataclass(frozen=True)
class Judge:
    """Scores in the place of a person's eyes."""

    name: str
    scores: Mapping[str, np.ndarray]
    """(N,) for each generator, in the order of its images (`open_sources`); more is better. Give distances negated."""
    margin: float
    """Scores that differ by no more are a tie; in the unit of the scores."""

    @property
    def rater_id(self) -> str:
        """The name under which it votes."""
        return f"{JUDGE}{self.name}"


def judged(plan: EvalPlan, sources: "Mapping[str, ImageSet]", judge: Judge) -> list[Vote]:
    """Return a judge's vote on each comparison of a plan.

    Raises AmalgamError for a source without scores, for scores that are not one number for each image, and for a negative
    margin.
    """
    check_rater(judge.name)
    if judge.margin < 0:
        raise AmalgamError(f"the margin of {judge.rater_id} is {judge.margin}", "use 0 or more")
    scores = {name: _scores_by_key(sources[name], name, judge) for name in plan.sources}
    votes = []
    for comparison, side in zip(plan.comparisons, sides(plan, judge.rater_id), strict=True):
        a, b = (scores[name][comparison.prompt_id] for name in comparison.pair)
        choice = "tie" if abs(a - b) <= judge.margin else "A" if a > b else "B"
        pair, prompt = comparison.name
        votes.append(Vote(plan.study_id, plan.aspect, pair, side, judge.rater_id, prompt, choice))
    return votes


def _scores_by_key(images: "ImageSet", source: str, judge: Judge) -> dict[str, float]:
    if source not in judge.scores:
        raise AmalgamError(f"{judge.rater_id} has no scores of {source}", "score the images of every generator")
    scores = np.asarray(judge.scores[source], np.float64)
    if scores.shape != (len(images.table),) or not np.isfinite(scores).all():
        raise AmalgamError(
            f"the scores of {judge.rater_id} for {source} are not one number for each of {len(images.table)} images",
            "score every image, in the order of open_sources",
        )
    return dict(zip(images.table["key"], scores.tolist(), strict=True))
