"""What `robustness` would have written of models whose probabilities are known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.measure import measure_fairness, measure_models
from ops.evaluate.probabilities import join_probabilities, write_probabilities
from ops.files import write_json
from ops.summary import Summary


@dataclass
class Result:
    """What was measured."""

    tables: dict[str, pd.DataFrame]

    def table(self, name: str = "measurements") -> pd.DataFrame:
        return self.tables[name]

    def one(self, metric: str, group: str, split: str = "in distribution", name: str = "measurements") -> pd.Series:
        """Return the only row of a metric and group."""
        table = self.table(name)
        found = table[(table["metric"] == metric) & (table["group"] == group) & (table["split"] == split)]
        assert len(found) == 1, f"{len(found)} rows of {metric}, {group}, {split}"
        return found.iloc[0]

    def metrics(self, split: str = "in distribution", name: str = "measurements") -> set[str]:
        table = self.table(name)
        return set(table.loc[table["split"] == split, "metric"])


def images_of(labels: np.ndarray, split: str = "test", domain: object = "d", **attributes: np.ndarray) -> pd.DataFrame:
    """Return images of a split with labels and attributes (N,), as a manifest has them."""
    columns = [{name: values[n] for name, values in attributes.items()} for n in range(len(labels))]
    table = pd.DataFrame({"id": [f"{split}-{n}" for n in range(len(labels))], "label": labels, "domain": domain})
    return table.assign(split=split, attributes=columns)


def write_robustness(
    home: Path,
    images: pd.DataFrame,
    models: Mapping[tuple[str, int], np.ndarray],
    classes: list[str],
    robust: Mapping[str, Mapping[tuple[str, int], np.ndarray]] | None = None,
    unmeasured: tuple[str, ...] = (),
) -> tuple[Path, Path]:
    """Write the folders `robustness` and `real_shards`; `models` are probabilities (N, K) of all images.

    `robust` has outcomes (N,) by threat and model, nan where an image was not attacked; splits in `unmeasured` have
    probabilities only, as the one that sets temperatures.
    """
    home.mkdir(parents=True, exist_ok=True)
    pieces, tables = [], []
    for (model, seed), said in models.items():
        predicted = np.array(classes, object)[said.argmax(axis=1)]
        table = images.assign(model=model, seed=seed, predicted=predicted, confidence=said.max(axis=1))
        right = table["predicted"] == table["label"]
        table = table.assign(scaled_confidence=table["confidence"] ** 0.5, clean=right, robust=right, threat="none")
        tables.append(table)
        for threat, outcomes in (robust or {}).items():
            stands = outcomes[model, seed]
            known = ~np.isnan(stands)
            tables.append(table[known].assign(threat=threat, robust=stands[known].astype(bool)))
        for split, places in images.reset_index(drop=True).groupby("split", sort=False).groups.items():
            pieces.append(home / f"piece-{len(pieces)}.parquet")
            mine = images.iloc[places]
            with np.errstate(divide="ignore"):
                logs = np.log(said[places])
            write_probabilities(pieces[-1], f"{model}/seed-{seed}", str(split), mine["id"], mine["label"], logs)
    join_probabilities(pieces, home / "probabilities.parquet")
    table = pd.concat(tables, ignore_index=True)
    table = table[~table["split"].isin(unmeasured)]
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), home / "predictions.parquet")
    attributes = sorted({name for each in images["attributes"] for name in each})
    names = {"tone": {"0": "light", "1": "dark"}}
    write_json(
        home / "dataset.json",
        {"name": "drawn", "classes": classes, "attributes": {key: [] for key in attributes}, "attribute_names": names},
    )
    return home, home


@pytest.fixture
def known(tmp_path) -> Callable[..., tuple[FairnessConfig, Path, Path]]:
    """Return a function that writes what is known of models; it returns settings and folders."""
    runs = iter(range(1000))

    def write(
        images: pd.DataFrame,
        models: Mapping[tuple[str, int], np.ndarray] | np.ndarray,
        classes: list[str],
        robust: Mapping[str, Mapping[tuple[str, int], np.ndarray]] | None = None,
        unmeasured: tuple[str, ...] = (),
        **settings: object,
    ) -> tuple[FairnessConfig, Path, Path]:
        if isinstance(models, np.ndarray):
            models = {("classifier/real", 0): models}
        folders = write_robustness(tmp_path / f"run-{next(runs)}", images, models, classes, robust, unmeasured)
        return FairnessConfig.model_validate({"replicates": 200} | settings), *folders

    return write


@pytest.fixture
def measured(known, recorder) -> Callable[..., Result]:
    """Return a function that measures models of which it is told what `known` is told; nothing is written or drawn."""

    def measure(*arguments: object, **settings: object) -> Result:
        _, tables, lines = measure_models(*known(*arguments, **settings), recorder)
        small = pd.DataFrame(tables.small.values())
        found = {"measurements": tables.rows, "classes": tables.by_class, "differences": lines}
        return Result({name: pd.DataFrame(rows) for name, rows in found.items()} | {"left_out": small})

    return measure


@pytest.fixture
def written(known, recorder) -> Callable[..., tuple[Path, Summary]]:
    """Return a function that measures models as the stage does; it returns the folder and the summary."""

    def measure(*arguments: object, **settings: object) -> tuple[Path, Summary]:
        config, robustness, real = known(*arguments, **settings)
        out = robustness / "fairness"
        out.mkdir()
        return out, measure_fairness(config, robustness, real, out, recorder)

    return measure


@pytest.fixture
def images() -> Callable[..., pd.DataFrame]:
    return images_of
