"""Development and assurance: two sets of prompts that never meet.

Generators are improved by what development studies show; an assurance study says whether that held on prompts that
nobody looked at. As in the Imagen 3 report, where a separate team keeps the sets of the second tier.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ops.errors import AmalgamError
from ops.generate.preference.config import Apart, Tier
from ops.runtime import derive_seed

if TYPE_CHECKING:
    from ops.generate.preference.study import EvalPlan


def wording(caption: str) -> str:
    """Return a caption without what does not make another prompt: case and spaces."""
    return " ".join(caption.casefold().split())


def pool(prompts: pd.DataFrame, tier: Tier, apart: Apart, assurance_share: float) -> pd.DataFrame:
    """Return the rows of `prompts` that belong to a tier.

    A concept (or a caption, if only captions are held apart) belongs to the tier that its name draws, whatever the seed
    of a study: another seed must not bring prompts of assurance into development. A caption that development has is never
    one of assurance.

    Raises AmalgamError if no row is left.
    """
    groups = prompts["concept"] if apart == "concept" else prompts["caption"].map(wording)
    drawn = {name: derive_seed("tier", name) / 2**63 < assurance_share for name in groups.unique()}
    kept_back = groups.map(drawn).to_numpy(bool)
    words = prompts["caption"].map(wording)
    seen = words.isin(set(words[~kept_back])).to_numpy()
    chosen = prompts[~kept_back if tier == "development" else kept_back & ~seen]
    if chosen.empty:
        raise AmalgamError(
            f"no prompt is left for the tier {tier}",
            "change assurance_share; or set apart: caption, where every image is a concept of its own",
        )
    return chosen


def refuse_used(plan: "EvalPlan", earlier: Sequence["EvalPlan"]) -> None:
    """Raise AmalgamError if a plan of the other tier among `earlier` has a prompt (or a concept) of `plan`.

    It works both ways: prompts of assurance that a development study shows are as lost as the reverse. Concepts count if
    either plan holds them apart.
    """
    for other in earlier:
        if other.tier == plan.tier:
            continue
        shared = {wording(p.caption) for p in plan.prompts} & {wording(p.caption) for p in other.prompts}
        what = "prompts"
        if not shared and "concept" in (plan.apart, other.apart):
            shared = {p.concept for p in plan.prompts} & {p.concept for p in other.prompts}
            what = "concepts"
        if shared:
            raise AmalgamError(
                f"this {plan.tier} study has {len(shared)} {what} of the {other.tier} study {other.study_id}, such as "
                f"{min(shared)!r}",
                "keep assurance_share and apart as they were, or take other prompts: those of one tier are spent for the "
                "other",
            )
