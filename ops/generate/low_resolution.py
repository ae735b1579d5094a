"""A smaller copy of a shard folder: what the base of a cascade learns from."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image

from ops.data.hashing import decode
from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.data.pictures import contact_sheet, png
from ops.data.shards import finish_shard_folder, read_shard, write_shard
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.upsampler import shrink
from ops.progress import Monitor
from ops.summary import Summary


def write_small_shards(factor: int, shards: Path, out: Path, monitor: Monitor) -> Summary:
    """Write every image of `shards`, shrunk by area exactly as `train_upsampler` does it, as a shard folder `out`.

    Splits, shards, keys and all that is known of an image stay; perceptual hashes are those of the large images. One shard
    is in memory at a time.

    Raises AmalgamError if `factor` does not divide the size of the images.
    """
    dataset = read_json(shards / "dataset.json")
    size = int(dataset["image_size"])
    if size % factor:
        raise AmalgamError(f"images of {size} pixels are no multiple of {factor}", "shrink by a divisor of the size")
    table = read_manifest(shards)
    labels = {(s, k): (i, label) for s, k, i, label in table[["shard", "key", "id", "label"]].itertuples(index=False)}
    hashes: dict[tuple[str, str], str] = {}
    names = sorted(set(table["shard"]))
    for done, name in enumerate(names, start=1):
        samples = []
        for key, data in read_shard(shards / name):
            if (name, key) in labels:
                identity, label = labels[name, key]
                small = png(Image.fromarray(shrink_pixels(decode(data)[None], factor)[0]))
                hashes[name, key] = hashlib.sha256(small).hexdigest()
                samples.append((key, small, {"id": identity, "label": label}))
        (out / name).parent.mkdir(exist_ok=True)
        write_shard(out / name, samples)
        monitor.progress(done, len(names), "shard")
    places = pd.MultiIndex.from_frame(table[["shard", "key"]])
    table["sha256"] = places.map(hashes)
    table["width"] = table["height"] = size // factor
    rows = pa.Table.from_pandas(table, schema=MANIFEST_SCHEMA, preserve_index=False)
    finish_shard_folder(out, rows, {**dataset, "image_size": size // factor})
    contact_sheet(out, "train", out / "pictures" / "train.png", title="training images, shrunk")
    return Summary({"images": len(table), "side": size // factor})


def shrink_pixels(images: np.ndarray, factor: int) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 at (N, H / factor, W / factor, 3) uint8; see `shrink`."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return (shrink(x, factor) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
