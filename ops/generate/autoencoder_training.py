"""The training loop of the KL autoencoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from ops.data.loading import ImageSet
from ops.generate.adversarial import Adversary
from ops.generate.config import AutoencoderConfig
from ops.generate.perceptual import perceptual_distance
from ops.generate.training import check_finite, draw_batch
from ops.models.base import Classifier
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import generator
from ops.train.schedule import autocast, warmup_cosine


def optimise(
    config: AutoencoderConfig,
    model: AutoencoderKL,
    images: ImageSet,
    judges: Sequence[Classifier],
    steps: int,
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
) -> None:
    """Train `model` for `steps` steps; everything random follows from the seed and the step.

    The loss is the reconstruction error, a small KL term to N(0, 1) (Kingma and Welling 2014; Rombach et al. 2022) and,
    from `config.adversarial.start` on, the opinion of a discriminator that learns beside. Images are drawn by their
    weight. Judges take turns, since each costs a pass. Raises AmalgamError, with the images, for values that are no
    numbers.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    adversary = _adversary(config, images.images.shape[1], steps, device, monitor)
    checkpoint = _checkpoint(scratch, model, optimizer, adversary)
    weights, ids = images.table["weight"].to_numpy(np.float64), images.table["id"].to_numpy()
    for step in range(checkpoint.restore(), steps):
        factor = warmup_cosine(step, steps)
        optimizer.param_groups[0]["lr"] = config.lr * factor
        chosen = draw_batch(weights, config.batch, config.seed, "autoencoder", step)
        x = (images.batch(chosen).to(device) * 2 - 1).contiguous(memory_format=torch.channels_last)
        y, kl = _pass(config, model, x, step)
        parts = reconstruction_error(config, judges[step % len(judges)] if judges else None, x, y)
        error = torch.stack(list(parts.values())).sum()
        parts["KL"] = config.kl_weight * kl
        player = adversary if step >= config.adversarial.start else None
        if player is not None:
            parts["adversarial"] = player.term(y, error, model.decoder.conv_out.weight)
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        figures = {"loss": float(loss.detach()), "reconstruction_error": float(error.detach())}
        check_finite(figures["loss"] + float(norm), "autoencoder", step, ids[chosen])
        optimizer.step()
        if player is not None:
            figures["discriminator_loss"] = player.learn(x, y, factor)
            check_finite(figures["discriminator_loss"], "autoencoder.adversarial", step, ids[chosen])
        monitor.progress(step + 1, steps, "step", loss=figures["loss"])
        if step % 20 == 0 or step == steps - 1:
            monitor.metrics(step, figures | {name: float(part.detach()) for name, part in parts.items()})
        checkpoint.step(step + 1)


def _adversary(
    config: AutoencoderConfig, image_size: int, steps: int, device: torch.device, monitor: Monitor
) -> Adversary | None:
    if not config.adversarial.weight:
        return None
    if config.adversarial.start >= steps:
        monitor.note(f"the adversarial term never takes part: autoencoder.adversarial.start is not below {steps} steps")
    return Adversary(config.adversarial, image_size, config.seed, device)


def _checkpoint(
    scratch: Path, model: AutoencoderKL, optimizer: torch.optim.Optimizer, adversary: Adversary | None
) -> Checkpoint:
    if adversary is None:
        return Checkpoint(scratch, {"model": model}, optimizer)
    optimizers = {"optimizer": optimizer, "discriminator optimizer": adversary.optimizer}
    return Checkpoint(scratch, {"model": model, "discriminator": adversary.net}, optimizers)


def _pass(
    config: AutoencoderConfig, model: AutoencoderKL, x: torch.Tensor, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return reconstructions of `x` (N, 3, H, W) from latents drawn from their posteriors, and the mean KL, float32."""
    with autocast(x.device, "bfloat16" if config.bf16 else "float32"):
        moments = model.encode(x).latent_dist.parameters
    posterior = DiagonalGaussianDistribution(moments.float())
    noise = torch.randn(posterior.mean.shape, generator=generator(config.seed, "posterior", step)).to(x.device)
    with autocast(x.device, "bfloat16" if config.bf16 else "float32"):
        y = model.decode(posterior.mean + posterior.std * noise).sample
    return y.float(), posterior.kl().mean()


def reconstruction_error(
    config: AutoencoderConfig, judge: Classifier | None, x: torch.Tensor, y: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the terms of the error of reconstructions y of images x (N, 3, H, W) in [-1, 1], by name.

    The mean absolute error, twice the mean squared error (small patches of colour are lost without it), the error of
    horizontal and vertical differences (which keeps drawn edges sharp), and the distance in the eyes of `judge`.
    """
    parts = {"pixels": F.l1_loss(y, x) + 2 * F.mse_loss(y, x)}
    if config.edge_weight:
        edges = F.l1_loss(y.diff(dim=2), x.diff(dim=2)) + F.l1_loss(y.diff(dim=3), x.diff(dim=3))
        parts["edges"] = config.edge_weight * edges
    if config.perceptual_weight and judge is not None:
        parts["perceptual"] = config.perceptual_weight * perceptual_distance(judge, (x + 1) / 2, (y + 1) / 2).mean()
    return parts
