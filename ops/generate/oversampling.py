"""Training images that a plan repeats, where it does not trust the generator with their cell."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from ops.data.shards import read_images
from ops.errors import AmalgamError
from ops.generate.source import Row
from ops.sample.schema import OVERSAMPLE


def is_copy(row: Row) -> bool:
    """Say whether a row of a plan asks for a training image as it is."""
    return row.get("method") == OVERSAMPLE


@dataclass(frozen=True)
class Originals:
    """Where the training images are that a plan repeats."""

    shards: Path
    places: Mapping[str, tuple[str, str]]
    """Shard and key by id."""

    def read(self, rows: Sequence[Row]) -> list[bytes]:
        """Return the PNG bytes of the image of each row; every shard of the rows is read once."""
        places = [self.places[row["copy_of"]] for row in rows]
        wanted: dict[str, set[str]] = {}
        for shard, key in places:
            wanted.setdefault(shard, set()).add(key)
        found = {(shard, key): data for shard, keys in wanted.items() for key, data in self._images(shard, keys)}
        return [found[place] for place in places]

    def _images(self, shard: str, keys: set[str]) -> Iterable[tuple[str, bytes]]:
        images = read_images(self.shards, shard, keys)
        if missing := keys - images.keys():
            raise AmalgamError(
                f"{len(missing)} images of the manifest are not in the shard {shard}",
                "dvc checkout brings it back; or make it again: python -m pipelines run real_shards",
            )
        return images.items()


def find_originals(rows: Sequence[Row], shards: Path | None) -> Originals | None:
    """Return where the training images are that `rows` repeat; None where there are none.

    Of the manifest only what is needed is kept. Raises AmalgamError without `shards`, and for images that are not in their
    training split.
    """
    ids = sorted({row["copy_of"] for row in rows if is_copy(row)})
    if not ids:
        return None
    if shards is None:
        raise AmalgamError(
            f"the plan repeats {len(ids)} training images, but there is no folder of real images to take them from",
            "pass the real shards, or plan without a gate: sampling_plan.gate: null",
        )
    mine = (ds.field("split") == "train") & ds.field("id").isin(pa.array(ids, pa.string()))
    table = ds.dataset(shards / "manifest.parquet", format="parquet").to_table(["id", "shard", "key"], filter=mine)
    places = {
        identity: (shard, key) for identity, shard, key in zip(*(c.to_pylist() for c in table.columns), strict=True)
    }
    if missing := [identity for identity in ids if identity not in places]:
        raise AmalgamError(
            f"the plan repeats {len(missing)} images that are not in the training split of {shards.name}, first {missing[0]}",
            "plan again: python -m pipelines run sampling_plan",
        )
    return Originals(shards, places)
