"""How fast are samples of equal quality? `sample_rows` with DPM-Solver++ against the stock pipelines of diffusers.

One network, trained by `train_diffusion` on the embedded images at 16x16 pixels: v prediction on the cosine schedule, in
pixels from -1 to 1, as the stock pipelines assume. All samplers use the same weights with all conditions dropped, and
bound the predicted image to [-1, 1]; DDIM and our solver begin with the same noise. They take turns, a batch each. Their
images are compared with the real ones by the Fréchet distance in principal components of pixels.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stock_sampling import ddim, ddpm, to_bytes
from benchmarks.study_folders import Writer, built, portions
from ops.config import Config
from ops.data.loading import open_images
from ops.evaluate.intervals import Interval, bootstrap
from ops.files import read_json
from ops.generate.codec import save_pixel_codec
from ops.generate.diffusion import train_diffusion
from ops.generate.generator import Generator
from ops.generate.model_config import DDPMConfig, DiffusionConfig, UNetConfig
from ops.generate.pipeline import MODEL, load_generator
from ops.generate.quality.encoders import pca_space
from ops.generate.quality.frechet import Gaussian, distance, gaussian
from ops.generate.sampler_config import SamplerConfig
from ops.generate.sampling import sample_rows
from ops.generate.text import encode_captions
from ops.progress import Monitor, Silent
from ops.runtime import configure_torch, derive_seed, generator

SIDE = 16
CPU = torch.device("cpu")
STOCK = {"DDPMPipeline, 1000 steps": 1000, "DDIMPipeline, 50 steps": 50}
GOALS = dict(zip(STOCK, (20.0, 4.0), strict=True))
STEPS = (8, 10, 12, 16, 20)
BATCHES = (16, 64, 256)
"""Other sizes of our batches, for people to see what they change."""

Draw = Callable[[range], np.ndarray]
"""From the numbers of images to images (B, H, W, 3) uint8."""


class Plan(Config):
    """How much is trained and sampled."""

    channels: list[int] = [16, 32]
    head_width: int = 16
    train_steps: int = 1500
    batch: int = 128
    """Images that a sampler makes in a round."""
    rounds: int = 3
    components: int = 32
    replicates: int = 500
    steps: tuple[int, ...] = STEPS
    batches: tuple[int, ...] = BATCHES


QUICK = Plan(
    channels=[8, 16], head_width=8, train_steps=20, batch=16, rounds=1, components=4, replicates=50,
    steps=(8, 20), batches=(4,),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a sampler did: its images, in order, and the seconds and core seconds of each round."""

    images: np.ndarray
    seconds: list[float]
    core_seconds: list[float]

    @property
    def rate(self) -> float:
        """The median of the rounds, in images per second."""
        return len(self.images) / len(self.seconds) / statistics.median(self.seconds)


def measure(shards: Path, home: Path, plan: Plan, monitor: Monitor) -> dict[str, Any]:
    """Return rates, distances and, for each stock pipeline, our fewest steps of equal quality."""
    configure_torch()
    small = shrunk(shards, home / "shards")
    source = trained(small, home, plan, monitor)
    real = np.asarray(open_images(small, "train", home / "cache").images)
    found = in_rounds(samplers(source, plan, home), plan, monitor)
    space = pca_space(real, plan.components, plan.batch, 0)
    reference = gaussian(space.encode(real))
    features = {name: space.encode(outcome.images) for name, outcome in found.items()}
    lines = {
        name: {
            "images/s": outcome.rate,
            "core hours of a million": sum(outcome.core_seconds) / len(outcome.images) * 1e6 / 3600,
            "FD": distance(gaussian(features[name]), reference),
        }
        for name, outcome in found.items()
    }
    against = {name: compared(name, found, features, reference, plan) for name in STOCK}
    some = np.random.default_rng(0).permutation(len(real))[: plan.batch * plan.rounds]
    fewest = next((each["steps"] for each in against.values() if each["steps"]), plan.steps[-1])
    return {
        "n": plan.batch * plan.rounds,
        "rounds": plan.rounds,
        "batch": plan.batch,
        "parameters": sum(p.numel() for p in source.model.parameters()),
        "training steps": plan.train_steps,
        "space": f"{plan.components} principal components of pixels",
        "real images": len(real),
        "FD of real images": distance(gaussian(space.encode(real[some])), reference),
        "samplers": lines,
        "against": against,
        "images/s by batch": {str(batch): rate_of(source, fewest, batch, plan, home) for batch in plan.batches},
        "steps of these": fewest,
    }


def shrunk(shards: Path, out: Path) -> Path:
    """Write the training images of `shards`, shrunk by area, as shards of their own; their captions are their labels."""
    with built(out, {"side": SIDE}) as folder:
        if folder is not None:
            images = open_images(shards, "train", out.parent / "cache")
            times = images.images.shape[1] // SIDE
            writer = Writer(folder, "drawings")
            for rows in portions(np.arange(len(images))):
                tiles = images.images[rows].reshape(len(rows), SIDE, times, SIDE, times, 3)
                table = images.table.iloc[rows]
                records = [
                    {"id": i, "label": label, "name": label, "caption": label, "provenance": "", "weight": weight}
                    for i, label, weight in zip(table["id"], table["label"], table["weight"], strict=True)
                ]
                writer.write("train", tiles.mean(axis=(2, 4)).round().astype(np.uint8), records)
            notes = read_json(shards / "dataset.json")["notes"]
            writer.finish({"name": "small", "classes": list(images.classes), "image_size": SIDE, "notes": notes})
    return out


def trained(shards: Path, home: Path, plan: Plan, monitor: Monitor) -> Generator:
    """Return the generator of `plan`, trained if `home` does not hold it; a killed training goes on where it was."""
    backbone = UNetConfig(channels=plan.channels, head_width=plan.head_width)
    config = DiffusionConfig(
        backbone=backbone, objective=DDPMConfig(), context=32, max_tokens=4, steps=plan.train_steps, lr=2e-3, ema=0.998
    )
    name = "-".join(map(str, [*plan.channels, plan.train_steps]))
    codec, out, scratch = (home / f"{kind}-{name}" for kind in ("codec", "diffusion", "scratch"))
    if not (out / MODEL / "model_index.json").exists():
        for folder in (codec, out, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        save_pixel_codec(codec, SIDE, [0.5] * 3, [0.5] * 3)
        train_diffusion(config, shards, codec, out, scratch, home / "cache", CPU, monitor)
    return load_generator(out, CPU)


def samplers(source: Generator, plan: Plan, home: Path) -> dict[str, Draw]:
    """Return all samplers by name."""
    stock_ddpm, stock_ddim = ddpm(source), ddim(source)

    def draw_ddpm(numbers: range) -> np.ndarray:
        rng = generator(0, "stock", numbers.start)
        return to_bytes(stock_ddpm(len(numbers), generator=rng, output_type="np").images)

    def draw_ddim(numbers: range) -> np.ndarray:
        rngs = [generator(0, "noise", number) for number in numbers]
        return to_bytes(stock_ddim(len(numbers), generator=rngs, num_inference_steps=50, output_type="np").images)

    ours = {label(steps): ours_of(source, steps, plan.batch, home) for steps in plan.steps}
    return dict(zip(STOCK, (draw_ddpm, draw_ddim), strict=True)) | ours


def label(steps: int) -> str:
    """Return the name of our sampler."""
    return f"ours, {steps} steps"


def ours_of(source: Generator, steps: int, batch: int, home: Path) -> Draw:
    """Return our sampler: `sample_rows` with rows that name nothing."""
    config = SamplerConfig(steps=steps, solver="dpm++", guidance=1.0, clip=1.0, batch=batch)
    given = source.model.conditioner.config
    text = encode_captions([""], given["max_tokens"], home / "cache", CPU, Silent(), given["encoder"])
    row: dict[str, Any] = {"caption": "", "label": None, "domain": None, "attributes": {}}

    def draw(numbers: range) -> np.ndarray:
        return sample_rows(config, source, [{**row, "index": number} for number in numbers], text, CPU, Silent())

    return draw


def in_rounds(draws: Mapping[str, Draw], plan: Plan, monitor: Monitor) -> dict[str, Outcome]:
    """Return what all samplers do when they take turns, after a batch of each but the longest that does not count."""
    for name, draw in draws.items():
        if STOCK.get(name, 0) < 100:
            draw(range(plan.batch))
    found: dict[str, list[tuple[np.ndarray, float, float]]] = {name: [] for name in draws}
    for number in range(plan.rounds):
        for name, draw in draws.items():
            found[name].append(timed(draw, range(number * plan.batch, (number + 1) * plan.batch)))
        monitor.progress(number + 1, plan.rounds, "round")
    return {
        name: Outcome(np.concatenate([i for i, _, _ in rounds]), [s for _, s, _ in rounds], [c for _, _, c in rounds])
        for name, rounds in found.items()
    }


def timed(draw: Draw, numbers: range) -> tuple[np.ndarray, float, float]:
    """Return the images, and the seconds and core seconds that they took."""
    wall, cores = time.perf_counter(), time.process_time()
    images = draw(numbers)
    return images, time.perf_counter() - wall, time.process_time() - cores


def compared(
    stock: str, found: Mapping[str, Outcome], features: Mapping[str, np.ndarray], reference: Gaussian, plan: Plan
) -> dict[str, Any]:
    """Return our distances against those of a stock pipeline, our fewest steps of equal quality, and their ratio.

    We are equal with a number of steps where our distance is not larger by more than the interval allows, and with no
    larger number of steps either.
    """
    seeds = {steps: derive_seed(0, stock, steps) for steps in plan.steps}
    further = {
        steps: how_much_further(features[label(steps)], features[stock], reference, plan.replicates, seeds[steps])
        for steps in plan.steps
    }
    worse = [steps for steps, (_, low, _) in further.items() if low > 0]
    equal = [steps for steps in plan.steps if steps > max(worse, default=0)]
    result: dict[str, Any] = {
        "FD further away": {str(steps): [round(value, 4) for value in each] for steps, each in further.items()},
        "steps": min(equal, default=None),
    }
    if equal:
        mine = found[label(min(equal))]
        ratios = [theirs / ours for theirs, ours in zip(found[stock].seconds, mine.seconds, strict=True)]
        result["ratio"] = round(statistics.median(found[stock].seconds) / statistics.median(mine.seconds), 2)
        result["ratios of a round"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return result


def how_much_further(ours: np.ndarray, theirs: np.ndarray, reference: Gaussian, replicates: int, seed: int) -> Interval:
    """Return by how much `ours` (N, D) is further from `reference` than `theirs`, with a bootstrap interval.

    Row i of both is resampled together: it may begin with the same noise. What repeated images add to a distance, they
    add to both.
    """

    def further(pairs: np.ndarray) -> np.ndarray:
        return np.array(
            [distance(gaussian(p[:, 0]), reference) - distance(gaussian(p[:, 1]), reference) for p in pairs]
        )

    return bootstrap(further, np.stack([ours, theirs], axis=1), np.zeros(len(ours)), replicates, seed)


def rate_of(source: Generator, steps: int, batch: int, plan: Plan, home: Path) -> float:
    """Return our images per second in batches of that size, the median of the rounds."""
    draw = ours_of(source, steps, batch, home)
    count = max(batch, plan.batch)
    return count / statistics.median(timed(draw, range(count))[1] for _ in range(plan.rounds))
