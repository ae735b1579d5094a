"""The page of `benchmarks.fairness`: every arm in one table, what is sure of the differences, and the paper's claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.results import HOLDS, interval, table
from ops.evaluate.fairness.names import ACCURACY, AUROC, EVERYONE, IN, OUT, gap, worst_group

OURS = "label_attribute_synthesis"
SOURCE = "Ktena et al. 2024, Generative models improve fairness of medical classifiers under distribution shifts"
SURPASS = "learned augmentations surpass heuristic ones (no figure)"
CLAIMS = (
    ("Label + attribute synthesis improves accuracy out of distribution.", "erm", ACCURACY, OUT),
    ("It narrows the gap between groups in distribution.", "erm", gap(ACCURACY), IN),
    ("It narrows the gap between groups out of distribution.", "erm", gap(ACCURACY), OUT),
    ("It beats oversampling on worst-group accuracy out of distribution.", "oversampling", worst_group(ACCURACY), OUT),
    ("It beats heuristic augmentation on accuracy out of distribution.", "heuristic", ACCURACY, OUT),
    ("It beats synthesis of labels alone on worst-group accuracy out of distribution.", "label_synthesis",
     worst_group(ACCURACY), OUT),
    ("It raises worst-group accuracy in distribution.", "erm", worst_group(ACCURACY), IN),
    ("It beats oversampling on worst-group accuracy in distribution.", "oversampling", worst_group(ACCURACY), IN),
)  # fmt: skip
"""What is claimed of label + attribute synthesis: against which arm, in which measure, where."""
AFTERWARDS = CLAIMS[-2:]
"""What nobody claimed before the first results."""
PAPER = (
    "+7.7 % accuracy (histopathology)",
    "gap 0.041 to 0.006 (released models, which differ in colour augmentation too)",
    "44.6 % smaller gap (chest X-ray)",
    SURPASS,
    SURPASS,
    "no comparable figure",
    "no comparable figure",
    SURPASS,
)
MEASURES = (ACCURACY, worst_group(ACCURACY), gap(ACCURACY), AUROC)


def verdicts_of(differences: pd.DataFrame) -> list[dict[str, Any]]:
    """Return whether each claim holds: by the interval over images and seeds of the difference."""
    verdicts = []
    for (claim, other, measure, split), effect in zip(CLAIMS, PAPER, strict=True):
        line = _difference(differences, other, measure, split)
        sign = -1 if measure == gap(ACCURACY) else 1
        ends = sorted((sign * line["low"], sign * line["high"]))
        verdicts.append(
            {"claim": claim, "source": SOURCE, "paper_effect": effect, "effect": sign * line["effect"]}
            | {"low": ends[0], "high": ends[1], "seeds": len(line["seeds"])}
            | {"holds": True if ends[0] > 0 else False if ends[1] < 0 else None}
        )
    return verdicts


def _difference(differences: pd.DataFrame, other: str, measure: str, split: str) -> dict[str, Any]:
    """Return the line of our arm less `other`, along the axis of tones, or of all images where it is of no group."""
    axis = group_value(measure)
    mine = differences[
        (differences["split"] == split) & (differences["measure"] == measure) & (differences["axis"] == axis)
    ]
    for first, second, sign in (("model", "than", 1), ("than", "model", -1)):
        found = mine[(mine[first] == OURS) & (mine[second] == other)]
        if len(found):
            line = found.iloc[0].to_dict()
            ends = sorted((sign * line["low"], sign * line["high"]))
            return line | {"effect": sign * line["effect"], "low": ends[0], "high": ends[1]}
    raise KeyError(f"{OURS} was not compared with {other} in {measure}, {split}, axis {axis}")


def page_of(
    rows: pd.DataFrame,
    differences: pd.DataFrame,
    verdicts: Sequence[Mapping[str, Any]],
    chosen: Mapping[str, tuple[float, float]],
    tried: Sequence[Mapping[str, Any]],
    seeds: int,
    rule: str,
) -> str:
    """Return the page."""
    claims = [
        [v["claim"], v["paper_effect"], points(v["effect"], v["low"], v["high"]), HOLDS[v["holds"]]] for v in verdicts
    ]
    mixes = []
    for line in tried:
        mine = chosen[line["kind"]] == (line["alpha"], line["multiple"])
        kind = line["kind"].removesuffix("_shards").replace("_", " + ")
        worst = f"{line['value']:.3f}"
        mixes.append([kind, f"{line['multiple']:g}", f"{line['alpha']:g}", worst, "chosen" if mine else ""])
    return f"""# Fairness: synthesis against what everybody would try first

All arms take the same number of optimizer steps on the embedded data, {seeds} seeds each; groups are the skin tones of the
drawings, of which two are rare in training. In distribution are unseen concepts in known styles (`test`) and known concepts in
unseen tones (`near`), out of distribution are unseen styles. {SOURCE}.

## The paper's claims at this scale

Differences in points (better is positive), 95 % intervals over images and seeds.

{table(["claim", "in the paper", "measured here", "verdict"], claims)}

The last {len(AFTERWARDS)} were written down when the results were known; take them as what to test next.

## Every arm

Means over seeds, with the mean of the seeds' 95 % intervals over images.

{arms_table(rows)}

## Against label + attribute synthesis

Its value less that of the arm, in points; * significant at 5 % after Holm's correction over the arms of a column. Of the gap
less is better.

{differences_table(differences)}

## How many synthetic images, and which share of a batch

Chosen by {rule}; test images had no part in it. `alpha` is the share of real images in a batch.

{table(["images of", "multiple of the training images", "alpha", "worst group", ""], mixes)}

![Accuracy against gap](fairness.png)
"""


def group_value(measure: str) -> str:
    """Return which rows have a measure: those of all images, or of the axis of tones."""
    return "tone" if measure in (worst_group(ACCURACY), gap(ACCURACY)) else EVERYONE


def shown_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that the page's tables are made of."""
    axes = rows["group"].str.partition("=")[0]
    return rows[
        rows["split"].isin([IN, OUT]) & rows["metric"].isin(MEASURES) & (axes == rows["metric"].map(group_value))
    ]


def arms_table(rows: pd.DataFrame) -> str:
    """Return every measure of every arm, in and out of distribution."""
    lines = []
    for model in dict.fromkeys(rows["model"]):
        cells: list[str] = [str(model).replace("_", " ")]
        for split in (IN, OUT):
            for measure in MEASURES:
                mine = rows[(rows["model"] == model) & (rows["split"] == split) & (rows["metric"] == measure)]
                ours = mine[mine["group"].str.partition("=")[0] == group_value(measure)]
                cells.append(interval(*(float(ours[end].mean()) for end in ("value", "low", "high"))))
        lines.append(cells)
    return table(["arm", *(f"{split}: {measure}" for split in ("in", "out") for measure in MEASURES)], lines)


def differences_table(differences: pd.DataFrame) -> str:
    """Return our arm less every other one, in and out of distribution."""
    others = sorted({*differences["model"], *differences["than"]} - {OURS})
    lines = []
    for other in others:
        cells = [other.replace("_", " ")]
        for split in (IN, OUT):
            for measure in MEASURES:
                line = _difference(differences, other, measure, split)
                star = " *" if line["p_holm"] < 0.05 else ""
                cells.append(points(line["effect"], line["low"], line["high"]) + star)
        lines.append(cells)
    return table(["arm", *(f"{split}: {measure}" for split in ("in", "out") for measure in MEASURES)], lines)


def points(value: float, low: float, high: float) -> str:
    """Return a difference and its interval in percentage points."""
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
