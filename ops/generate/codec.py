"""Between pixels and the space in which diffusion works: a trained KL autoencoder, or the pixels themselves.

Whoever trains or samples in a space takes a `Codec` and need not know which. Latents have mean 0 and variance 1 in each
channel over the training images, so that noise of variance 1 means the same in every space.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import AutoencoderKL

from ops.errors import AmalgamError
from ops.files import read_json, write_json

LOCAL = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": False, "dtype": torch.float32}
"""How diffusers folders are read: no pickle, no network, float32 whatever precision they are stored in."""

RECORD = "pixels.json"
"""The file that says that a folder's space is that of pixels."""

REMEDY = "python -m pipelines run autoencoder"


class Codec(Protocol):
    """From images (N, 3, H, W) float32 in [0, 1] to latents (N, C, h, w) float32 and back, without gradients."""

    @property
    def latent(self) -> tuple[int, int, int]:
        """The shape (C, h, w) of the latent of one image of the size that the codec was made for."""

    @property
    def identity(self) -> str:
        """The SHA-256 of the numbers that make the latents: equal where latents can be exchanged."""

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the latents (N, C, h, w) float32 of images (N, 3, H, W) float32 in [0, 1] on the codec's device."""

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the images (N, 3, H, W) float32 in [0, 1] of latents (N, C, h, w) float32; NaN stays NaN."""


@dataclass(frozen=True)
class KLCodec:
    """The means of the posteriors of a trained autoencoder, whose last layers make them mean 0 and variance 1."""

    model: AutoencoderKL
    identity: str

    @property
    def latent(self) -> tuple[int, int, int]:
        """The shape (C, h, w) of the latent of one image."""
        side = self.model.config.sample_size // factor(self.model)
        return self.model.config.latent_channels, side, side

    @torch.no_grad()
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the posterior means (N, C, h, w); raises AmalgamError if the sides cannot be halved often enough."""
        check_sides(x.shape[2], x.shape[3], factor(self.model))
        return self.model.encode(x * 2 - 1).latent_dist.mean * self.model.config.scaling_factor

    @torch.no_grad()
    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the images (N, 3, H, W) in [0, 1] of latents (N, C, h, w)."""
        return ((self.model.decode(z / self.model.config.scaling_factor).sample + 1) / 2).clamp(0, 1)


@dataclass(frozen=True)
class PixelCodec:
    """Pixels with the mean of each channel taken off and its deviation divided out."""

    latent: tuple[int, int, int]
    mean: torch.Tensor
    """(3, 1, 1) float32, of pixels in [0, 1]."""
    std: torch.Tensor
    """(3, 1, 1) float32, of pixels in [0, 1]."""
    identity: str

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised images (N, 3, H, W)."""
        return (x - self.mean) / self.std

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the images (N, 3, H, W) in [0, 1] of normalised ones."""
        return (z * self.std + self.mean).clamp(0, 1)


def load_codec(folder: Path, device: torch.device) -> Codec:
    """Return the codec that the stage `autoencoder` wrote to `folder`; raises AmalgamError if it cannot be read."""
    if not (folder / RECORD).exists():
        return KLCodec(load_autoencoder(folder, device), weights_hash(folder / "model"))
    record = read_json(folder / RECORD)
    try:
        side = int(record["image_size"])
        mean, std = (torch.tensor(record[k], dtype=torch.float32).view(3, 1, 1).to(device) for k in ("mean", "std"))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise AmalgamError(f"{RECORD} in {folder.name} is damaged: {error!r}", REMEDY) from None
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return PixelCodec((3, side, side), mean, std, digest)


def save_pixel_codec(folder: Path, image_size: int, mean: list[float], std: list[float]) -> None:
    """Write the record of pixel space: `mean` and `std` of each channel of pixels in [0, 1]."""
    write_json(folder / RECORD, {"image_size": image_size, "mean": mean, "std": std})


def load_autoencoder(folder: Path, device: torch.device) -> AutoencoderKL:
    """Return the trained autoencoder in `folder`, frozen; raises AmalgamError if it cannot be read."""
    try:
        model = AutoencoderKL.from_pretrained(folder / "model", **LOCAL)
    except (OSError, ValueError) as error:
        raise AmalgamError(f"no autoencoder in {folder.name}: {error}", REMEDY) from None
    model.register_to_config(
        _name_or_path="autoencoder"
    )  # diffusers would save the folder: equal content is equal bytes
    return model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


def factor(model: AutoencoderKL) -> int:
    """Return how many pixels of a side become one of the latent."""
    return 2 ** (len(model.config.block_out_channels) - 1)


def check_sides(height: int, width: int, times: int) -> None:
    """Raise AmalgamError if images of these sides in pixels cannot be made `times` smaller."""
    if height % times or width % times:
        raise AmalgamError(
            f"images of {height}x{width} pixels cannot be made {times} times smaller by the autoencoder",
            f"set raw_images.image_size to a multiple of {times}, or give autoencoder.channels fewer levels",
        )


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of the weights in a diffusers folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
