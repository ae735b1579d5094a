"""Perceptual hashes and near-duplicates, for whole blocks of images at a time."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ops.data.shards import read_shard
from ops.progress import Monitor

SIDE = 32
"""Side of the image that is transformed: 4 times the 8x8 low frequencies that are kept, as in ImageHash."""


def phash(grey: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes of grey images (N, 32, 32) uint8 as (N,) uint64.

    The 8x8 lowest frequencies of the discrete cosine transform, one bit each: above the median or not. Bits are those
    of `imagehash.phash`, first bit highest.
    """
    spectrum = dct(dct(grey.astype(np.float64), axis=1), axis=2)[:, :8, :8].reshape(len(grey), 64)
    bits = spectrum > np.median(spectrum, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def decode(data: bytes) -> np.ndarray:
    """Return PNG bytes as (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decode_grey(data: bytes) -> np.ndarray:
    """Return PNG bytes as (32, 32) uint8 grey, the input of `phash`."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def perceptual_hashes(raw: Path, frame: pd.DataFrame, monitor: Monitor) -> pd.Series:
    """Return the hash of each row's image as 16 hexadecimal digits; one shard is in memory at a time."""
    place = {(s, k): i for s, k, i in zip(frame["shard"], frame["key"], frame.index, strict=True)}
    found: dict[object, str] = {}
    shards = sorted(frame["shard"].unique())
    for done, shard in enumerate(shards, start=1):
        rows, images = [], []
        for key, data in read_shard(raw / shard):
            if (shard, key) in place:
                rows.append(place[shard, key])
                images.append(decode_grey(data))
        found |= {row: f"{value:016x}" for row, value in zip(rows, phash(np.stack(images)), strict=True)}
        monitor.progress(done, len(shards), "shard")
    return pd.Series(found).reindex(frame.index)


def similar_pairs(hashes: np.ndarray, distance: int) -> np.ndarray:
    """Return all pairs (M, 2) of indices whose hashes (N,) uint64 differ in at most `distance` bits.

    Multi-index hashing: of distance + 1 bands of the 64 bits, similar hashes agree in at least one, so that only images
    that share a band are compared (Norouzi et al. 2012); memory stays with the size of the buckets.
    """
    edges = np.linspace(0, 64, distance + 2).astype(np.uint64)
    pairs = []
    for low, high in pairwise(edges):
        width = np.uint64(high - low)
        mask = np.uint64(0xFFFFFFFFFFFFFFFF) if width == 64 else (np.uint64(1) << width) - np.uint64(1)
        band = (hashes >> low) & mask
        order = np.argsort(band, kind="stable")
        _, starts, counts = np.unique(band[order], return_index=True, return_counts=True)
        for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True):
            members = order[start : start + count]
            i, j = np.triu_indices(count, k=1)
            near = np.bitwise_count(hashes[members[i]] ^ hashes[members[j]]) <= distance
            pairs.append(np.sort(np.stack([members[i[near]], members[j[near]]], axis=1), axis=1))
    return np.unique(np.concatenate(pairs), axis=0) if pairs else np.zeros((0, 2), np.int64)


def clusters(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return the cluster number (count,) of each item, where `pairs` (M, 2) are joined."""
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]
