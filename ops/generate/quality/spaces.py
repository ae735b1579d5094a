"""Feature spaces: where images are compared. A distance is called after its space, and none of them is "FID".

The Fréchet *Inception* distance is that of one network, whose weights are not here; numbers of other spaces cannot be
compared with published ones, only with each other and with their floors in the same space.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ops.errors import AmalgamError
from ops.files import replacing
from ops.progress import Monitor


@dataclass(frozen=True)
class Space:
    """A declared map from images to features."""

    name: str
    identity: str
    """Hash of all that makes the features: weights, sizes, and data that were fitted."""
    width: int
    encode: Callable[[np.ndarray], np.ndarray]
    """From images (B, H, W, 3) uint8 to features (B, width) float32."""
    batch: int = 32

    def embed(self, images: np.ndarray, cache: Path, monitor: Monitor) -> np.ndarray:
        """Return the features (N, width) float32 of images (N, H, W, 3) uint8, mapped from a file in `cache`.

        Images with the same bytes are embedded once. Raises AmalgamError if a feature is no number.
        """
        path = cache / "features" / f"{identity_of(self.identity, content_of(images))}.npy"
        if not path.exists():
            self._write(images, path, monitor)
        return np.load(path, mmap_mode="r")

    def _write(self, images: np.ndarray, path: Path, monitor: Monitor) -> None:
        with replacing(path) as temporary:
            shape = (len(images), self.width)
            features = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            for start in range(0, len(images), self.batch):
                part = self.encode(
                    np.array(images[start : start + self.batch])
                )  # a copy: torch wants memory it may write
                if not np.isfinite(part).all():
                    raise AmalgamError(
                        f"features in the space {self.name} are no numbers",
                        f"its network is damaged, or its inputs overflow; leave {self.name} out of quality.spaces and judges",
                    )
                features[start : start + len(part)] = part
                monitor.progress(start + len(part), len(images), f"image in {self.name}")
            features.flush()


def identity_of(*parts: object) -> str:
    """Return a short hash of what makes a space."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def content_of(images: np.ndarray) -> str:
    """Return a hash of the shape and bytes of images (N, ...); one block is in memory at a time."""
    digest = hashlib.sha256(str(images.shape).encode())
    for start in range(0, len(images), 1024):
        digest.update(images[start : start + 1024].tobytes())
    return digest.hexdigest()


def unit_batch(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return images (B, H, W, 3) uint8 as (B, 3, H, W) float32 in [0, 1], channels-last in memory."""
    pixels = torch.from_numpy(images).to(device)
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)
