"""Copies of training images, one by one: three ways to suspect them, confirmed pixel by pixel."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from ops.data.hashing import SIDE, phash
from ops.data.loading import ImageSet
from ops.data.pictures import grid, png
from ops.files import replacing
from ops.generate.responsibility.neighbours import check_features

COPIES_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("space", pa.string()),
        ("id", pa.string()),
        ("training_id", pa.string()),
        ("confirmed", pa.bool_()),
        ("found", pa.list_(pa.string())),
        ("pixel_distance", pa.float32()),
        ("reconstruction_distance", pa.float32()),
        ("feature_distance", pa.float32()),
        ("phash_bits", pa.int32()),
    ]
)
"""`found` says how: `exact`, `phash`, `features`, `pixels`, `reconstruction`; `pixel_distance` is the root mean squared
difference in [0, 1] after the best shift and mirroring, `reconstruction_distance` that to what the autoencoder makes of a
training image (null without one), `feature_distance` that to the nearest training image in `space`, `phash_bits` the least
number of differing bits."""
CHUNK = 64
"""Images compared pixel by pixel at once."""
PANEL_COLUMNS = 10


@dataclass(frozen=True)
class Sample:
    """Images with all that copies are recognised by."""

    images: np.ndarray
    """(N, H, W, 3) uint8."""
    features: np.ndarray
    """(N, D) float64."""
    phash: np.ndarray
    """(N,) uint64."""
    mirrored: np.ndarray
    """(N,) uint64, the hashes of the mirrored images."""
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Nearest:
    """What is nearest to every image of a sample among the training images."""

    distances: np.ndarray
    """(N,) in features."""
    places: np.ndarray
    """(N,) of the training image that these are to."""
    exact: np.ndarray
    """(N,) bool: the pixels of a training image."""
    bits: np.ndarray
    """(N,) least number of differing bits of the perceptual hashes, mirrored or not."""
    pixels: np.ndarray
    """(N,) float32, least root mean squared difference in [0, 1] of the pixels, after the best shift and mirroring."""
    closest: np.ndarray
    """(N,) place of the training image that this is to."""


def sample_of(images: ImageSet, features: np.ndarray, name: str) -> Sample:
    """Return the images of a set with their features; AmalgamError if these are not of its images, or no numbers."""
    checked = check_features(features, len(images), name)
    hashes = np.array([int(value, 16) for value in images.table["phash"]], np.uint64)
    return Sample(images.images, checked, hashes, hashes_of(images.images[:, :, ::-1]), images.table["id"].tolist())


def hashes_of(images: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes (N,) uint64 of images (N, H, W, 3) uint8, those of manifests."""
    grey = [Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in images]
    return phash(np.stack([np.asarray(image) for image in grey]))


def pixel_digests(images: np.ndarray) -> list[str]:
    """Return the SHA-256 of the pixels of images (N, H, W, 3) uint8; unlike a file's it does not depend on the encoder."""
    return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]


def find_nearest(
    sample: Sample, train: Sample, known: dict[str, int], distances: np.ndarray, places: np.ndarray, shift: int
) -> Nearest:
    """Return what is nearest to each image of `sample`.

    Pixels are compared with those training images that could be the original: the same pixels, the nearest perceptual
    hash, as it is and mirrored, and the nearest by features.

    Args:
        sample: the images.
        train: the training images.
        known: place of each training image by the digest of its pixels.
        distances: (N, k) in features to the nearest training images.
        places: (N, k) of these.
        shift: pixels by which images are moved.
    """
    same = np.array([known.get(digest, -1) for digest in pixel_digests(sample.images)])
    bits, alike = nearest_hashes(sample.phash, train.phash)
    turned_bits, turned = nearest_hashes(sample.mirrored, train.phash)
    candidates = np.column_stack([np.where(same >= 0, same, alike), turned, places])
    pixels, which = aligned_distances(sample.images, train.images, candidates, shift)
    closest = np.take_along_axis(candidates, which[:, None], axis=1)[:, 0]
    return Nearest(distances[:, 0], places[:, 0], same >= 0, np.minimum(bits, turned_bits), pixels, closest)


def nearest_hashes(hashes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least number of differing bits (N,) between hashes (N,) uint64 and `others` (M,), and the place of it."""
    bits, places = np.empty(len(hashes), np.int64), np.empty(len(hashes), np.int64)
    for start in range(0, len(hashes), CHUNK):
        part = slice(start, start + CHUNK)
        differing = np.bitwise_count(hashes[part, None] ^ others[None, :])
        places[part], bits[part] = differing.argmin(axis=1), differing.min(axis=1)
    return bits, places


def aligned_distances(
    images: np.ndarray, originals: np.ndarray, candidates: np.ndarray, shift: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least root mean squared difference (N,) float32 to the candidates, and which candidate it is (N,).

    Images (N, H, W, 3) uint8, without `shift` pixels at their edges, are laid on originals (M, H, W, 3) in all positions,
    and on the mirrored ones; candidates (N, k) are places among the originals.
    """
    height, width = images.shape[1:3]
    rows, columns = height - 2 * shift, width - 2 * shift
    least, which = np.empty(len(images), np.float32), np.empty(len(images), np.int64)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        inner = torch.from_numpy(images[part, None, shift : shift + rows, shift : shift + columns].astype(np.float32))
        laid = torch.from_numpy(originals[candidates[part]].astype(np.float32))
        best = torch.full(laid.shape[:2], torch.inf)
        for turned in (laid, laid.flip(3)):
            for y in range(2 * shift + 1):
                for x in range(2 * shift + 1):
                    difference = turned[:, :, y : y + rows, x : x + columns] - inner
                    best = torch.minimum(best, difference.square_().sum(dim=(2, 3, 4)))
        which[part] = best.argmin(dim=1)
        least[part] = (best.amin(dim=1) / (rows * columns * 3)).sqrt() / 255
    return least, which


def write_copies(path: Path, copies: Sequence[pd.DataFrame]) -> None:
    """Write tables with the columns of `COPIES_SCHEMA` as one Parquet file."""
    tables = [pa.Table.from_pandas(each, schema=COPIES_SCHEMA, preserve_index=False) for each in copies]
    with replacing(path) as temporary:
        pq.write_table(pa.concat_tables([COPIES_SCHEMA.empty_table(), *tables]), temporary, compression="zstd")


def draw_closest(images: np.ndarray, originals: np.ndarray, near: Nearest, count: int, path: Path) -> None:
    """Save a picture of the `count` pairs that are closest in pixels: generated image above training image, closest first."""
    chosen = np.argsort(near.pixels, kind="stable")[:count]
    side = images.shape[1:]
    lines = []
    for start in range(0, len(chosen), PANEL_COLUMNS):
        part = chosen[start : start + PANEL_COLUMNS]
        blank = np.full((PANEL_COLUMNS - len(part), *side), 255, np.uint8)
        lines += [images[part], blank, originals[near.closest[part]], blank]
    picture: Image.Image = grid(np.concatenate(lines), PANEL_COLUMNS)
    with replacing(path) as temporary:
        temporary.write_bytes(png(picture))
