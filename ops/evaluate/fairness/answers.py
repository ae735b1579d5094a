"""What each model says of the evaluated images, in one order for all models."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.evaluate.measurements import NO_THREAT, title
from ops.evaluate.probabilities import read_probabilities

COLUMNS = ["model", "seed", "split", "threat", "id", "predicted", "confidence", "scaled_confidence", "robust"]


@dataclass(frozen=True)
class Answers:
    """What one model says of N images."""

    model: str
    seed: int
    predicted: np.ndarray
    """(N,) int64: the class."""
    confidence: np.ndarray
    """(N,) float64 in [0, 1], of the predicted class."""
    scaled_confidence: np.ndarray
    """(N,) float64 in [0, 1], at the model's temperature."""
    right: np.ndarray
    """(N,) bool."""
    robust: Mapping[str, np.ndarray]
    """By threat (N,) float64: 1 if the image stands, 0 if it falls, nan where it was not attacked."""

    def folder(self) -> str:
        """Return the model's name with its seed, as `measurements.row` reads it."""
        return f"{self.model}/seed-{self.seed}"


def read_answers(robustness: Path, images: pd.DataFrame, classes: list[str]) -> Iterator[Answers]:
    """Yield what every model and seed says of `images` (`split, id`, N rows), in that order.

    Raises AmalgamError for a model that met other images.
    """
    table = pq.read_table(robustness / "predictions.parquet", columns=COLUMNS).to_pandas()
    wanted = pd.MultiIndex.from_frame(images[["split", "id"]])
    for (model, seed), mine in table.groupby(["model", "seed"], sort=True):
        by_threat = {str(t): part.set_index(["split", "id"]) for t, part in mine.groupby("threat", sort=False)}
        plain = by_threat.pop(NO_THREAT)
        if len(plain) != len(wanted) or not wanted.isin(plain.index).all():
            raise AmalgamError(
                f"{title(str(model), int(seed))}, was not evaluated on the same images as the other models",
                "run robustness again",
            )
        plain = plain.reindex(wanted)
        yield Answers(
            model=str(model),
            seed=int(seed),
            predicted=pd.Categorical(plain["predicted"], classes).codes.astype(np.int64),
            confidence=plain["confidence"].to_numpy(np.float64),
            scaled_confidence=plain["scaled_confidence"].to_numpy(np.float64),
            right=plain["robust"].to_numpy(bool),
            robust={t: part["robust"].reindex(wanted).to_numpy(np.float64) for t, part in by_threat.items()},
        )


def said_of(robustness: Path, answers: Answers, images: pd.DataFrame) -> np.ndarray:
    """Return the model's log-probabilities (n, K) float32 of `images` (n rows of `split, id`).

    Raises AmalgamError where there are none.
    """
    parts = []
    for split, mine in images.groupby("split", sort=False):
        ids, _, values = read_probabilities(robustness, answers.model, answers.seed, str(split))
        found = pd.Index(ids).get_indexer(mine["id"])
        if (found < 0).any():
            raise AmalgamError(
                f"there are no probabilities of {title(answers.model, answers.seed)}, of some images of {split}",
                "run robustness again",
            )
        parts.append(pd.DataFrame(values[found], index=mine.index))
    return pd.concat(parts).loc[images.index].to_numpy()
