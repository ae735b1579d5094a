"""Is the mark there? Correlation with the pattern of a key, as a z-score; the original image is not needed.

For an image without the mark, z = sum_i s_i w_i with |w| = 1 and signs s that nobody could know: whatever the image, z has
mean 0 and variance 1 over the keys, and P(z >= t) <= exp(-t^2 / 2) (Hoeffding 1963). So the threshold needs no data and no
assumption; `decoy_scores` measures what it is worth. The guarantee is over keys: with one fixed key and images that
resemble each other, more or fewer of them may pass.
"""

from collections.abc import Iterator

import numpy as np

from ops.generate.watermark.config import WatermarkConfig
from ops.generate.watermark.keys import pattern
from ops.generate.watermark.marking import CHUNK, band, coefficients
from ops.runtime import derive_seed

TINY = 1e-12


def detect(images: np.ndarray, key: bytes, config: WatermarkConfig | None = None) -> np.ndarray:
    """Return z-scores (N,) float64 of images (N, H, W, 3) uint8: the best of all views that `config.search` tries.

    A score of `threshold(config)` or more says that the mark of `key` is there. At most sqrt(number of coefficients).
    """
    config = config or WatermarkConfig()
    scores = [_views_of(images[s : s + CHUNK], key, config).max(axis=0) for s in range(0, len(images), CHUNK)]
    return np.concatenate(scores) if scores else np.zeros(0)


def detect_pooled(images: np.ndarray, key: bytes, config: WatermarkConfig | None = None) -> float:
    """Return one z-score of all images (N, H, W, 3) uint8 together, such as those of a shard; N is at least 1.

    The mean of the images' weights w is correlated: what they have in common by nature is in that mean and its norm, so
    that the bound on false positives holds, where a sum of the images' z-scores would take it for a mark.
    """
    config = config or WatermarkConfig()
    chosen = band(config, *images.shape[1:3])
    signs = pattern(key, int(chosen.sum()), *images.shape[1:3])
    sums = np.zeros((view_count(config.search), len(signs)))
    for start in range(0, len(images), CHUNK):
        views = views_of(images[start : start + CHUNK], config.search)
        sums += np.stack([_weights(view, chosen, config).sum(axis=0) for view in views])
    return float((_unit(sums) @ signs).max())


def threshold(config: WatermarkConfig) -> float:
    """Return the z-score that an unmarked image reaches with at most the probability `config.false_positives`.

    sqrt(2 ln(v / p)) for the best of v views: Hoeffding's bound, and a union bound over the views.
    """
    return float(np.sqrt(2 * np.log(view_count(config.search) / config.false_positives)))


def decoy_scores(images: np.ndarray, decoys: int, config: WatermarkConfig, seed: int) -> np.ndarray:
    """Return the z-scores (N, decoys) of images (N, H, W, 3) uint8 under keys that marked nothing.

    A quantile of them is the threshold for data like these, to compare with `threshold`.
    """
    height, width = images.shape[1:3]
    chosen = band(config, height, width)
    names = [derive_seed(seed, "decoy", number).to_bytes(8, "big") * 2 for number in range(decoys)]
    signs = np.stack([pattern(name, int(chosen.sum()), height, width) for name in names], axis=1)
    best = np.full((len(images), decoys), -np.inf)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        for view in views_of(images[part], config.search):
            np.maximum(best[part], _weights(view, chosen, config) @ signs, out=best[part])
    return best


def view_count(search: int) -> int:
    """Return the number of views that `views_of` yields."""
    return 2 * (2 * search + 1) ** 2


def views_of(images: np.ndarray, search: int) -> Iterator[np.ndarray]:
    """Yield images (N, H, W, 3) as they are and mirrored, each shifted by up to `search` pixels; edges are repeated."""
    height, width = images.shape[1:3]
    for flipped in (images, images[:, :, ::-1]):
        padded = np.pad(flipped, ((0, 0), (search, search), (search, search), (0, 0)), mode="edge")
        for top in range(2 * search + 1):
            for left in range(2 * search + 1):
                yield padded[:, top : top + height, left : left + width]


def _views_of(images: np.ndarray, key: bytes, config: WatermarkConfig) -> np.ndarray:
    """Return the z-scores (views, N) of each view."""
    chosen = band(config, *images.shape[1:3])
    signs = pattern(key, int(chosen.sum()), *images.shape[1:3])
    return np.stack([_weights(view, chosen, config) @ signs for view in views_of(images, config.search)])


def _weights(images: np.ndarray, chosen: np.ndarray, config: WatermarkConfig) -> np.ndarray:
    """Return unit vectors (N, n) of the coefficients c, as c / (1 + (c / scale)^2): edges, which are large, count little.

    (The score of a Cauchy distribution; drawings and photographs have heavy tails, and a mark has none.)
    """
    c = coefficients(images, chosen)
    return _unit(c / (1 + (c / config.scale) ** 2))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), TINY))
