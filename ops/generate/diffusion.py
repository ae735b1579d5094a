"""The latent diffusion model: a U-Net on the autoencoder's latents, trained with rectified flow."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.generate.autoencoder import LOCAL, load_autoencoder
from ops.generate.conditioning import Conditioner, drop, gather, vocabularies_of
from ops.generate.config import DiffusionConfig
from ops.generate.flow import interpolate, logit_normal_times
from ops.generate.text import encode_captions
from ops.generate.training import check_finite, draw_batch
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import derive_seed, generator
from ops.summary import Summary
from ops.train.averaging import update_average
from ops.train.schedule import autocast, warmup_cosine

TIME_SCALE = 1000.0
"""Times in [0, 1] are stretched to the range that the sinusoidal embedding of the U-Net is made for."""


class LatentModel(torch.nn.Module):
    """U-Net and conditioner: the velocity of latents at a time, given conditions."""

    def __init__(self, unet: UNet2DConditionModel, conditioner: Conditioner) -> None:
        super().__init__()
        self.unet = unet
        self.conditioner = conditioner

    def forward(self, x: torch.Tensor, t: torch.Tensor, conditions) -> torch.Tensor:  # type: ignore[no-untyped-def]
        """Return the velocity (B, C, H, W) of latents `x` at times `t` (B,) in [0, 1]."""
        tokens, vector = self.conditioner(conditions)
        return self.unet(x, t * TIME_SCALE, encoder_hidden_states=tokens, class_labels=vector).sample


def build_model(config: DiffusionConfig, channels: int, side: int, vocabularies: dict[str, list[str]]) -> LatentModel:
    """Return an untrained model for latents (`channels`, `side`, `side`); weights follow from the seed."""
    levels = len(config.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "diffusion"))
        unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(config.channels),
            down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (levels - 1)),
            up_block_types=(*["CrossAttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=config.context,
            attention_head_dim=4,
            norm_num_groups=8,
            class_embed_type="identity",
        )
        embedding = 4 * config.channels[0]
        names, values = list(vocabularies), list(vocabularies.values())
        conditioner = Conditioner(names, values, config.context, embedding, config.max_tokens)
        torch.nn.init.zeros_(unet.conv_out.weight)
        torch.nn.init.zeros_(unet.conv_out.bias)
    return LatentModel(unet, conditioner)


def train_diffusion(
    config: DiffusionConfig,
    shards: Path,
    autoencoder: Path,
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Train on the training split of `shards` and write `unet`, `conditioner` (diffusers folders) and a record.

    Rectified flow with logit-normal times: x_t = (1 - t) z + t e, and the model regresses e - z. Images are drawn by
    their weight in the manifest (near-duplicates share one weight). Only the training split is ever seen.
    """
    images = open_images(shards, "train", cache)
    vae = load_autoencoder(autoencoder, device)
    latents = encode_latents(vae, images, device, monitor)
    text = encode_captions(images.table["caption"].tolist(), config.max_tokens, cache, device, monitor)
    vocabularies = vocabularies_of(images.table, read_json(shards / "dataset.json"))
    model = build_model(config, latents.shape[1], latents.shape[2], vocabularies).to(device)
    average = build_model(config, latents.shape[1], latents.shape[2], vocabularies).to(device).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-3)
    checkpoint = Checkpoint(scratch, {"model": model, "average": average}, optimizer)
    codes = model.conditioner.encode(images.table.to_dict("records"))
    captions = text.rows(images.table["caption"].tolist())
    weights = images.table["weight"].to_numpy(np.float64)
    for step in range(checkpoint.restore(), config.steps):
        chosen = draw_batch(weights, config.batch, config.seed, "diffusion", step)
        rng = generator(config.seed, "diffusion noise", step)
        z = latents[chosen]
        noise = torch.randn(z.shape, generator=rng)
        t = logit_normal_times(len(z), rng)
        random = torch.rand(len(z), codes.shape[1] + 2, generator=rng)
        conditions = gather(text, captions[chosen], codes[chosen])
        conditions = drop(conditions, model.conditioner.sizes, config.drop, config.drop_all, random).to(device)
        x, target = interpolate(z.to(device), noise.to(device), t.to(device))
        optimizer.param_groups[0]["lr"] = config.lr * warmup_cosine(step, config.steps)
        with autocast(device, "bfloat16" if config.bf16 else "float32"):
            velocity = model(x, t.to(device), conditions)
        loss = torch.nn.functional.mse_loss(velocity.float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, config.ema, step)
        value = float(loss.detach())
        check_finite(value, "diffusion", step)
        checkpoint.history.append({"step": step, "loss": value})
        monitor.progress(step + 1, config.steps, "step", loss=value)
        if step % 20 == 0 or step == config.steps - 1:
            monitor.metrics(step, {"loss": value, "lr": optimizer.param_groups[0]["lr"]})
        checkpoint.step(step + 1)
    average.unet.save_pretrained(out / "unet")
    average.conditioner.save_pretrained(out / "conditioner")
    losses = [point["loss"] for point in checkpoint.history]
    _picture(losses, out)
    tail = float(np.mean(losses[-max(1, len(losses) // 10) :]))
    write_json(
        out / "generator.json", {"latent": list(latents.shape[1:]), "autoencoder": weights_hash(autoencoder / "model")}
    )
    figures = {"final loss": tail, "parameters": sum(p.numel() for p in model.parameters()), "steps": config.steps}
    return Summary({**figures, "training images": len(images)})


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, images: ImageSet, device: torch.device, monitor: Monitor) -> torch.Tensor:
    """Return the scaled posterior means (N, C, H, W) float32 of all images, on the CPU."""
    parts = []
    for start in range(0, len(images), 128):
        x = images.batch(np.arange(start, min(start + 128, len(images)))).to(device) * 2 - 1
        parts.append((vae.encode(x).latent_dist.mean * vae.config.scaling_factor).cpu())
        monitor.progress(start + len(x), len(images), "latent")
    return torch.cat(parts)


def _picture(losses: list[float], out: Path) -> None:
    """Save the loss curve, smoothed over a fiftieth of the run."""
    from matplotlib.figure import Figure

    from ops.data.pictures import COLOURS, save_figure

    window = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(5, 2.6))
    axes = figure.subplots()
    axes.plot(np.arange(len(smooth)) + window / 2, smooth, color=COLOURS[0])
    axes.set(xlabel="step", ylabel="loss", title="rectified-flow loss")
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out / "pictures" / "loss.png")


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of the weights in a diffusers folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Generator:
    """A trained generator, ready to sample."""

    model: LatentModel
    vae: AutoencoderKL
    latent: tuple[int, int, int]
    identity: str
    """SHA-256 of the U-Net's weights."""


def load_generator(folder: Path, autoencoder: Path, device: torch.device) -> Generator:
    """Return the generator in `folder`; raises AmalgamError if `autoencoder` is not the one it was trained with."""
    record = read_json(folder / "generator.json")
    if record["autoencoder"] != weights_hash(autoencoder / "model"):
        raise AmalgamError(
            "the diffusion model was trained with another autoencoder",
            "python -m pipelines run diffusion makes it anew",
        )
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **LOCAL)
    conditioner = Conditioner.from_pretrained(folder / "conditioner", **LOCAL)
    model = LatentModel(unet, conditioner).to(device).eval().requires_grad_(False)
    channels, height, width = record["latent"]
    vae = load_autoencoder(autoencoder, device)
    return Generator(model, vae, (channels, height, width), weights_hash(folder / "unet"))
