"""How fast is a training step of the diffusion model? `train_steps` against the loop of `benchmarks.textbook_diffusion`.

All sides train the default profile's network from the same weights on the same batches, noise, times and drops, and must
reach the same loss in every step. They are processes that take turns (`benchmarks.turns`). The autoencoder is untrained:
its weights do not change what a step costs. Our step is timed as it is, with all that surrounds it in a training.
"""

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.embedded import profile as parameters
from benchmarks.machine import matmul_peak
from benchmarks.textbook_diffusion import encoding, keeping, textbook
from benchmarks.turns import Turn, alone, in_turns
from ops.data.loading import ImageSet, open_images
from ops.files import read_json
from ops.generate.autoencoder import build_autoencoder
from ops.generate.backbones import LatentModel
from ops.generate.codec import KLCodec, load_codec
from ops.generate.conditioning import gather, vocabularies_of
from ops.generate.diffusion import Material, build_model, material_of, train_steps
from ops.generate.model_config import DiffusionConfig, FlowConfig
from ops.generate.normalisation import latent_statistics, normalise_latents
from ops.generate.text import TextTokens, encode_captions
from ops.progress import Monitor, Silent
from ops.resume import Checkpoint
from ops.runtime import configure_torch
from ops.train.workers import Workers

SIDES = ("ours", "textbook", "textbook with kept latents")
IMAGES = 512
"""Of the training split; what a step costs does not depend on how many there are."""
TOLERANCE = 1e-3
"""Largest relative difference of the losses in any step: we keep caption tokens in half precision."""
CPU = torch.device("cpu")
KINDS = {
    "convolutions": ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::_slow_conv2d_forward"),
    "products of matrices": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu",),
    "norms and activations": ("aten::native_group_norm", "aten::native_layer_norm", "aten::silu", "aten::gelu"),
    "copies": ("aten::copy_", "aten::cat"),
    "optimizer and average": ("aten::_fused_adamw_", "aten::lerp_", "aten::linalg_vector_norm"),
}
"""The operations whose own time is counted together, with their backward passes; the rest is `everything else`."""


@dataclass(frozen=True)
class Study:
    """What all sides begin with."""

    config: DiffusionConfig
    images: ImageSet
    codec: KLCodec
    text: TextTokens
    model: LatentModel

    def material(self) -> Material:
        """Return what our training is made of."""
        return material_of(self.config, self.images, self.codec, self.text, self.model.conditioner, CPU, Silent())


def open_study(config: DiffusionConfig, shards: Path, home: Path) -> Study:
    """Return the study of `shards`; `home` keeps its autoencoder, which is made if it is not there, and its captions."""
    images = open_images(shards, "train", home / "cache")
    images = images.subset(np.arange(min(IMAGES, len(images))))
    if not (home / "autoencoder" / "model").exists():
        made = build_autoencoder(parameters().autoencoder, images.images.shape[1])
        normalise_latents(made, *latent_statistics(made, [images.batch(np.arange(min(128, len(images)))) * 2 - 1]))
        made.save_pretrained(home / "autoencoder" / "model")
    codec = load_codec(home / "autoencoder", CPU)
    assert isinstance(codec, KLCodec)
    captions = images.table["caption"].tolist()
    text = encode_captions(captions, config.max_tokens, home / "cache", CPU, Silent(), config.encoder)
    vocabularies = vocabularies_of(images.table, read_json(shards / "dataset.json"))
    model = build_model(config, codec.latent, vocabularies, text.width)
    # the last layer starts at zero, and then the first losses would say nothing of the network
    last = model.backbone.get_parameter("conv_out.weight")
    nn.init.normal_(last, std=0.05, generator=torch.Generator().manual_seed(0))
    return Study(config, images, codec, text, model)


def work(turn: Turn, side: str, shards: Path, home: Path) -> None:
    """Take the steps of one side."""
    configure_torch()
    study = open_study(parameters().diffusion, shards, home)
    if side == "ours":
        return train(study, study.material(), range(study.config.steps), Paced(turn))
    step = textbook_of(study, side)
    for number in range(study.config.steps):
        turn.begin()
        turn.end(loss=step(number))


def textbook_of(study: Study, side: str) -> Callable[[int], float]:
    """Return the step of one of the textbook's sides."""
    material = study.material()
    anew = encoding(study.images, study.codec, study.config.max_tokens)
    prepare = anew if side == "textbook" else keeping(material)
    return textbook(study.config, study.model, material.codes, material.weights, prepare)


def train(study: Study, material: Material, steps: range, monitor: Monitor) -> None:
    """Take `steps` as `train_diffusion` does."""
    config, model = study.config, copy.deepcopy(study.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    with TemporaryDirectory() as scratch:
        checkpoint = Unsaved(Path(scratch), {"model": model, "average": average}, optimizer)
        train_steps(config, model, average, optimizer, checkpoint, material, steps, CPU, monitor, Workers())


class Unsaved(Checkpoint):
    """A training that is not saved: the textbook's is not, and how often ours is follows from a clock that never stops."""

    def step(self, done: int) -> None:
        """Do nothing."""


class Paced(Silent):
    """A monitor that lets a training take one step in each turn."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._turn.begin()

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Say what the step took, and wait for the next turn."""
        self._turn.end(loss=figures["loss"])
        self._turn.begin()


def measure(shards: Path, home: Path, rounds: int) -> dict[str, Any]:
    """Return medians of all sides over rounds in which they take turns; raises RuntimeError if their losses differ."""
    flops, time_shares = alone(prepare, shards, home)
    peaks = [alone(matmul_peak)]
    found = in_turns(work, {side: (side, shards, home) for side in SIDES}, rounds)
    peaks.append(alone(matmul_peak))
    losses = {side: [line["loss"] for line in lines] for side, lines in found.items()}
    apart = {side: difference(losses["ours"], losses[side]) for side in SIDES[1:]}
    if not max(apart.values()) <= TOLERANCE:
        raise RuntimeError(f"the losses of the sides differ by {apart}: {losses}")
    timed = {side: [line["seconds"] for line in lines[1:]] for side, lines in found.items()}
    seconds = {side: statistics.median(values) for side, values in timed.items()}
    core_seconds = {
        side: statistics.median(line["core seconds"] for line in lines[1:]) for side, lines in found.items()
    }
    ratios = {side: [a / b for a, b in zip(timed[side], timed["ours"], strict=True)] for side in SIDES[1:]}
    batch, peak = parameters().diffusion.batch, max(peaks)
    rates = {side: round(sum(flops.values()) / seconds[side] / 1e9, 1) for side in SIDES}
    return {
        "name": "generation training",
        "ratio": round(seconds["textbook"] / seconds["ours"], 2),
        "ours": round(batch / seconds["ours"], 1),
        "baseline": round(batch / seconds["textbook"], 1),
        "unit": "images/s",
        "n": rounds,
        "batch": batch,
        "images/s": {side: round(batch / value, 1) for side, value in seconds.items()},
        "ratios": {side: round(seconds[side] / seconds["ours"], 2) for side in SIDES[1:]},
        "ratios of a round": {side: [round(min(v), 2), round(max(v), 2)] for side, v in ratios.items()},
        "ratios of core seconds": {s: round(core_seconds[s] / core_seconds["ours"], 2) for s in SIDES[1:]},
        "loss difference": {side: float(f"{value:.1e}") for side, value in apart.items()},
        "matmul GFLOP/s": round(peak, 1),
        "GFLOP of a step": round(sum(flops.values()) / 1e9, 2),
        "GFLOP/s of the network": rates,
        "share of peak": {side: round(rate / peak, 3) for side, rate in rates.items()},
        "share of time": {kind: round(share, 3) for kind, (share, _) in time_shares.items()},
        "GFLOP/s by kind": {
            kind: round(flops[kind] / time_shares[kind][1] / 1e9, 1) for kind in flops if flops[kind] > 0
        },
        "peak memory GiB": {side: round(lines[-1]["memory"], 2) for side, lines in found.items()},
    }


def difference(losses: list[float], others: list[float]) -> float:
    """Return the largest relative difference in any step."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, others, strict=True))


def prepare(shards: Path, home: Path) -> tuple[dict[str, int], dict[str, tuple[float, float]]]:
    """Make what the sides open; return a step's operations by kind, and the share and the seconds that each kind takes."""
    configure_torch()
    study = open_study(parameters().diffusion, shards, home)
    assert isinstance(study.config.objective, FlowConfig), "the textbook knows rectified flow only"
    return operations(study), where_the_time_goes(study)


def operations(study: Study) -> dict[str, int]:
    """Return the operations of a batch's step, forward and backward.

    Products inside of attention, few here, are not counted by torch.
    """
    rows = np.arange(study.config.batch)
    material = study.material()
    conditions = gather(material.text, material.captions[rows], material.codes[rows])
    with FlopCounterMode(display=False) as counter:
        study.model(material.latents[rows], torch.zeros(len(rows)), conditions).sum().backward()
    counts = {f"{operation}": count for operation, count in counter.get_flop_counts()["Global"].items()}
    convolutions = sum(count for name, count in counts.items() if "convolution" in name)
    return {"convolutions": convolutions, "products of matrices": sum(counts.values()) - convolutions}


def where_the_time_goes(study: Study, steps: int = 6) -> dict[str, tuple[float, float]]:
    """Return the share and the seconds of our step that go to each kind of operation, seen by torch's profiler."""
    material = study.material()
    train(study, material, range(2), Silent())
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        train(study, material, range(steps), Silent())
    seconds = dict.fromkeys([*KINDS, "everything else"], 0.0)
    for event in profiler.key_averages():
        seconds[kind_of(event.key)] += event.self_cpu_time_total / 1e6 / steps
    return {kind: (value / sum(seconds.values()), value) for kind, value in seconds.items()}


def kind_of(operation: str) -> str:
    """Return the kind of an operation of torch."""
    plain = operation.removesuffix("_backward")
    return next((k for k, names in KINDS.items() if plain in names or operation in names), "everything else")
