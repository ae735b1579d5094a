"""Manifests without images, of any table of labels, domains and attributes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.data.manifest import MANIFEST_SCHEMA
from ops.files import write_json
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture
from ops.sample.cells import count_cells, grid_of

SMALL = Architecture(widths=[4, 8], blocks=[1, 1])
FIXED = ("label", "domain", "split", "weight")


def attributes_of(frame: pd.DataFrame, names: list[str]) -> pa.MapArray:
    """Return columns as maps; a missing value leaves its key out."""
    values = frame[names].to_numpy(object)
    told = ~pd.isna(values)
    offsets = np.append(0, told.sum(axis=1).cumsum())
    keys = np.broadcast_to(np.array(names, object), values.shape)[told]
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys, pa.string()), pa.array(values[told], pa.string())
    )


def write_manifest(folder: Path, frame: pd.DataFrame, dataset: dict | None = None, group: int = 50_000) -> Path:
    """Write `manifest.parquet` and `dataset.json` for rows with label, domain and attributes; name and concept follow."""
    frame = pd.DataFrame(
        {"split": "train", "weight": 1.0, "domain": "paper", "label": "disc"}, index=frame.index
    ).assign(**frame)
    names = [column for column in frame if column not in FIXED]
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "name": "shapes",
        "classes": sorted(frame["label"].unique()),
        "domains": sorted(frame["domain"].unique()),
        "attributes": {name: sorted(frame[name].dropna().unique()) for name in names},
        "groups": names[0] if names else "label",
        "image_size": 32,
        "notes": {},
    }
    write_json(folder / "dataset.json", {**found, **(dataset or {})})
    text = {name: pa.array(np.full(len(frame), ""), pa.string()) for name in MANIFEST_SCHEMA.names}
    identity = pa.array(("i" + pd.Series(np.arange(len(frame))).astype(str)).to_numpy(), pa.string())
    columns = {
        **text,
        "id": identity,
        "name": identity,
        "concept": identity,
        **{name: pa.array(frame[name].to_numpy(), pa.string()) for name in ("label", "domain", "split")},
        "attributes": attributes_of(frame, names),
        "weight": pa.array(frame["weight"].to_numpy(np.float32)),
        **{name: pa.array(np.full(len(frame), 32, np.int32)) for name in ("width", "height")},
    }
    pq.write_table(pa.table(columns, schema=MANIFEST_SCHEMA), folder / "manifest.parquet", row_group_size=group)
    return folder


@pytest.fixture
def manifest_of(tmp_path):
    """Return a function that writes the manifest of a frame."""

    def make(frame: pd.DataFrame, name: str = "real_shards", **changes) -> Path:
        return write_manifest(tmp_path / name, frame, changes.pop("dataset", None), **changes)

    return make


@pytest.fixture
def table_of(manifest_of):
    """Return a function that counts cells of {(label, value, ...): images}, with factors named in `factors`."""

    def make(counts: dict, factors: list[str], **changes):
        from ops.files import read_json
        from ops.progress import Silent

        rows = [cell for cell, images in counts.items() for _ in range(images)]
        folder = manifest_of(pd.DataFrame(rows, columns=["label", *factors]), **changes)
        dataset = read_json(folder / "dataset.json")
        return count_cells(folder / "manifest.parquet", dataset, grid_of(factors, dataset), Silent())

    return make


@pytest.fixture
def people() -> pd.DataFrame:
    """300,000 rows in two splits, unevenly spread; the combination (disc, slate, 2) never occurs, some weights are 0."""
    rng = np.random.default_rng(0)
    count = 300_000
    frame = pd.DataFrame(
        {
            "label": rng.choice(["bar", "disc", "ring"], count, p=[0.6, 0.3, 0.1]),
            "domain": rng.choice(["paper", "slate"], count, p=[0.8, 0.2]),
            "sex": rng.choice(["f", "m"], count),
            "tone": rng.choice(["0", "1", "2"], count, p=[0.7, 0.25, 0.05]),
            "split": rng.choice(["test", "train"], count, p=[0.3, 0.7]),
            "weight": rng.choice([0.0, 0.25, 1.0], count, p=[0.1, 0.3, 0.6]),
        }
    )
    never = (frame["label"] == "disc") & (frame["domain"] == "slate") & (frame["tone"] == "2")
    return frame[~never].sort_values("split", kind="stable").reset_index(drop=True)


def save_untrained_scorer(folder: Path) -> Path:
    """Write an untrained classifier of bars and discs to `folder`, and return it."""
    card = ModelCard(
        name="scorer", architecture=SMALL, classes=["bar", "disc"], image_size=32, mean=[0.5] * 3, std=[0.25] * 3,
        seed=0, ancestor="",
    )  # fmt: skip
    save_classifier(folder, build_classifier(SMALL, 2, [0.5] * 3, [0.25] * 3, 0), card)
    return folder
