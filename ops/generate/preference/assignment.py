"""What a rater is shown next."""

from collections import Counter

import numpy as np

from ops.generate.preference.study import Comparison, EvalPlan
from ops.generate.preference.votes import Vote, is_judge
from ops.runtime import derive_seed


def next_comparison(plan: EvalPlan, votes: list[Vote], rater_id: str, per_rater: int) -> Comparison | None:
    """Return the comparison that a person sees next; None if they have had `per_rater` or all.

    Those come first that still lack most of the ratings wanted of them, whoever gave the others: so ratings stay spread
    evenly over prompts and pairs, even where people stop midway. Among equals the order is the rater's own. Votes of
    judges do not count.
    """
    mine = {vote.comparison for vote in votes if vote.rater_id == rater_id}
    if len(mine) >= per_rater:
        return None
    given = Counter(vote.comparison for vote in votes if not is_judge(vote.rater_id))
    order = np.random.default_rng(derive_seed(plan.seed, plan.study_id, "order", rater_id))
    waiting = [
        (given[comparison.name] - comparison.wanted, rank, comparison)
        for comparison, rank in zip(plan.comparisons, order.permutation(len(plan.comparisons)), strict=True)
        if comparison.name not in mine
    ]
    return min(waiting, key=lambda entry: entry[:2])[2] if waiting else None


def workload(plan: EvalPlan, per_rater: int) -> int:
    """Return how many comparisons one person is asked for."""
    return min(per_rater, len(plan.comparisons))
