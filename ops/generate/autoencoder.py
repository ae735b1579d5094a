"""The KL autoencoder whose latents the diffusion model learns (diffusers' `AutoencoderKL`)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ops.data.loading import ImageSet, open_images
from ops.data.pictures import labelled_rows
from ops.files import write_json
from ops.generate.codec import LOCAL, check_sides, load_autoencoder
from ops.generate.config import AutoencoderConfig
from ops.generate.normalisation import latent_statistics, normalise_latents
from ops.generate.training import check_finite, draw_batch
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import derive_seed, generator
from ops.summary import Summary
from ops.train.schedule import autocast, warmup_cosine

__all__ = ["LOCAL", "build_autoencoder", "load_autoencoder", "train_autoencoder"]


def build_autoencoder(config: AutoencoderConfig, image_size: int) -> AutoencoderKL:
    """Return an untrained autoencoder; weights follow from the seed."""
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
            mid_block_add_attention=False,
        )


def train_autoencoder(
    config: AutoencoderConfig,
    shards: Path,
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Train on the training split of `shards` and write a diffusers folder `model` with figures and pictures.

    The loss is the mean absolute error of the pixels in [-1, 1], twice the mean squared error (small patches of colour
    are lost without it), the error of horizontal and vertical differences (which keeps drawn edges sharp without a
    pretrained perceptual network), and a small KL term to N(0, 1) (Kingma and Welling 2014; Rombach et al. 2022).
    The saved autoencoder makes latents of mean 0 and variance 1 in each channel.
    """
    images = open_images(shards, "train", cache)
    model = build_autoencoder(config, images.images.shape[1]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = Checkpoint(scratch, {"model": model}, optimizer)
    weights = images.table["weight"].to_numpy(np.float64)
    for step in range(checkpoint.restore(), config.steps):
        x = images.batch(draw_batch(weights, config.batch, config.seed, "autoencoder", step)).to(device) * 2 - 1
        optimizer.param_groups[0]["lr"] = config.lr * warmup_cosine(step, config.steps)
        with autocast(device, "bfloat16" if config.bf16 else "float32"):
            posterior = model.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator(config.seed, "posterior", step)).to(device)
            y = model.decode(posterior.mean + posterior.std * noise).sample
        y = y.float()
        error = F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + config.edge_weight * _edge_error(y, x)
        kl = posterior.kl().float().mean() / x[0].numel()
        loss = error + config.kl_weight * x[0].numel() * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _report(checkpoint, monitor, step, config.steps, float(loss.detach()), float(error.detach()))
    model.eval().requires_grad_(False)
    normalise_latents(model, *latent_statistics(model, _batches(images, device)))
    figures = reconstruction_quality(model, open_images(shards, "validation", cache), device, out)
    model.save_pretrained(out / "model")
    write_json(out / "metrics.json", figures)
    parameters = sum(p.numel() for p in model.parameters())
    return Summary({**figures, "parameters": parameters, "steps": config.steps})


def _edge_error(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error of horizontal and vertical differences of images (N, C, H, W)."""
    return F.l1_loss(y.diff(dim=2), x.diff(dim=2)) + F.l1_loss(y.diff(dim=3), x.diff(dim=3))


def _report(checkpoint: Checkpoint, monitor: Monitor, step: int, steps: int, loss: float, error: float) -> None:
    check_finite(loss, "autoencoder", step)
    monitor.progress(step + 1, steps, "step", loss=loss)
    if step % 20 == 0 or step == steps - 1:
        monitor.metrics(step, {"loss": loss, "reconstruction_error": error})
    checkpoint.step(step + 1)


def _batches(images: ImageSet, device: torch.device, limit: int = 512) -> Iterator[torch.Tensor]:
    """Yield at most `limit` images, spread over the set, as batches (B, 3, H, W) in [-1, 1]."""
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64)
    for part in np.array_split(chosen, -(-len(chosen) // 64)):
        yield images.batch(part).to(device) * 2 - 1


@torch.no_grad()
def reconstruction_quality(
    model: AutoencoderKL, images: ImageSet, device: torch.device, out: Path, limit: int = 512
) -> dict[str, float]:
    """Return PSNR in dB and SSIM of reconstructions of validation images; save originals above reconstructions."""
    chosen = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64)
    x = torch.cat([images.batch(b) for b in np.array_split(chosen, max(1, len(chosen) // 64))])
    parts = [model.decode(model.encode(b.to(device) * 2 - 1).latent_dist.mean).sample for b in x.split(64)]
    y = ((torch.cat(parts).cpu() + 1) / 2).clamp(0, 1)
    pick = np.linspace(0, len(x) - 1, 12).astype(np.int64)
    rows = {name: _bytes(z[pick]) for name, z in (("original", x), ("reconstruction", y))}
    labelled_rows(rows, out / "pictures" / "reconstructions.png", "validation images through the autoencoder")
    psnr = float(peak_signal_noise_ratio(y, x, data_range=1.0))
    ssim = structural_similarity_index_measure(y, x, data_range=1.0)
    assert isinstance(ssim, torch.Tensor)
    return {"validation PSNR (dB)": round(psnr, 4), "validation SSIM": round(float(ssim), 5)}


def _bytes(x: torch.Tensor) -> np.ndarray:
    """Return images (N, 3, H, W) in [0, 1] as (N, H, W, 3) uint8."""
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
