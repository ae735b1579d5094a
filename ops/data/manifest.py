"""The manifest: one row per image, and the split it belongs to."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.config import UNLABELLED, ManifestConfig
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary

MANIFEST_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("label", pa.string()),
        ("domain", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("split", pa.string()),
        ("name", pa.string()),
        ("caption", pa.string()),
        ("concept", pa.string()),
        ("source", pa.string()),
        ("provenance", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("weight", pa.float32()),
    ]
)
"""`shard` and `key` say where the image is; `name` is what the source calls it, `caption` what the generator is told;
`concept` groups images that splits must not tear apart; `weight` is the sampling weight (1 over the size of the
cluster of near-duplicates); `provenance` is JSON, empty for real images. Real images of the split `unlabelled`, and
synthetic ones that were made without a condition and are not labelled yet, have no label, which is null; their domain and
attributes may be null, and so may the attributes of those once they are labelled. All other images have all."""


def read_manifest(folder: Path) -> pd.DataFrame:
    """Return the manifest in `folder`, attributes as columns named `attribute:<name>`; AmalgamError if it is missing.

    Nulls of the manifest's own columns are None: images without a label are images all the same, and NaN is no JSON.
    """
    path = folder / "manifest.parquet"
    if not path.exists():
        raise AmalgamError(
            f"{folder.name} has no manifest.parquet", f"make it again: python -m pipelines run {folder.name}"
        )
    table = pq.read_table(path)
    frame = table.to_pandas(maps_as_pydicts="strict")
    for name in table.column_names:
        if table[name].null_count and pa.types.is_string(table[name].type):
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return with_attribute_columns(frame)


def with_attribute_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with a column `attribute:<name>` for each name in its `attributes`."""
    values = pd.DataFrame(frame["attributes"].tolist(), index=frame.index)
    return frame.join(values.add_prefix("attribute:"))


def build_manifest(config: ManifestConfig, raw: Path, out: Path, monitor: Monitor) -> Summary:
    """Give every image of `raw` a split and a perceptual hash.

    Images that came with a split keep it. Otherwise *concepts* are split (never single images): training, validation
    and `test` concepts in the training domains; some attribute values of each training concept become `near` (same
    drawings in unseen tones: near-duplicates of training images, by design); domains in `shift_domains` become
    `shift_seen` or `shift_unseen`, by whether training saw the concept. Of the training images with `rare_values`, all
    but `rare_keep` are `withheld`: that imbalance is arranged. Images of the split `unlabelled` stay in it, whether the others
    came with a split or not.

    Raises AmalgamError if the attribute or a shift domain does not exist.
    """
    from ops.data.hashing import perceptual_hashes

    dataset = read_json(raw / "dataset.json")
    frame = with_attribute_columns(pq.read_table(raw / "images.parquet").to_pandas(maps_as_pydicts="strict"))
    _check(config, dataset)
    labelled = frame[frame["split"] != UNLABELLED]
    split = labelled["split"] if labelled["split"].notna().all() else _split(config, labelled)
    frame["split"] = split.reindex(frame.index).fillna(UNLABELLED)
    frame["split"] = _withhold(config, frame)
    frame["phash"] = perceptual_hashes(raw, frame, monitor)
    frame = frame.assign(caption=frame["name"], source="real", provenance="", weight=np.float32(1))
    frame = frame.sort_values("id")
    with replacing(out / "manifest.parquet") as temporary:
        table = pa.Table.from_pandas(frame, schema=MANIFEST_SCHEMA, preserve_index=False)
        pq.write_table(table, temporary, compression="zstd")
    write_json(out / "dataset.json", dataset)
    counts = frame.groupby(["split", "label"]).size().unstack(fill_value=0)
    rows: list[dict[str, Any]] = [{"split": str(split), **line} for split, line in counts.to_dict("index").items()]
    by_group = frame.groupby(["split", f"attribute:{config.attribute}"]).size().unstack(fill_value=0)
    groups: list[dict[str, Any]] = [{"split": str(split), **line} for split, line in by_group.to_dict("index").items()]
    figures = {f"{split} images": int(n) for split, n in frame["split"].value_counts().sort_index().items()}
    return Summary(figures, {"images by class": rows, f"images by {config.attribute}": groups})


def _check(config: ManifestConfig, dataset: dict[str, Any]) -> None:
    if config.attribute not in dataset["attributes"]:
        known = ", ".join(dataset["attributes"])
        raise AmalgamError(
            f"the dataset has no attribute {config.attribute!r}", f"set manifest.attribute to one of: {known}"
        )
    for domain in config.shift_domains:
        if domain not in dataset["domains"]:
            known = ", ".join(dataset["domains"])
            raise AmalgamError(
                f"the dataset has no domain {domain!r}", f"set manifest.shift_domains to some of: {known}"
            )


def _share(seed: int, purpose: str, names: pd.Series) -> pd.Series:
    """Return a number in [0, 1) for each name that depends on seed, purpose and name only."""
    unique = {name: derive_seed(seed, purpose, name) / 2**63 for name in names.unique()}
    return names.map(unique)


def _split(config: ManifestConfig, frame: pd.DataFrame) -> pd.Series:
    """Return the split of each row, by concept, domain and attribute value."""
    label_of = frame.groupby("concept")["label"].agg(lambda labels: labels.mode().iloc[0])
    concepts = label_of.reset_index()
    concepts["rank"] = _share(config.seed, "concept", concepts["concept"])
    concepts["rank"] = concepts.groupby("label")["rank"].rank(method="first", pct=True)
    role = pd.Series("train", index=concepts["concept"])
    rank = concepts.set_index("concept")["rank"]
    role[rank <= config.test_share + config.validation_share] = "validation"
    role[rank <= config.test_share] = "test"
    split = frame["concept"].map(role)
    # the attribute values with the smallest draws of each training concept are held out, whole
    pair = frame["concept"] + "\x1f" + frame[f"attribute:{config.attribute}"]
    draws = pd.DataFrame({"concept": frame["concept"], "pair": pair, "draw": _share(config.seed, "near", pair)})
    order = draws.drop_duplicates("pair").set_index("pair")
    held = order.groupby("concept")["draw"].rank(method="first") <= config.near_values_per_concept
    split = split.mask((split == "train") & pair.map(held), "near")
    shifted = frame["domain"].isin(config.shift_domains)
    seen = frame["concept"].map(role) == "train"
    return split.mask(shifted & seen, "shift_seen").mask(shifted & ~seen, "shift_unseen")


def _withhold(config: ManifestConfig, frame: pd.DataFrame) -> pd.Series:
    """Return the splits with all but `rare_keep` of the rare training images withheld."""
    rare = (frame["split"] == "train") & frame[f"attribute:{config.attribute}"].isin(config.rare_values)
    return frame["split"].mask(rare & (_share(config.seed, "rare", frame["id"]) >= config.rare_keep), "withheld")
