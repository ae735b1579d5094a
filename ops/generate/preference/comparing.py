"""Generators side by side before a judge: plan, votes, ratings, pictures, in one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.evaluate.measurements import write_measurements
from ops.files import read_json
from ops.generate.preference.aspects import aspect_of
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.exports import write_votes
from ops.generate.preference.judge import Judge, judged
from ops.generate.preference.measure import panels, preference_rows, rated
from ops.generate.preference.pictures import draw_ratings, draw_win_rates
from ops.generate.preference.ratings import rank_table
from ops.generate.preference.sources import open_sources
from ops.generate.preference.study import EvalPlan, build_plan, write_plan
from ops.generate.preference.votes import Vote
from ops.progress import Monitor
from ops.summary import Summary

if TYPE_CHECKING:
    from ops.data.loading import ImageSet


def compare_generators(
    config: PreferenceConfig,
    folders: Mapping[str, Path],
    judges: Mapping[str, Sequence[Judge]],
    out: Path,
    cache: Path,
    monitor: Monitor,
    real: "ImageSet | None" = None,
    given: Mapping[str, Sequence[Vote]] | None = None,
) -> Summary:
    """Write the study of each aspect in `judges`, with the votes of its judges, into `out`.

    `folders` are the shards of each generator by name, all made from one sampling plan. `judges` are those that vote, by
    aspect (`ASPECTS`); what a judge scores should be what the aspect asks. `real` are real images, for aspects with a
    reference. `given` are votes of people by aspect (`read_votes`) on the same plans, rated in a panel of their own.

    The folder holds `studies/<aspect>.json` (the plan), `votes/<aspect>.parquet`, `measurements.parquet`, and pictures of
    each panel.

    Raises AmalgamError as `build_plan`, `judged` and `rate` do.
    """
    sources = open_sources(folders, cache)
    dataset = str(read_json(next(iter(folders.values())) / "dataset.json")["name"])
    plans: list[EvalPlan] = []
    rows: list[dict[str, Any]] = []
    tables: dict[str, list[dict[str, Any]]] = {}
    for done, (aspect, voters) in enumerate(judges.items(), start=1):
        plan = build_plan(config, sources, aspect, config.tier, real)
        plans.append(plan)
        votes = [vote for judge in voters for vote in judged(plan, sources, judge)] + list(
            (given or {}).get(aspect, ())
        )
        write_plan(plan, out / "studies" / f"{aspect}.json")
        write_votes(out / "votes" / f"{aspect}.parquet", votes)
        for panel, part in panels(votes).items():
            ratings, wins = rated(config, plan, part)
            rows += preference_rows(plan, panel, dataset, ratings, wins)
            name = f"{aspect_of(aspect).name}, {panel}"
            stem = f"{aspect}-{panel.replace(':', '-').replace(' ', '-')}"
            draw_ratings(ratings, out / "pictures" / f"{stem}-ratings.png", name)
            draw_win_rates(wins, out / "pictures" / f"{stem}-wins.png", name)
            tables[f"Elo rating ({name})"] = rank_table(ratings)
        monitor.progress(done, len(judges), "aspect")
    write_measurements(out / "measurements.parquet", rows)
    figures: dict[str, int | float | str] = {"generators": len(sources), "studies": len(plans)}
    figures |= {f"prompts ({plan.aspect})": len(plan.prompts) for plan in plans}
    figures |= {f"best {name}": str(table[0]["generator"]) for name, table in tables.items()}
    return Summary(figures, tables)
