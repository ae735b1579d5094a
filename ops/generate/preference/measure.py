"""From votes to measurements: the ratings and win rates of one study."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from ops.evaluate.measurements import row
from ops.generate.preference.aspects import aspect_of
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.exports import as_frame
from ops.generate.preference.ratings import Ratings, rate
from ops.generate.preference.study import EvalPlan
from ops.generate.preference.votes import Vote, is_judge
from ops.generate.preference.winning import WinRates, win_rates

PEOPLE = "people"


def panels(votes: Iterable[Vote]) -> dict[str, pd.DataFrame]:
    """Return the votes (`exports.as_frame`) of all people together, and of each judge alone, by name.

    A judge is no sample of people, and judges measure different things: their votes never make one rating.
    """
    frame = as_frame(votes)
    names = frame["rater_id"].map(lambda rater: rater if is_judge(rater) else PEOPLE)
    return {str(name): part.reset_index(drop=True) for name, part in frame.groupby(names)}


def rated(config: PreferenceConfig, plan: EvalPlan, votes: pd.DataFrame) -> tuple[Ratings, WinRates]:
    """Return ratings and win rates of the generators of a plan from the votes of one panel."""
    found = rate(votes, plan.sources, config.prior, config.replicates, config.seed)
    return found, win_rates(votes, plan.sources)


def elo_metric(aspect: str, panel: str) -> str:
    """Return the name of a rating among the metrics: `Elo rating (overall preference, judge:scorer)`."""
    return f"Elo rating ({aspect_of(aspect).name}, {panel})"


def win_metric(aspect: str, panel: str) -> str:
    """Return the name of a win rate among the metrics: `win rate (overall preference, people)`."""
    return f"win rate ({aspect_of(aspect).name}, {panel})"


def preference_rows(plan: EvalPlan, panel: str, dataset: str, ratings: Ratings, wins: WinRates) -> list[dict[str, Any]]:
    """Return the measurement rows of one panel of a study.

    A generator is the `model`, the tier of the prompts is the `split`. Ratings have the group `all`, win rates the group
    `against=<other>`; `n` counts votes. Intervals are of 95 %.
    """
    rows = []
    for i, source in enumerate(ratings.sources):
        interval = ratings.ratings[i], ratings.low[i], ratings.high[i]
        metric = elo_metric(plan.aspect, panel)
        rows.append(row(source, dataset, plan.tier, "all", metric, [float(x) for x in interval], int(ratings.votes[i])))
        for j, other in enumerate(ratings.sources):
            if wins.votes[i, j]:
                rates = [float(x) for x in (wins.rate[i, j], wins.low[i, j], wins.high[i, j])]
                metric = win_metric(plan.aspect, panel)
                rows.append(row(source, dataset, plan.tier, f"against={other}", metric, rates, int(wins.votes[i, j])))
    return rows
