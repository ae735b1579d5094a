"""What the autoencoder of a generator makes of real images: all that a generator in its latents can show of them."""

from pathlib import Path

import numpy as np
import torch

from ops.data.loading import ImageSet
from ops.files import replacing
from ops.generate.codec import Codec, KLCodec
from ops.generate.pipeline import load_generator
from ops.generate.quality.spaces import content_of, identity_of
from ops.generate.responsibility.copies import hashes_of
from ops.progress import Monitor

BATCH = 128


def codec_of(diffusion: Path | None, size: int, device: torch.device, monitor: Monitor) -> Codec | None:
    """Return the autoencoder in the artefact of the stage `diffusion`; None where images of `size` are not its output.

    That is so without a generator, in pixel space, where nothing is blurred, and for the enlarged images of a cascade.

    Raises AmalgamError if the generator cannot be read.
    """
    codec = load_generator(diffusion, device).codec if diffusion else None
    if not isinstance(codec, KLCodec):
        return None
    side = codec.model.config.sample_size
    if side != size:
        monitor.note(f"copies are not sought among reconstructions: those have {side} pixels, the images {size}")
        return None
    return codec


def reconstruct(codec: Codec, images: ImageSet, cache: Path, device: torch.device, monitor: Monitor) -> ImageSet:
    """Return the images decoded from their latents, as 8-bit images with their own perceptual hashes.

    They are computed once, some at a time, into a file in `cache` that is mapped into memory.
    """
    path = cache / "reconstructions" / f"{identity_of(codec.identity, content_of(images.images))}.npy"
    if not path.exists():
        with replacing(path) as temporary:
            made = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=images.images.shape)
            for start in range(0, len(images), BATCH):
                x = images.batch(np.arange(start, min(start + BATCH, len(images)))).to(device)
                y = (codec.decode(codec.encode(x)) * 255).round().to(torch.uint8)
                made[start : start + len(x)] = y.permute(0, 2, 3, 1).cpu().numpy()
                monitor.progress(start + len(x), len(images), "reconstruction")
            made.flush()
    pixels = np.load(path, mmap_mode="r")
    hashes = [f"{value:016x}" for value in hashes_of(pixels)]
    return ImageSet(pixels, images.labels, images.table.assign(phash=hashes), images.classes)
