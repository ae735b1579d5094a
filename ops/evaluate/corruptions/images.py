"""The images of an evaluation under corruptions: a sample of each split, and a shard for each corruption of it.

A piece is one corruption at one severity. It is made once, for all models, and kept as a WebDataset tar; one piece is in
memory at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ops.data.hashing import decode
from ops.data.loading import ImageSet, open_images
from ops.data.pictures import png
from ops.data.shards import REMEDY, Sample, read_shard, write_shard
from ops.errors import AmalgamError
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.apply import corrupt
from ops.evaluate.predicting import choose
from ops.evaluate.remembered import images_digest, save_array, short_digest
from ops.progress import Monitor
from ops.runtime import derive_seed

Piece = tuple[str, int]
"""A corruption and its severity."""

PLAIN: Piece = ("none", 0)
"""The images as they are."""


@dataclass(frozen=True)
class Source:
    """Images, and where to read each corruption of them."""

    images: ImageSet
    """All splits, one after the other; the table's columns `id` and `split` tell them apart."""
    pieces: list[Piece]
    load: Callable[[Piece], ImageSet]
    """Returns the images, in the same order, under one corruption at one severity."""
    kind: str
    """What mean errors are called: C-style unless the files are the published ones."""
    digests: Mapping[Piece, str]
    """What tells the images of a piece from all others: answers of models are remembered by it."""
    first: Callable[[Piece], np.ndarray]
    """Returns the first image (H, W, 3) of a piece, without a look at the others."""
    shards: Mapping[Piece, Path] = field(default_factory=dict)
    """Where each piece that was made here lies; none of published files."""

    @property
    def splits(self) -> list[str]:
        """The splits in their order."""
        return list(dict.fromkeys(self.images.table["split"]))

    @property
    def has_plain(self) -> bool:
        """Say whether the images are there as they are; published files hold corrupted ones only."""
        return PLAIN in self.pieces


def corrupt_images(config: CorruptionsConfig, real: Path, cache: Path, ledger: Path, monitor: Monitor) -> Source:
    """Choose images of every split, and write the shards of their pieces that are not in `ledger`.

    A shard's folder is named by the chosen images, seed and table, so that other models, or more corruptions and
    severities, find it again.
    """
    images = choose_images(config, real, cache)
    pieces, plain = config.pieces(), images_digest(images)
    corrupted = short_digest(plain, config.seed, config.table)
    shards = {piece: path_of(ledger / f"images--{corrupted}", piece) for piece in pieces}
    for done, (piece, path) in enumerate(shards.items(), start=1):
        if not path.exists():
            write_shard(path, _samples(images, piece, config))
        monitor.progress(done, len(pieces), "corruption")

    def load(piece: Piece) -> ImageSet:
        if piece == PLAIN:
            return images
        return decoded_once(images, piece, corrupted, ledger, lambda: read_piece(images, shards[piece]))

    def first(piece: Piece) -> np.ndarray:
        return decode(next(read_shard(shards[piece]))[1])

    digests = {PLAIN: plain} | dict.fromkeys(pieces, corrupted)
    return Source(images, [PLAIN, *pieces], load, "C-style", digests, first, shards)


def decoded_once(images: ImageSet, piece: Piece, digest: str, home: Path, read: Callable[[], np.ndarray]) -> ImageSet:
    """Return `images` with the pixels that `read` returns; kept below `home`, mapped into memory, for all models."""
    path = home / "pixels" / f"{piece_name(piece)}--{digest}.npy"
    if not path.exists():
        save_array(path, read())
    return replace(images, images=np.load(path, mmap_mode="r", allow_pickle=False))


def choose_images(config: CorruptionsConfig, real: Path, cache: Path) -> ImageSet:
    """Return the chosen images of all splits, one split after the other."""
    parts = [choose(open_images(real, split, cache), split, config.images, config.seed) for split in config.splits]
    return ImageSet(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        pd.concat([part.table for part in parts], ignore_index=True),
        parts[0].classes,
    )


def path_of(folder: Path, piece: Piece) -> Path:
    """Return where the shard of a piece lies, below an artefact or a folder of the ledger."""
    return folder / "corrupted" / piece[0] / f"{piece[1]}.tar"


def piece_name(piece: Piece) -> str:
    """Return what a piece is called in the names of files."""
    return f"{piece[0]}-{piece[1]}"


def _samples(images: ImageSet, piece: Piece, config: CorruptionsConfig) -> Iterator[Sample]:
    """Yield the corrupted images in their order; `config.batch` are corrupted at a time, which changes none of them."""
    identities, splits = images.table["id"].tolist(), images.table["split"].tolist()
    for start in range(0, len(images), config.batch):
        places = range(start, min(start + config.batch, len(images)))
        seeds = np.array([derive_seed(config.seed, "corrupt", identities[place]) for place in places], np.int64)
        pixels = corrupt(images.images[places.start : places.stop], *piece, seeds, config.table)
        for place, image in zip(places, pixels, strict=True):
            record = {
                "id": identities[place],
                "label": images.classes[images.labels[place]],
                "split": splits[place],
                "corruption": piece[0],
                "severity": piece[1],
            }
            yield f"{place:08d}", png(Image.fromarray(image)), record


def read_piece(images: ImageSet, path: Path) -> np.ndarray:
    """Return the pixels of `images` (N, H, W, 3) in the shard `path`; AmalgamError if it does not hold just these."""
    pixels = np.empty_like(images.images)
    keys = []
    for number, (key, data) in enumerate(read_shard(path)):
        keys.append(key)
        if number < len(pixels):
            pixels[number] = decode(data)
    if keys != [f"{number:08d}" for number in range(len(images))]:
        raise AmalgamError(f"the shard {path.parent.name}/{path.name} holds other images than were chosen", REMEDY)
    return pixels
