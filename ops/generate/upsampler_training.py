"""Training of the model that enlarges images, and how good its enlargements are."""

import copy
from pathlib import Path

import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ops.data.loading import ImageSet, open_images, open_with_unlabelled
from ops.data.marked import refuse_marked
from ops.data.pictures import labelled_rows
from ops.files import read_json, write_json
from ops.generate.conditioning import drop, gather, vocabularies_of
from ops.generate.model_config import FlowConfig
from ops.generate.objectives import Flow, column, mix
from ops.generate.text import TextTokens, encode_captions
from ops.generate.training import check_finite, draw_batch
from ops.generate.upsampler import PARTS, UpsamplingModel, build_upsampler, deviations, enlarge, shrink
from ops.generate.upsampler_config import UpsamplerConfig, UpsamplingConfig
from ops.generate.upsampling import Upsampler, load_upsampler, upsample
from ops.pace import Pace
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import generator
from ops.summary import Summary
from ops.train.averaging import update_average
from ops.train.schedule import autocast, warmup_cosine

LOG_STEPS = 20


def train_upsampler(
    config: UpsamplerConfig, shards: Path, out: Path, scratch: Path, cache: Path, device: torch.device, monitor: Monitor
) -> Summary:
    """Train on the training split of `shards` and write `unet`, `conditioner`, `level` (diffusers folders) and a record.

    The split `unlabelled` is learnt from too, where there is one and `config.unlabelled` is true, as in `train_diffusion`.
    Small images are the real ones, shrunk by area and corrupted: s ~ U(0, max_level), z_s = (1 - s) z + s e, the forward
    process of the flow itself. Large ones follow rectified flow with logit-normal times, as in `train_diffusion`; errors of
    the velocity are weighted by `UpsamplingModel.weight`.

    Validation images, shrunk and enlarged again, are compared with bicubic enlargements of the same inputs; one
    drawn sample is measured, no mean of many, which costs PSNR against any smooth estimate.

    Raises AmalgamError if the factor does not divide the size of the images, or if a loss is no number.
    """
    dataset = read_json(shards / "dataset.json")
    refuse_marked(dataset)
    images = (open_with_unlabelled if config.unlabelled else open_images)(shards, "train", cache)
    size = images.images.shape[1]
    vocabularies = vocabularies_of(images.table, dataset)
    text = encode_captions(images.table["caption"].tolist(), config.max_tokens, cache, device, monitor, config.encoder)
    model = build_upsampler(config, size, vocabularies, text.width, *_deviations(config, images)).to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    checkpoint = Checkpoint(scratch, {"model": model, "average": average}, optimizer)
    _train(config, model, average, optimizer, checkpoint, images, text, device, monitor)
    for part in PARTS:
        getattr(average, part).save_pretrained(out / part)
    record = {"size": size, "factor": config.factor, "max_level": config.max_level}
    write_json(out / "upsampler.json", record)
    losses = [point["loss"] for point in checkpoint.history]
    figures: dict[str, float] = {"final loss": float(np.mean(losses[-max(1, len(losses) // 10) :]))}
    trained = load_upsampler(out, device)
    figures |= measure_upsampler(config, trained, open_images(shards, "validation", cache), out, cache, device, monitor)
    write_json(out / "metrics.json", figures)
    parameters = sum(p.numel() for p in model.parameters())
    unlabelled = int((images.labels < 0).sum())
    counts = {"training images": len(images) - unlabelled, **({"unlabelled images": unlabelled} if unlabelled else {})}
    return Summary({**figures, "parameters": parameters, "steps": config.steps, **counts})


def _train(
    config: UpsamplerConfig,
    model: UpsamplingModel,
    average: UpsamplingModel,
    optimizer: torch.optim.Optimizer,
    checkpoint: Checkpoint,
    images: ImageSet,
    text: TextTokens,
    device: torch.device,
    monitor: Monitor,
) -> None:
    """Take the optimizer steps that are left; everything random in a step follows from (seed, step)."""
    objective = Flow(FlowConfig())
    codes = model.conditioner.encode(images.table.to_dict("records"))
    captions = text.rows(images.table["caption"].tolist())
    weights = images.table["weight"].to_numpy(np.float64)
    ids = images.table["id"].tolist()
    done = checkpoint.restore()
    pace = Pace(done, config.steps, config.batch)
    for step in range(done, config.steps):
        chosen = draw_batch(weights, config.batch, config.seed, "upsampler", step)
        rng = generator(config.seed, "upsampler noise", step)
        pixels = images.batch(chosen)
        small = shrink(pixels, config.factor) * 2 - 1
        level = config.max_level * torch.rand(len(pixels), generator=rng)
        small = mix(objective, small, torch.randn(small.shape, generator=rng), level)
        noise = torch.randn(pixels.shape, generator=rng)
        t = objective.draw(len(pixels), rng)
        random = torch.rand(len(pixels), codes.shape[1] + 2, generator=rng)
        conditions = gather(text, captions[chosen], codes[chosen])
        conditions = drop(conditions, model.conditioner.sizes, config.drop, config.drop_all, random).to(device)
        z, noise, t, small, level = (part.to(device) for part in (pixels * 2 - 1, noise, t, small, level))
        rate = config.lr * warmup_cosine(step, config.steps)
        optimizer.param_groups[0]["lr"] = rate
        with autocast(device, config.precision):
            velocity = model(mix(objective, z, noise, t), t, small, level, conditions)
        error = (velocity.float() - objective.target(z, noise, t)).square()
        loss = (column(model.weight(t, level), error) * error).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        value = float(loss.detach())
        check_finite(value, "upsampler", step, [ids[i] for i in chosen])
        optimizer.step()
        update_average(average, model, config.ema, step)
        checkpoint.history.append({"step": step, "loss": value})
        monitor.progress(step + 1, config.steps, "step", loss=value, **{"images/s": pace.images_per_second(step)})
        if step % LOG_STEPS == 0 or step == config.steps - 1:
            curves = {"loss": value, "lr": rate, **pace.figures(step)}
            monitor.metrics(step, {key.replace(" ", "_"): v for key, v in curves.items()})
        checkpoint.step(step + 1)


def _deviations(config: UpsamplerConfig, images: ImageSet, limit: int = 512) -> tuple[float, float]:
    """Return the `deviations` of at most `limit` training images."""
    x = images.batch(np.linspace(0, len(images) - 1, min(limit, len(images))).astype(np.int64)) * 2 - 1
    side = x.shape[2] // config.factor
    noise = torch.randn((len(x), 3, side, side), generator=generator(config.seed, "upsampler deviations"))
    return deviations(x, config.factor, noise)


def measure_upsampler(
    config: UpsamplerConfig,
    upsampler: Upsampler,
    images: ImageSet,
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> dict[str, float]:
    """Return PSNR in dB and SSIM of enlarged images and of bicubic enlargements of the same small images.

    Small images are not corrupted, guidance is 1. A domain that training did not know is the null. A picture shows small,
    enlarged and real images.
    """
    conditioner = upsampler.model.conditioner
    domains = dict(zip(conditioner.names, conditioner.config["values"], strict=True))["domain"]
    chosen = np.linspace(0, len(images) - 1, min(config.validation_images, len(images))).astype(np.int64)
    rows = [
        {**row, "index": int(i), "domain": row["domain"] if row["domain"] in domains else None}
        for i, row in zip(chosen, images.table.iloc[chosen].to_dict("records"), strict=True)
    ]
    captions = [row["caption"] for row in rows]
    text = encode_captions(captions, config.max_tokens, cache, device, monitor, config.encoder)
    real = images.batch(chosen)
    small = shrink(real, upsampler.factor)
    settings = UpsamplingConfig(level=0.0, guidance=1.0, seed=config.seed)
    made = upsample(settings, upsampler, _bytes(small), rows, text, device, monitor)
    enlarged = torch.from_numpy(made).permute(0, 3, 1, 2).float() / 255
    bicubic = enlarge(small, upsampler.size).clamp(0, 1)
    pick = np.linspace(0, len(real) - 1, min(12, len(real))).astype(np.int64)
    shown = small[pick].repeat_interleave(upsampler.factor, dim=2).repeat_interleave(upsampler.factor, dim=3)
    lines = {"small": shown, "bicubic": bicubic[pick], "upsampled": enlarged[pick], "real": real[pick]}
    labelled_rows(
        {name: _bytes(x) for name, x in lines.items()},
        out / "pictures" / "upsampled.png",
        f"validation images, {upsampler.size // upsampler.factor} to {upsampler.size} pixels",
    )
    return {**_quality("upsampled", enlarged, real), **_quality("bicubic", bicubic, real)}


def _quality(name: str, x: torch.Tensor, real: torch.Tensor) -> dict[str, float]:
    ssim = structural_similarity_index_measure(x, real, data_range=1.0)
    assert isinstance(ssim, torch.Tensor)
    psnr = float(peak_signal_noise_ratio(x, real, data_range=1.0))
    return {f"{name} PSNR (dB)": round(psnr, 4), f"{name} SSIM": round(float(ssim), 5)}


def _bytes(x: torch.Tensor) -> np.ndarray:
    """Return images (N, 3, H, W) in [0, 1] as (N, H, W, 3) uint8."""
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
