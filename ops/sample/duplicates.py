"""Which synthetic images repeat a training image: found by pixels, hash and features, confirmed pixel by pixel.

The definition is that of the stage `responsibility` (`ops.generate.responsibility.originals`): a copy has the pixels of a
training image, or is nearer to one, or to what the generator's autoencoder makes of one, than nearly all held-out images are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ops.data.loading import ImageSet, open_images, open_with_unlabelled
from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.files import replacing
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import make_spaces
from ops.generate.quality.spaces import Space
from ops.generate.responsibility.copies import sample_of
from ops.generate.responsibility.originals import Comparison, CopySearch, learn_comparison
from ops.generate.responsibility.reconstructions import codec_of, reconstruct
from ops.progress import Monitor
from ops.sample.config import CopiesConfig
from ops.sample.schema import OVERSAMPLED
from ops.sample.scoring import shard_images


@dataclass(frozen=True)
class Originals:
    """The training images, and how near to them an image may be."""

    search: CopySearch
    space: Space
    reference: str
    """The held-out split."""

    def repeated(self, images: ImageSet, cache: Path, monitor: Monitor) -> np.ndarray:
        """Return for each image the place (N,) int64 of the training image that it repeats; -1 where it repeats none."""
        sample = sample_of(images, self.space.embed(images.images, cache, monitor), "the synthetic images")
        found = self.search.find(sample)
        return np.where(found.copies, found.closest, -1)


def learn_originals(
    config: CopiesConfig,
    shards: Path,
    scorers: Mapping[str, Path],
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    diffusion: Path | None = None,
) -> Originals:
    """Return the training images of `shards`, with the thresholds that the first split of `config.reference` gives.

    `scorers` are the classifiers of the space `classifier`, `diffusion` is the folder of the generator, whose autoencoder
    makes the reconstructions; without it, or in pixel space, there are none. Raises AmalgamError if no such split exists.
    """
    present = set(read_manifest(shards)["split"])
    reference = next((name for name in config.reference if name in present), None)
    if reference is None:
        raise AmalgamError(
            f"there are no held-out images to tell copies by: {', '.join(config.reference)}",
            f"filtered_synthetic.copies.reference: name one of {', '.join(sorted(present - {'train'})) or 'the splits'}",
        )
    train = open_with_unlabelled(shards, "train", cache)  # the generator learnt from both
    held_out = open_images(shards, reference, cache)
    space = make_spaces(QualityConfig(spaces=[config.space], judges=[config.space]), train.images, scorers, {}, device)[
        config.space
    ]

    def comparison(*sets: ImageSet) -> Comparison:
        ours, theirs = (sample_of(s, space.embed(s.images, cache, monitor), "real images") for s in sets)
        return learn_comparison(config, ours, theirs)

    codec = codec_of(diffusion, train.images.shape[1], device, monitor)
    again = comparison(*(reconstruct(codec, s, cache, device, monitor) for s in (train, held_out))) if codec else None
    return Originals(CopySearch(comparison(train, held_out), again), space, reference)


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
    diffusion: Path | None = None,
) -> pd.Series:
    """Return for each row the id of the training image that it repeats (N,), None where it repeats none or may.

    `diffusion` is the folder of the generator; see `learn_originals`. One shard is in memory at a time; what was found of a
    shard is in `scratch` and is not looked for again.
    """
    found = pd.Series([None] * len(table), index=table.index, dtype=object)
    if config is None:
        return found
    originals = learn_originals(config, real, scorers, cache, device, monitor, diffusion)
    ids = np.array(originals.search.plain.train.ids, dtype=object)
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
