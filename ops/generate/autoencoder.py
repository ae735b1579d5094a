"""The KL autoencoder whose latents the diffusion model learns (diffusers' `AutoencoderKL`), or the record of pixel space."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from ops.data.loading import ImageSet, open_images, open_with_unlabelled
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.autoencoder_training import optimise
from ops.generate.codec import LOCAL, check_sides, load_autoencoder, load_codec, save_pixel_codec
from ops.generate.config import AutoencoderConfig
from ops.generate.normalisation import latent_statistics, normalise_latents
from ops.generate.perceptual import load_judges
from ops.generate.reconstruction import draw_reconstructions, reconstruction_quality, spread
from ops.generate.shipping import shipped_record, split_hash
from ops.models.base import Classifier
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.summary import Summary
from ops.train.start import channel_statistics

__all__ = ["LOCAL", "build_autoencoder", "load_autoencoder", "train_autoencoder"]

FREE = {"sample_size", "scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast"}
"""Entries of an autoencoder's configuration that do not change what its weights mean."""
SCRATCH = "trained from scratch"
NORMAL = 0.1
"""Latents whose channels are this near to mean 0 and deviation 1 stay as they are, and so do given weights then."""


def train_autoencoder(
    config: AutoencoderConfig,
    shards: Path,
    judges: Mapping[str, Path],
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    start: Path | None = None,
) -> Summary:
    """Write what `load_codec` reads, made from the training split of `shards`, with figures and a picture of validation.

    The split `unlabelled`, where there is one, is learnt from as well, unless `config.unlabelled` is false.

    In latent space that is a diffusers folder `model`, whose latents have mean 0 and variance 1 in each channel; in pixel
    space it is a record of the channels' mean and deviation. `judges` are folders of classifiers by name, in whose eyes
    reconstructions shall look like their originals. `start` is a folder with a trained autoencoder: then training takes
    `config.finetune_steps` steps from its weights; none leaves them as they are, if the latents are normal already. One
    that was shipped with its record is used only where it learnt exactly our training images; where it did not, training
    begins from scratch, and says so: unlabelled images are training images here.

    Raises AmalgamError for given weights of another architecture, for images whose sides cannot be halved often enough,
    for a perceptual term without a judge, and for a loss that is no number.
    """
    images = (open_with_unlabelled if config.unlabelled else open_images)(shards, "train", cache)
    eyes = load_judges(judges, device)
    steps, lineage = 0, SCRATCH
    if config.space == "pixel":
        save_pixel_codec(out, images.images.shape[1], *channel_statistics(images))
        if start is not None:
            monitor.note("pixel space has no weights: those that were given are not used")
    else:
        start, lineage = _begin(images, start, monitor)
        model = _initial(config, images.images.shape[1], start).to(device).to(memory_format=torch.channels_last)
        steps = config.steps if start is None else config.finetune_steps
        _train(config, model, images, eyes, steps, scratch, device, monitor)
        model.save_pretrained(out / "model")
    codec = load_codec(out, device)
    validation, attribute = open_images(shards, "validation", cache), str(read_json(shards / "dataset.json")["groups"])
    quality = reconstruction_quality(codec, eyes, validation, attribute, device)
    picture = out / "pictures" / "reconstructions.png"
    draw_reconstructions(codec, validation, device, picture, f"validation images through {config.space} space")
    write_json(out / "metrics.json", quality.figures)
    figures: dict[str, int | float | str] = {**quality.figures, "numbers in a latent": int(np.prod(codec.latent))}
    figures |= {"steps": steps, "lineage": lineage}
    return Summary(figures, {f"reconstructions by {attribute}": quality.groups})


def _begin(images: ImageSet, start: Path | None, monitor: Monitor) -> tuple[Path | None, str]:
    """Return where training starts, None for scratch, and the lineage for people."""
    record = shipped_record(start) if start else None
    if start is None or record is None:
        return start, SCRATCH if start is None else f"weights in {start.name}"
    if record["training split"] != split_hash(images):
        monitor.note("the shipped autoencoder is not used: it learnt from other images")
        return None, SCRATCH
    return start, str(record["lineage"])


def build_autoencoder(config: AutoencoderConfig, image_size: int) -> AutoencoderKL:
    """Return an untrained autoencoder; weights follow from the seed. AmalgamError if the sides cannot be halved enough."""
    levels = len(config.channels)
    check_sides(image_size, image_size, 2 ** (levels - 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "autoencoder"))
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(config.channels),
            layers_per_block=1,
            latent_channels=config.latent_channels,
            norm_num_groups=8,
            sample_size=image_size,
            scaling_factor=1.0,
            mid_block_add_attention=False,
        )


def _initial(config: AutoencoderConfig, image_size: int, start: Path | None) -> AutoencoderKL:
    """Return an untrained autoencoder, or the one in `start`; raises AmalgamError if that has another architecture."""
    wanted = build_autoencoder(config, image_size)
    if start is None:
        return wanted
    given = load_autoencoder(start, torch.device("cpu"))
    keys = sorted(key for key in wanted.config if key not in FREE and not key.startswith("_"))
    for key in keys:
        mine, theirs = (_plain(model.config.get(key)) for model in (wanted, given))
        if mine != theirs:
            raise AmalgamError(
                f"the autoencoder in {start.name} is of another architecture: its {key} is {theirs}, not {mine}",
                "set autoencoder.channels and latent_channels to those of the given weights, or give none",
            )
    wanted.load_state_dict(given.state_dict())  # not `given` itself, whose configuration says where it was read
    return wanted


def _plain(value: object) -> object:
    """Return `value` as JSON would give it back: lists for tuples."""
    return list(value) if isinstance(value, tuple) else value


def _train(
    config: AutoencoderConfig,
    model: AutoencoderKL,
    images: ImageSet,
    judges: Sequence[Classifier],
    steps: int,
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
) -> None:
    """Train `model` if `steps` is not 0, freeze it, and normalise its latents unless they are already."""
    if steps:
        if config.perceptual_weight and not judges:
            raise AmalgamError(
                "the perceptual term of the autoencoder needs a classifier",
                "train the scorer: python -m pipelines run classifier; or set autoencoder.perceptual_weight to 0",
            )
        optimise(config, model, images, judges, steps, scratch, device, monitor)
    model.eval().requires_grad_(False)
    mean, std = latent_statistics(model, _batches(images, device))
    if max(float(mean.abs().max()), float((std - 1).abs().max())) > NORMAL:
        normalise_latents(model, mean, std)


def _batches(images: ImageSet, device: torch.device, limit: int = 512) -> Iterator[torch.Tensor]:
    """Yield at most `limit` images, spread over the set, as batches (B, 3, H, W) in [-1, 1]."""
    chosen = spread(len(images), limit)
    for part in np.array_split(chosen, -(-len(chosen) // 64)):
        yield images.batch(part).to(device) * 2 - 1
