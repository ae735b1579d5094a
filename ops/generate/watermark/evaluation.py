"""How well the watermark is found after edits, and how often it is found where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.evaluate.intervals import Interval, wilson
from ops.evaluate.measurements import row
from ops.generate.watermark.config import WatermarkConfig
from ops.generate.watermark.detection import decoy_scores, detect, detect_pooled, threshold
from ops.generate.watermark.edits import edits
from ops.generate.watermark.marking import mark, psnr
from ops.progress import Monitor
from ops.runtime import derive_seed


@dataclass(frozen=True)
class Detection:
    """What became of marked images after one edit."""

    edit: str
    single: Interval
    """Share of the images that are found, with its Wilson interval."""
    images: int
    pooled: Interval
    """Share of the shards that are found when their images are judged together."""
    shards: int
    mean_score: float


@dataclass(frozen=True)
class FalseAlarms:
    """What detection says of images without a mark."""

    share: float
    """Of images and decoy keys at the threshold that theory gives."""
    worst_key: float
    """The share of images under the decoy key that most of them pass."""
    threshold: float
    """Of theory: `ops.generate.watermark.detection.threshold`."""
    calibrated: float
    """The threshold that the wanted share of images and decoy keys reaches."""
    pooled: Interval
    """Share of the shards that pass under the key, with its Wilson interval."""
    shards: int
    images: int
    decoys: int


def detections(
    images: np.ndarray, key: bytes, shard: int, config: WatermarkConfig, seed: int, monitor: Monitor
) -> list[Detection]:
    """Return what is found of images (N, H, W, 3) uint8, marked and edited, at the threshold of theory.

    Shards are `shard` consecutive images; what does not fill one is left out of them.
    """
    marked, limit, found = mark(images, key, config), threshold(config), []
    every = edits()
    for done, (name, edit) in enumerate(every.items(), start=1):
        edited = edit(marked, np.random.default_rng(derive_seed(seed, name)))
        scores = detect(edited, key, config)
        pooled = _pooled(edited, key, shard, config)
        found.append(
            Detection(
                name,
                wilson(int((scores >= limit).sum()), len(scores)),
                len(scores),
                wilson(int((pooled >= limit).sum()), len(pooled)),
                len(pooled),
                float(scores.mean()),
            )
        )
        monitor.progress(done, len(every), "edit")
    return found


def false_alarms(
    images: np.ndarray, key: bytes, shard: int, config: WatermarkConfig, decoys: int, seed: int
) -> FalseAlarms:
    """Return how often images (N, H, W, 3) uint8 without a mark pass, singly under decoy keys and as shards under `key`."""
    limit = threshold(config)
    scores = decoy_scores(images, decoys, config, seed)
    pooled = _pooled(images, key, shard, config)
    return FalseAlarms(
        share=float((scores >= limit).mean()),
        worst_key=float((scores >= limit).mean(axis=0).max()),
        threshold=limit,
        calibrated=float(np.quantile(scores, 1 - config.false_positives, method="higher")),
        pooled=wilson(int((pooled >= limit).sum()), len(pooled)),
        shards=len(pooled),
        images=len(images),
        decoys=decoys,
    )


def watermark_rows(
    dataset: str, split: str, images: np.ndarray, marked: np.ndarray, found: Sequence[Detection], alarms: FalseAlarms
) -> list[dict[str, Any]]:
    """Return measurement rows of model `watermark`: detection by edit, false positives, and the PSNR (mean and range)."""
    rows = []
    for each in found:
        parts = ("watermark", dataset, split, f"edit={each.edit}")
        rows.append(row(*parts, "watermark found", each.single, each.images))
        rows.append(row(*parts, "watermark found (pooled)", each.pooled, each.shards))
    noise = psnr(images, marked)
    rows.append(
        row("watermark", dataset, split, "all", "PSNR (dB)", (noise.mean(), noise.min(), noise.max()), len(noise))
    )
    # images under all keys are not independent: the range is from none to the worst key
    share = (alarms.share, 0.0, alarms.worst_key)
    rows.append(row("watermark", dataset, split, "all", "false positives", share, alarms.images * alarms.decoys))
    rows.append(row("watermark", dataset, split, "all", "false positives (pooled)", alarms.pooled, alarms.shards))
    return rows


def _pooled(images: np.ndarray, key: bytes, shard: int, config: WatermarkConfig) -> np.ndarray:
    starts = range(0, len(images) - shard + 1, shard)
    return np.array([detect_pooled(images[s : s + shard], key, config) for s in starts])
