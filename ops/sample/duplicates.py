"""Which synthetic images repeat a training image: found by pixels, hash and features, confirmed pixel by pixel.

The same definition as that of the stage `responsibility` (`ops.generate.responsibility.memorisation`): a copy has the pixels of
a training image, or differs from one, after the best shift and mirroring, by less than nearly all held-out images do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ops.data.loading import ImageSet, open_images
from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.files import replacing
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import make_spaces
from ops.generate.quality.spaces import Space
from ops.generate.responsibility.copies import Nearest, Sample, find_nearest, pixel_digests, sample_of
from ops.generate.responsibility.neighbours import nearest
from ops.progress import Monitor
from ops.sample.config import CopiesConfig
from ops.sample.schema import OVERSAMPLED
from ops.sample.scoring import shard_images


@dataclass(frozen=True)
class Originals:
    """The training images, and how near to them an image may be."""

    config: CopiesConfig
    train: Sample
    known: Mapping[str, int]
    """Place of each training image by the digest of its pixels."""
    space: Space
    threshold: float
    """Pixel distance (root mean square, in [0, 1]) that few held-out images are within."""
    reference: str
    """The held-out split."""

    def repeated(self, images: ImageSet, cache: Path, monitor: Monitor) -> np.ndarray:
        """Return for each image the place (N,) int64 of the training image that it repeats; -1 where it repeats none."""
        sample = sample_of(images, self.space.embed(images.images, cache, monitor), "the synthetic images")
        near = nearest_originals(self.config, sample, self.train, self.known)
        return np.where(near.exact | (near.pixels <= self.threshold), near.closest, -1)


def learn_originals(
    config: CopiesConfig,
    shards: Path,
    scorers: Mapping[str, Path],
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Originals:
    """Return the training images of `shards`, with the threshold that the first split of `config.reference` gives.

    `scorers` are the classifiers of the space `classifier`. Raises AmalgamError if no such split exists.
    """
    present = set(read_manifest(shards)["split"])
    reference = next((name for name in config.reference if name in present), None)
    if reference is None:
        raise AmalgamError(
            f"there are no held-out images to tell copies by: {', '.join(config.reference)}",
            f"filtered_synthetic.copies.reference: name one of {', '.join(sorted(present - {'train'})) or 'the splits'}",
        )
    train, held_out = (open_images(shards, name, cache) for name in ("train", reference))
    space = make_spaces(QualityConfig(spaces=[config.space], judges=[config.space]), train.images, scorers, {}, device)[
        config.space
    ]
    ours, theirs = (
        sample_of(images, space.embed(images.images, cache, monitor), name)
        for images, name in ((train, "train"), (held_out, reference))
    )
    known = {digest: place for place, digest in enumerate(pixel_digests(ours.images))}
    near = nearest_originals(config, theirs, ours, known)
    threshold = float(np.percentile(near.pixels, config.percentile, method="lower"))
    return Originals(config, ours, known, space, threshold, reference)


def nearest_originals(config: CopiesConfig, sample: Sample, train: Sample, known: Mapping[str, int]) -> Nearest:
    """Return what is nearest to each image of `sample` among the training images."""
    distances, places = nearest(sample.features, train.features, config.neighbours)
    return find_nearest(sample, train, dict(known), distances, places, config.shift)


def find_copies(
    config: CopiesConfig | None,
    real: Path,
    synthetic: Path,
    table: pd.DataFrame,
    scorers: Mapping[str, Path],
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> pd.Series:
    """Return for each row the id of the training image that it repeats (N,), None where it repeats none or may.

    One shard is in memory at a time; what was found of a shard is in `scratch` and is not looked for again.
    """
    found = pd.Series([None] * len(table), index=table.index, dtype=object)
    if config is None:
        return found
    originals = learn_originals(config, real, scorers, cache, device, monitor)
    ids = np.array(originals.train.ids, dtype=object)
    shards = list(table[table["source"] != OVERSAMPLED].groupby("shard", sort=True))
    for done, (shard, rows) in enumerate(shards, start=1):
        ledger = scratch / f"copies-{str(shard).replace('/', '-')}.npy"
        if not ledger.exists():
            pixels = shard_images(synthetic, str(shard), rows["key"])
            images = ImageSet(pixels, np.zeros(len(rows), np.int64), rows.reset_index(drop=True), ())
            with replacing(ledger) as temporary, temporary.open("wb") as file:
                np.save(file, originals.repeated(images, cache, monitor))
        places = np.load(ledger)
        found[rows.index[places >= 0]] = ids[places[places >= 0]]
        monitor.progress(done, len(shards), "shard searched for copies")
    return found
