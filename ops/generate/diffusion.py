"""The latent diffusion model: a network on the autoencoder's latents, told caption, label, domain and attributes."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from ops.data.loading import ImageSet, open_images, open_with_unlabelled
from ops.data.marked import refuse_marked
from ops.files import read_json, write_json
from ops.generate.backbones import LatentModel, build_backbone
from ops.generate.codec import Codec, KLCodec, PixelCodec, load_codec
from ops.generate.conditioning import Conditioner, drop, gather, vocabularies_of
from ops.generate.diffusion_pictures import draw_loss, draw_samples
from ops.generate.generator import Generator
from ops.generate.model_config import DiffusionConfig, DiTConfig
from ops.generate.objectives import column, mix, objective_of
from ops.generate.pipeline import MODEL, PromptPipeline
from ops.generate.shipping import split_hash
from ops.generate.start import fitting_start
from ops.generate.text import TextTokens, encode_captions
from ops.generate.training import check_finite, draw_batch
from ops.pace import Pace
from ops.progress import Monitor
from ops.resume import Checkpoint
from ops.runtime import derive_seed, generator
from ops.summary import Summary
from ops.train.averaging import update_average
from ops.train.schedule import autocast, warmup_cosine
from ops.train.workers import Workers

LOG_STEPS = 20


def build_model(
    config: DiffusionConfig, latent: tuple[int, int, int], vocabularies: dict[str, list[str]], width: int
) -> LatentModel:
    """Return an untrained model for latents (C, H, W) and caption tokens of `width`; weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "diffusion"))
        backbone = build_backbone(config.backbone, config.context, latent)
        conditioner = Conditioner(
            list(vocabularies),
            list(vocabularies.values()),
            config.context,
            config.backbone.embedding,
            config.max_tokens,
            config.encoder,
            width,
            isinstance(config.backbone, DiTConfig),
        )
    return LatentModel(backbone, conditioner)


@dataclass(frozen=True)
class Material:
    """What a batch is drawn from, all on the CPU."""

    latents: torch.Tensor
    """(N, C, H, W) float32; with mirrored images, theirs follow: (2 N, C, H, W)."""
    text: TextTokens
    captions: torch.Tensor
    """(N,) int64, rows of `text`."""
    codes: torch.Tensor
    """(N, F) int64."""
    weights: np.ndarray
    """(N,) float64."""
    ids: list[str]


def train_diffusion(
    config: DiffusionConfig,
    shards: Path,
    autoencoder: Path,
    out: Path,
    scratch: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    start: Path | None = None,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
) -> Summary:
    """Train on the training split of `shards` and write a diffusers pipeline `model` and the record `generator.json`.

    Images are drawn by their weight in the manifest (near-duplicates share one weight), and only the training split is
    ever seen, with the split `unlabelled` where there is one and `config.unlabelled` is true (Ktena et al. 2024): of these
    images the network is told what the manifest knows, such as the hospital, and the null of the rest. `start` is the folder
    of a shipped generator: where it learnt the same images in the same latents, training goes on from it for
    `finetune_steps`; otherwise training begins from scratch, and says so. A resumed run gives the files of an undisturbed
    one, and so do several processes up to the order of additions.

    Raises AmalgamError if a loss is not a number (with step and images), or if network and latents do not fit.
    """
    refuse_marked(read_json(shards / "dataset.json"))
    images = (open_with_unlabelled if config.unlabelled else open_images)(shards, "train", cache)
    codec = load_codec(autoencoder, device)
    vocabularies = vocabularies_of(images.table, read_json(shards / "dataset.json"))
    text = encode_captions(images.table["caption"].tolist(), config.max_tokens, cache, device, monitor, config.encoder)
    model = build_model(config, codec.latent, vocabularies, text.width).to(device)
    lineage, steps = _begin(config, model, codec, images, start, monitor)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    checkpoint = Checkpoint(scratch, {"model": model, "average": average}, optimizer)
    done = checkpoint.restore()
    workers.wait()  # nobody saves before all have read
    if done < steps:
        material = material_of(config, images, codec, text, model.conditioner, device, monitor)
        train_steps(
            config, model, average, optimizer, checkpoint, material, range(done, steps), device, monitor, workers
        )
    if not workers.leads:
        return Summary()
    return _write(config, average, codec, images, text, checkpoint.history, lineage, steps, out, cache, device, monitor)


def _begin(
    config: DiffusionConfig, model: LatentModel, codec: Codec, images: ImageSet, start: Path | None, monitor: Monitor
) -> tuple[str, int]:
    """Put the weights in place that training begins with; return what people are told of them, and the steps."""
    if start is None:
        return f"trained from scratch for {config.steps} steps", config.steps
    weights, reason = fitting_start(start, images, codec.identity, model.state_dict())
    if weights is None:
        monitor.note(f"{start.name} is not used: {reason}; training from scratch")
        return f"trained from scratch for {config.steps} steps ({start.name} was not used: {reason})", config.steps
    model.load_state_dict(weights)
    before = read_json(start / "generator.json")["lineage"]
    more = f", then {config.finetune_steps} steps here" if config.finetune_steps else ""
    monitor.note(f"started from {start.name}: {before}")
    return f"{start.name} ({before}){more}", config.finetune_steps


def material_of(
    config: DiffusionConfig,
    images: ImageSet,
    codec: Codec,
    text: TextTokens,
    conditioner: Conditioner,
    device: torch.device,
    monitor: Monitor,
) -> Material:
    """Return latents, captions and codes of `images`, computed once for the whole training."""
    latents = encode_latents(codec, images, device, monitor)
    if config.flip:
        latents = torch.cat([latents, encode_latents(codec, images, device, monitor, mirrored=True)])
    return Material(
        latents,
        text,
        text.rows(images.table["caption"].tolist()),
        conditioner.encode(images.table.to_dict("records")),
        images.table["weight"].to_numpy(np.float64),
        images.table["id"].tolist(),
    )


def train_steps(
    config: DiffusionConfig,
    model: LatentModel,
    average: LatentModel,
    optimizer: torch.optim.Optimizer,
    checkpoint: Checkpoint,
    material: Material,
    steps: range,
    device: torch.device,
    monitor: Monitor,
    workers: Workers,
) -> None:
    """Take the optimizer steps `steps`; everything random in a step follows from (seed, step)."""
    workers.check(config.batch, 1)
    objective = objective_of(config.objective)
    network: Any = torch.compile(model) if config.compile else model
    if workers.count > 1:
        network = DistributedDataParallel(network)
    pace = Pace(steps.start, steps.stop, config.batch)
    for step in steps:
        chosen = draw_batch(material.weights, config.batch, config.seed, "diffusion", step)
        rng = generator(config.seed, "diffusion noise", step)
        z = material.latents[_mirrored(chosen, len(material.weights), rng) if config.flip else chosen]
        noise = torch.randn(z.shape, generator=rng)
        level = objective.draw(len(z), rng)
        random = torch.rand(len(z), material.codes.shape[1] + 2, generator=rng)
        conditions = gather(material.text, material.captions[chosen], material.codes[chosen])
        conditions = drop(conditions, model.conditioner.sizes, config.drop, config.drop_all, random)
        z, noise, level = (workers.rows(part).to(device) for part in (z, noise, level))
        conditions = conditions.rows(workers.rows).to(device)
        seen, time = objective.inputs(mix(objective, z, noise, level), level)
        rate = config.lr * warmup_cosine(step, steps.stop)
        optimizer.param_groups[0]["lr"] = rate
        with autocast(device, config.precision):
            output = network(seen.contiguous(memory_format=torch.channels_last), time, conditions)
        error = (output.float() - objective.target(z, noise, level)).square()
        loss = (column(objective.weight(level), error) * error).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        value = float(workers.mean(loss.detach()))
        check_finite(value, "diffusion", step, [material.ids[i] for i in chosen])
        optimizer.step()
        update_average(average, model, config.ema, step)
        checkpoint.history.append({"step": step, "loss": value})
        monitor.progress(step + 1, steps.stop, "step", loss=value, **{"images/s": pace.images_per_second(step)})
        if step % LOG_STEPS == 0 or step == steps.stop - 1:
            curves = {"loss": value, "lr": rate, **pace.figures(step)}
            monitor.metrics(step, {key.replace(" ", "_"): v for key, v in curves.items()})
        if workers.leads:
            checkpoint.step(step + 1)
    workers.wait()


def _mirrored(chosen: np.ndarray, count: int, rng: torch.Generator) -> np.ndarray:
    """Return `chosen` with about half of them pointing to the mirrored latents, which follow the `count` others."""
    return chosen + count * torch.randint(0, 2, (len(chosen),), generator=rng).numpy()


def encode_latents(
    codec: Codec, images: ImageSet, device: torch.device, monitor: Monitor, *, mirrored: bool = False
) -> torch.Tensor:
    """Return the latents (N, C, H, W) float32 of all images, or of their mirror images, on the CPU."""
    parts = []
    for start in range(0, len(images), 128):
        x = images.batch(np.arange(start, min(start + 128, len(images)))).to(device)
        parts.append(codec.encode(x.flip(3) if mirrored else x).cpu())
        monitor.progress(start + len(x), len(images), "latent")
    return torch.cat(parts)


def _write(
    config: DiffusionConfig,
    average: LatentModel,
    codec: Codec,
    images: ImageSet,
    text: TextTokens,
    history: list[dict[str, Any]],
    lineage: str,
    steps: int,
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Write the pipeline, the record and pictures; return the figures."""
    average.eval()
    pixels = None
    if isinstance(codec, PixelCodec):
        mean, std = (part.flatten().tolist() for part in (codec.mean, codec.std))
        pixels = {"image_size": codec.latent[1], "mean": mean, "std": std}
    pipeline = PromptPipeline(
        average.backbone,
        average.conditioner,
        codec.model if isinstance(codec, KLCodec) else None,
        objective=config.objective.model_dump(mode="json"),
        pixels=pixels,
        codec=codec.identity,
    )
    pipeline.save_pretrained(out / MODEL, safe_serialization=True)
    made = Generator(average, codec, objective_of(config.objective))
    write_json(
        out / "generator.json",
        {
            "latent": list(codec.latent),
            "codec": codec.identity,
            "identity": made.identity,
            "lineage": lineage,
            "training split": split_hash(images),
        },
    )
    if history:
        draw_loss([point["loss"] for point in history], out / "pictures" / "loss.png")
    draw_samples(made, images, config, out / "pictures" / "samples.png", lineage, cache, device, monitor)
    losses = [point["loss"] for point in history][-max(1, len(history) // 10) :]
    figures: dict[str, int | float | str] = {"final loss": float(np.mean(losses))} if losses else {}
    figures |= {"parameters": sum(p.numel() for p in average.parameters()), "steps": steps, "lineage": lineage}
    unlabelled = int((images.labels < 0).sum())
    return Summary(
        {
            **figures,
            "training images": len(images) - unlabelled,
            **({"unlabelled images": unlabelled} if unlabelled else {}),
            "captions cut": text.cut,
            "captions with unknown words": text.unknown,
        }
    )
