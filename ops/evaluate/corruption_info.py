"""Figures under corruptions for RobustBench's model-info."""

import pandas as pd

from ops.evaluate.corruptions.published import SPLIT
from ops.evaluate.corruptions.rows import MEAN_ERROR
from ops.evaluate.corruptions.score import ALEXNET_NAME
from ops.evaluate.corruptions.tables import CORRUPTIONS, SEVERITIES
from ops.evaluate.measurements import split_name
from ops.evaluate.model_info import ModelInfo

WHOLE = {f"accuracy under {name} (severity {severity})" for name in CORRUPTIONS for severity in SEVERITIES}
"""What must have been measured: a mean over fewer is another figure."""


def with_corruptions(info: ModelInfo, model: str, rows: pd.DataFrame, split: str = "test") -> ModelInfo:
    """Return `info` with what was measured of a model under corruptions, or as it is if that is not all of the benchmark.

    `corruptions_acc` is the mean accuracy under the 15 corruptions at the 5 severities; `corruptions_mce`, in percent, is
    there where errors were divided by AlexNet's. The footnote says whether the images are published files or C-style.

    Args:
        info: of the model.
        model: its name among the measurements (`classifier/real/seed-0`).
        rows: the measurements of `corruptions`.
        split: which of its splits; published files have one of their own, which comes first.
    """
    name, seed = split_name(model)
    mine = rows[(rows["model"] == name) & (rows["seed"] == seed) & (rows["group"] == "all")]
    mine = mine[mine["split"] == (SPLIT if (mine["split"] == SPLIT).any() else split)]
    found = mine.set_index("metric")["value"]
    if not set(found.index) >= WHOLE:
        return info
    (kind,) = (m.removeprefix(f"{MEAN_ERROR} (").removesuffix(")") for m in found.index if _is_mean_error(m))
    made = "C-style, made here and no published files" if kind == "C-style" else kind
    note = f"Corruptions are {made}, of {mine['n'].min()} images."
    fields = {"corruptions_acc": f"{100 * found[sorted(WHOLE)].mean():.2f}"}
    relative = f"{MEAN_ERROR} ({kind}, relative to {ALEXNET_NAME})"
    if relative in found.index:
        fields["corruptions_mce"] = f"{100 * found[relative]:.2f}"
    footnote = " ".join(filter(None, (info.footnote, note)))
    return ModelInfo.model_validate(info.model_dump(exclude_unset=True) | fields | {"footnote": footnote})


def _is_mean_error(metric: str) -> bool:
    """Say whether a metric is the plain mean of errors."""
    return metric.startswith(f"{MEAN_ERROR} (") and "relative to" not in metric
