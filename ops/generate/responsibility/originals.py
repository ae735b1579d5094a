"""What a copy is: one definition for the filter of synthetic images and for the gate of generators.

An image is a copy if it has the pixels of a training image, or differs from one, after the best shift and mirroring, by less
than nearly all held-out images do. A generator that works in the latents of an autoencoder cannot show a training image, only
what the autoencoder makes of it, and that is blurred: often farther from the original than the threshold. So the same is asked
again of reconstructions: is the image nearer to that of a training image than nearly all reconstructions of held-out images
are? A copy is one by either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ops.generate.responsibility.copies import Nearest, Sample, find_nearest, pixel_digests
from ops.generate.responsibility.neighbours import nearest


class SearchConfig(Protocol):
    """Settings of the search, which several configs have."""

    @property
    def percentile(self) -> float:
        """Share of held-out images, in percent, that a comparison may take for copies."""

    @property
    def neighbours(self) -> int:
        """Nearest training images by features that are compared pixel by pixel."""

    @property
    def shift(self) -> int:
        """Pixels by which images are moved."""


@dataclass(frozen=True)
class Comparison:
    """Training images, as they are or reconstructed, and how near to them an honest image may be."""

    config: SearchConfig
    train: Sample
    known: Mapping[str, int]
    """Place of each training image by the digest of its pixels."""
    held_out: Nearest
    """Of the held-out images, which are as they are or reconstructed like `train`."""
    threshold: float
    """Pixel distance (root mean square, in [0, 1]) that few held-out images are within."""

    def nearest(self, sample: Sample) -> Nearest:
        """Return what is nearest to each image of `sample`."""
        return nearest_originals(self.config, sample, self.train, self.known)

    def copies(self, near: Nearest) -> np.ndarray:
        """Return which images (N,) bool are copies, by what is nearest to them."""
        return np.asarray(near.exact | (near.pixels <= self.threshold))


@dataclass(frozen=True)
class Found:
    """What the search for copies says of each image of a sample."""

    near: Nearest
    """Among the training images."""
    reconstructed: Nearest | None
    """Among their reconstructions; None without an autoencoder."""
    copies: np.ndarray
    """(N,) bool, by either."""
    closest: np.ndarray
    """(N,) int64, place of the training image that it repeats: the closest in pixels in the comparison that says so, and of
    both in the one in which it is closer; of those that are no copies the closest as they are."""


@dataclass(frozen=True)
class CopySearch:
    """Both comparisons; the training images are in the same order in them."""

    plain: Comparison
    reconstructed: Comparison | None = None

    def find(self, sample: Sample) -> Found:
        """Return what is found of each image of `sample`."""
        again = self.reconstructed.nearest(sample) if self.reconstructed else None
        return self._found(self.plain.nearest(sample), again)

    def find_held_out(self) -> Found:
        """Return the same of the held-out images, each comparison having its own."""
        return self._found(self.plain.held_out, self.reconstructed.held_out if self.reconstructed else None)

    def _found(self, near: Nearest, again: Nearest | None) -> Found:
        copies = self.plain.copies(near)
        if self.reconstructed is None or again is None:
            return Found(near, None, copies, near.closest)
        second = self.reconstructed.copies(again)
        closer = second & (~copies | (again.pixels < near.pixels))
        return Found(near, again, copies | second, np.where(closer, again.closest, near.closest))


def learn_comparison(config: SearchConfig, train: Sample, held_out: Sample) -> Comparison:
    """Return the comparison with `train`, whose threshold is the percentile of the held-out images' distances to it."""
    known = {digest: place for place, digest in enumerate(pixel_digests(train.images))}
    near = nearest_originals(config, held_out, train, known)
    threshold = float(np.percentile(near.pixels, config.percentile, method="lower"))
    return Comparison(config, train, known, near, threshold)


def nearest_originals(config: SearchConfig, sample: Sample, train: Sample, known: Mapping[str, int]) -> Nearest:
    """Return what is nearest to each image of `sample` among the training images; see `find_nearest`."""
    distances, places = nearest(sample.features, train.features, config.neighbours)
    return find_nearest(sample, train, dict(known), distances, places, config.shift)
