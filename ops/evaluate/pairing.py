"""Outcomes of two models side by side: the same images, the same seeds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.evaluate.measurements import NO_SEED


def read_outcomes(robustness: Path) -> pd.DataFrame:
    """Return the rows of `predictions.parquet`, but only what says which image survived what."""
    columns = ["model", "seed", "split", "threat", "id", "robust"]
    return pq.read_table(robustness / "predictions.parquet", columns=columns).to_pandas()


def outcomes_by_image(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return for each model its outcomes: float64 0 or 1, a line for each image (split, id), a column for each seed.

    An image that is in `table` under several threats has survived if it survived all.
    """
    found = table.groupby(["model", "seed", "split", "id"], observed=True)["robust"].min().astype(np.float64)
    return {str(model): part.droplevel("model").unstack("seed") for model, part in found.groupby("model")}


def paired(outcomes: dict[str, pd.DataFrame], model: str, than: str) -> tuple[np.ndarray, list[int]]:
    """Return outcomes (images, 2, seeds) of both models, and the seeds.

    A model without a seed (a download) is compared with every seed of the other. Raises AmalgamError if the
    models were not evaluated on the same images and seeds, or on fewer than two images.
    """
    first, second = outcomes[model], outcomes[than]
    if list(first.columns) == [NO_SEED]:
        first = pd.DataFrame(dict.fromkeys(second.columns, first.iloc[:, 0]))
    elif list(second.columns) == [NO_SEED]:
        second = pd.DataFrame(dict.fromkeys(first.columns, second.iloc[:, 0]))
    same = first.index.equals(second.index) and list(first.columns) == list(second.columns)
    if not same or first.isna().any(axis=None) or second.isna().any(axis=None):
        raise AmalgamError(
            f"{model} and {than} were not evaluated on the same images and seeds", "run robustness again"
        )
    if len(first) < 2:
        where = ", ".join(sorted(set(first.index.get_level_values("split"))))
        raise AmalgamError(
            f"{model} and {than} cannot be compared on {len(first)} image of {where}", "raise robustness.images"
        )
    values = np.stack([first.to_numpy(np.float64), second.to_numpy(np.float64)], axis=1)
    return values, [int(seed) for seed in first.columns]
