"""The plan of a study: one question, some prompts, and which two generators meet on which prompt.

In the Imagen 3 report a study is 2,500 ratings of one pair of generators under one question on one set of prompts. A
plan here holds all pairs of one question and one set, because their votes are rated together.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.preference.aspects import aspect_of
from ops.generate.preference.config import Apart, PreferenceConfig, Tier
from ops.generate.preference.sources import VERSUS, prompts_of, references_of
from ops.generate.preference.tiers import pool, refuse_used, wording
from ops.runtime import derive_seed

if TYPE_CHECKING:
    import pandas as pd

    from ops.data.loading import ImageSet

Side = Literal["AB", "BA"]
"""From left to right: A is the pair's first generator, B its second."""


@dataclass(frozen=True)
class Prompt:
    """One row of the sampling plan."""

    prompt_id: str
    """The key of its images."""
    caption: str
    concept: str
    reference: str
    """Id of a real image of the same content; empty unless the aspect shows one."""


@dataclass(frozen=True)
class Comparison:
    """Two generators on one prompt."""

    pair: tuple[str, str]
    prompt_id: str
    wanted: int
    """Ratings that the plan asks for."""

    @property
    def name(self) -> tuple[str, str]:
        """The pair as in votes (`a vs b`), and the prompt."""
        return VERSUS.join(self.pair), self.prompt_id


@dataclass(frozen=True)
class EvalPlan:
    """What is compared with what; equal plans over equal images have equal ids."""

    study_id: str
    aspect: str
    tier: Tier
    apart: Apart
    seed: int
    sources: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    comparisons: tuple[Comparison, ...]


def build_plan(
    config: PreferenceConfig,
    sources: "Mapping[str, ImageSet]",
    aspect: str,
    tier: Tier,
    real: "ImageSet | None" = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    earlier: Sequence[EvalPlan] = (),
) -> EvalPlan:
    """Return the plan of a study.

    Prompts are drawn from the tier's pool, no wording twice. Each pair (all pairs, if not given) gets `config.ratings`
    ratings, spread evenly: the prompts of a pair, and prompts over all pairs, differ by at most one rating. An aspect with
    references draws only prompts of which `real` has an image.

    Raises AmalgamError for an unknown aspect or generator, for sources of different plans, for too few prompts, for a
    missing `real`, and where a plan of the other tier in `earlier` used one of the prompts (`refuse_used`).
    """
    table = pool(prompts_of(sources), tier, config.apart, config.assurance_share)
    references: dict[str, str] = {}
    if aspect_of(aspect).shows_reference:
        if real is None:
            raise AmalgamError(
                f"the aspect {aspect} needs real images", "give the real shards, or choose another aspect"
            )
        references = references_of(table, real.table)
        table = table[table["key"].isin(set(references))]
    prompts = _draw(table, config, references)
    if len(prompts) < 2:
        raise AmalgamError(
            f"{len(prompts)} prompts are left for {aspect} ({tier})", "make more images, or change assurance_share"
        )
    comparisons = _spread(_checked(pairs, sources), [p.prompt_id for p in prompts], config.ratings)
    plan = EvalPlan("", aspect, tier, config.apart, config.seed, tuple(sorted(sources)), prompts, comparisons)
    plan = replace(plan, study_id=_identity(plan, sources, real))
    refuse_used(plan, earlier)
    return plan


def _draw(table: "pd.DataFrame", config: PreferenceConfig, references: Mapping[str, str]) -> tuple[Prompt, ...]:
    """Return the prompts of a study, in an order that depends on the seed and their keys only."""
    drawn = table.assign(draw=[derive_seed(config.seed, "prompt", key) for key in table["key"]]).sort_values("draw")
    drawn = drawn[~drawn["caption"].map(wording).duplicated()].head(config.prompts)
    return tuple(
        Prompt(key, caption, concept, references.get(key, ""))
        for key, caption, concept in zip(drawn["key"], drawn["caption"], drawn["concept"], strict=True)
    )


def _checked(pairs: Sequence[tuple[str, str]] | None, sources: "Mapping[str, ImageSet]") -> list[tuple[str, str]]:
    """Return pairs in order, each with its names in order; raises AmalgamError for names that are no two sources."""
    if pairs is None:
        return list(combinations(sorted(sources), 2))
    for pair in pairs:
        if len(set(pair)) != 2 or not set(pair) <= set(sources):
            raise AmalgamError(f"{VERSUS.join(pair)} is no pair of two sources", f"sources: {', '.join(sources)}")
    return sorted({(min(pair), max(pair)) for pair in pairs})


def _spread(pairs: Sequence[tuple[str, str]], prompts: Sequence[str], ratings: int) -> tuple[Comparison, ...]:
    """Deal the prompts out to the pairs, round after round, as one deals cards: each pair takes the next `ratings`."""
    found = []
    for number, pair in enumerate(pairs):
        dealt = np.bincount((number * ratings + np.arange(ratings)) % len(prompts), minlength=len(prompts))
        found += [Comparison(pair, p, int(n)) for p, n in zip(prompts, dealt, strict=True) if n]
    return tuple(found)


def _identity(plan: EvalPlan, sources: "Mapping[str, ImageSet]", real: "ImageSet | None") -> str:
    """Return a name that changes with the plan and with the bytes of the images that it shows."""
    keys = {p.prompt_id for p in plan.prompts}
    shown = {
        name: dict(zip(part["key"], part["sha256"], strict=True))
        for name, images in sources.items()
        for part in [images.table[images.table["key"].isin(keys)]]
    }
    wanted = {p.reference for p in plan.prompts} - {""}
    if wanted and real is not None:
        part = real.table[real.table["id"].isin(wanted)]
        shown["reference"] = dict(zip(part["id"], part["sha256"], strict=True))
    text = json.dumps([asdict(replace(plan, study_id="")), shown], sort_keys=True)
    return f"{plan.aspect}-{plan.tier}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def check_images(plan: EvalPlan, sources: "Mapping[str, ImageSet]", real: "ImageSet | None" = None) -> None:
    """Raise AmalgamError unless these are the images that the plan was made for."""
    if set(sources) != set(plan.sources) or _identity(plan, sources, real) != plan.study_id:
        raise AmalgamError(
            f"the images are not those of study {plan.study_id}", "bring them back (dvc checkout), or plan a new study"
        )


def sides(plan: EvalPlan, rater_id: str) -> list[Side]:
    """Return how each comparison stands on this rater's screen, in the order of `plan.comparisons`.

    Drawn for each rater anew; over the comparisons of a pair both sides occur equally often (give or take one).
    """
    found: list[Side] = ["AB"] * len(plan.comparisons)
    places: dict[tuple[str, str], list[int]] = {}
    for number, comparison in enumerate(plan.comparisons):
        places.setdefault(comparison.pair, []).append(number)
    for pair, numbers in places.items():
        rng = np.random.default_rng(derive_seed(plan.seed, plan.study_id, "side", rater_id, *pair))
        draws = (rng.permutation(len(numbers)) + rng.integers(2)) % 2
        for number, swapped in zip(numbers, draws, strict=True):
            found[number] = "BA" if swapped else "AB"
    return found


def write_plan(plan: EvalPlan, path: Path) -> None:
    """Write a plan as JSON."""
    write_json(path, asdict(plan))


def read_plan(path: Path) -> EvalPlan:
    """Return the plan in a JSON file; raises AmalgamError if it is none."""
    try:
        tree = read_json(path)
        prompts = tuple(Prompt(**p) for p in tree.pop("prompts"))
        comparisons = tuple(Comparison(tuple(c.pop("pair")), **c) for c in tree.pop("comparisons"))
        return EvalPlan(prompts=prompts, comparisons=comparisons, sources=tuple(tree.pop("sources")), **tree)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise AmalgamError(f"{path.name} is no plan of a study: {error}", "plan the study again") from None
