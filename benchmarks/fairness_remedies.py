"""Why label + attribute synthesis helps as much as it does: how well each group is made, and what remedies change."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.fairness_arms import CONTROL, REMEDIES
from benchmarks.fairness_page import OURS, group_value, points
from benchmarks.results import interval, table
from ops.data.manifest import read_manifest
from ops.evaluate.fairness.names import ACCURACY, AUROC, IN, OUT, worst_group
from ops.sample.acceptance import outcomes_of
from ops.sample.gate import Gate

OVERSAMPLING = "oversampling"
TONE = "tone"


def made_by_group(gate: Gate, drawn: Path, filtered: Path, real: Path) -> pd.DataFrame:
    """Return for each tone how many training images there are, and how well its synthetic images are made.

    Columns: images; fidelity and coverage of the generator (means over classes) beside those of real images; how many of
    its cells fail the gate; shares of the planned images in which the filter's scorer sees the class, and that it keeps.
    """
    cells = [gate.grid.cell(place) for place in range(len(gate.table))]
    judged = gate.table.assign(tone=[cell[TONE] for cell in cells], fails=gate.table["reason"] != "")
    shares = ["fidelity", "fidelity_real", "coverage", "coverage_real"]
    found = judged.groupby(TONE).agg({**dict.fromkeys(shares, "mean"), "fails": "sum"})
    table = read_manifest(real)
    found["images"] = table.loc[table["split"] == "train", f"attribute:{TONE}"].value_counts()
    outcomes = outcomes_of(drawn, filtered, TONE)
    outcomes["kept"] = outcomes["reason"] == ""
    return found.join(outcomes.groupby("group")[["recognised", "kept"]].mean())


def remedies_text(rows: pd.DataFrame, differences: pd.DataFrame, groups: pd.DataFrame) -> str:
    """Return the section of the page: groups, and remedies against oversampling."""
    arms: Sequence[str] = [OVERSAMPLING, CONTROL, OURS, *REMEDIES]
    told = {OVERSAMPLING: "–", OURS: "–", CONTROL: "oversampling, with the heuristic augmentation", **REMEDIES}
    lines = [[name.replace("_", " "), told[name], *_cells(rows, differences, name)] for name in arms]
    fair = [f"{split} {_gained(differences, 'augmented_synthesis', CONTROL, split)}" for split in (OUT, IN)]
    header = ["arm", "what it changes", "out: worst-group accuracy", "less oversampling", "out: accuracy", "out: AUROC"]
    header += ["in: worst-group accuracy", "less oversampling"]
    made = [
        [
            tone,
            f"{int(line['images'])}",
            _pair(line, "fidelity"),
            _pair(line, "coverage"),
            f"{int(line['fails'])}",
            f"{line['recognised']:.2f}",
            f"{line['kept']:.2f}",
        ]
        for tone, line in groups.iterrows()
    ]
    return f"""
## How well each group is made

By the evaluation prompts: the share of images in which judges see class and tone, and coverage of the training images, means
over classes, with what real images reach in brackets; cells (classes of the tone) that the gate would not trust. By the filter:
the share of planned images in which the scorer sees the class, and the share that is kept.

{table(["tone", "training images", "fidelity", "coverage", "failing cells", "recognised", "kept"], made)}

## Remedies

Each changes one thing about label + attribute synthesis with its chosen mix; same seeds, same steps. Differences in points.

{table(header, lines)}

Augmented synthesis less augmented oversampling, worst-group accuracy: {", ".join(fair)}.
"""


def _pair(line: "pd.Series[float]", share: str) -> str:
    return f"{line[share]:.2f} ({line[f'{share}_real']:.2f})"


def _cells(rows: pd.DataFrame, differences: pd.DataFrame, name: str) -> list[str]:
    """Return values of one arm, and what its worst groups gain on those of oversampling."""
    worst = worst_group(ACCURACY)

    def value(split: str, metric: str) -> str:
        mine = rows[(rows["model"] == name) & (rows["split"] == split) & (rows["metric"] == metric)]
        mine = mine[mine["group"].str.partition("=")[0] == group_value(metric)]
        return interval(*(float(np.mean(mine[end])) for end in ("value", "low", "high")))

    def gained(split: str) -> str:
        return "–" if name == OVERSAMPLING else _gained(differences, name, OVERSAMPLING, split)

    return [value(OUT, worst), gained(OUT), value(OUT, ACCURACY), value(OUT, AUROC), value(IN, worst), gained(IN)]


def _gained(differences: pd.DataFrame, name: str, other: str, split: str) -> str:
    """Return what the worst groups of an arm gain on those of another; * where it is significant."""
    mine = differences[
        (differences["split"] == split)
        & (differences["measure"] == worst_group(ACCURACY))
        & (differences["axis"] == TONE)
    ]
    line = mine[mine["model"].isin([name, other]) & mine["than"].isin([name, other])].iloc[0]
    sign = 1 if line["model"] == name else -1
    ends = sorted((sign * line["low"], sign * line["high"]))
    return points(sign * line["effect"], *ends) + (" *" if line["p_holm"] < 0.05 else "")
