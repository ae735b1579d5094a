"""What a million samples cost, and what memory they need: `generate_shards`, the op of the stage `synthetic_shards`.

Both start from a plan and end with shards. Cost is that of the default profile's network and sampler; memory is the peak
of a process that writes so many images of a tiny network in one step, of which only a constant depends on the network.
Both networks are untrained, which costs the same. Start-up (reading weights, encoding captions) is taken off: cost is the
difference of two runs.
"""

import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.embedded import profile
from benchmarks.generation_training import IMAGES, open_study
from benchmarks.turns import alone
from ops.data.manifest import read_manifest
from ops.files import read_json, write_json
from ops.generate.backbones import LatentModel
from ops.generate.codec import KLCodec
from ops.generate.conditioning import vocabularies_of
from ops.generate.diffusion import build_model
from ops.generate.model_config import DiffusionConfig, UNetConfig
from ops.generate.pipeline import MODEL, PromptPipeline
from ops.generate.synthesis import generate_shards
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.launching import Here
from ops.progress import Silent
from ops.runtime import configure_torch
from ops.sample.schema import ROW_SCHEMA

MILLION = 1_000_000
TINY = DiffusionConfig(backbone=UNetConfig(channels=[8, 16], head_width=8), context=8, max_tokens=4)
SIDE = 16
CHEAP = SyntheticShardsConfig(steps=1, solver="euler", guidance=1.0, shard_size=250)
FLAT = 0.02
"""Memory counts as flat if the largest run needs no more than this share above the second."""


def measure(shards: Path, home: Path, counts: tuple[int, ...], images: tuple[int, int]) -> dict[str, Any]:
    """Return cost from runs of two numbers of `images`, and memory from runs of the numbers `counts`."""
    sampler = profile().synthetic_shards.model_copy(update={"shard_size": images[0]})
    few, many = alone(priced, shards, home, sampler, images)
    wall, cores = ((many[key] - few[key]) / (images[1] - images[0]) for key in ("seconds", "core seconds"))
    runs = [alone(written, shards, home / "tiny", CHEAP, count) for count in counts]
    peaks = [run["peak memory MiB"] for run in runs]
    growth = float(np.polyfit(counts, peaks, 1)[0])
    return {
        "sampler": f"{sampler.solver}, {sampler.steps} steps, guidance {sampler.guidance}",
        "images/s": round(1 / wall, 2),
        "hours of a million": round(MILLION * wall / 3600, 2),
        "core hours of a million": round(MILLION * cores / 3600, 2),
        "core hours of writing a million": round(
            MILLION * (runs[-1]["core seconds"] - runs[0]["core seconds"]) / (counts[-1] - counts[0]) / 3600, 2
        ),
        "peak memory MiB": {str(count): round(peak, 1) for count, peak in zip(counts, peaks, strict=True)},
        "growth KiB an image": round(1024 * growth, 2),
        "growth GiB of a million": round(MILLION * growth / 1024, 2),
        "flat": peaks[-1] <= (1 + FLAT) * peaks[-2],
    }


def priced(
    shards: Path, home: Path, config: SyntheticShardsConfig, images: tuple[int, int]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return what writing two numbers of images with the default profile's network takes."""
    save_networks(shards, home)
    few, many = (written(shards, home / "default", config, count) for count in images)
    return few, many


def save_networks(shards: Path, home: Path) -> None:
    """Write untrained generators to the folders `default` and `tiny`, as the stage `diffusion` does."""
    study = open_study(profile().diffusion, shards, home)
    save(study.config, study.model, home / "default", codec=study.codec)
    vocabularies = vocabularies_of(study.images.table, read_json(shards / "dataset.json"))
    save(TINY, build_model(TINY, (3, SIDE, SIDE), vocabularies, study.text.width), home / "tiny", codec=None)


def save(config: DiffusionConfig, model: LatentModel, out: Path, codec: KLCodec | None) -> None:
    """Write the pipeline and what `generate_shards` reads of the record; without a codec, for pixels from -1 to 1."""
    pixels = {"image_size": SIDE, "mean": [0.5] * 3, "std": [0.5] * 3}
    pipeline = PromptPipeline(
        model.backbone,
        model.conditioner,
        codec.model if codec else None,
        objective=config.objective.model_dump(mode="json"),
        pixels=None if codec else pixels,
        codec=codec.identity if codec else "pixels",
    )
    pipeline.save_pretrained(out / MODEL, safe_serialization=True)
    write_json(out / "generator.json", {"lineage": "untrained"})


def written(shards: Path, diffusion: Path, config: SyntheticShardsConfig, count: int) -> dict[str, float]:
    """Write `count` images of the generator in `diffusion`; return seconds, core seconds and the peak in MiB."""
    configure_torch()
    with TemporaryDirectory() as home:
        plan, out, scratch = (Path(home) / name for name in ("plan", "out", "scratch"))
        for folder in (plan, out, scratch):
            folder.mkdir()
        write_plan(shards, plan, count)
        wall, cpu = time.perf_counter(), time.process_time()
        generate_shards(config, plan, diffusion, out, scratch, Here(torch.device("cpu")), Silent())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"images": count, "seconds": wall, "core seconds": cpu, "peak memory MiB": peak}


def write_plan(shards: Path, plan: Path, count: int) -> None:
    """Write a plan of `count` rows after training images that the networks know, over and over; a thousand are in memory."""
    table = read_manifest(shards)
    named = [name for name in ROW_SCHEMA.names if name != "index"]
    models = table[table["split"] == "train"].iloc[:IMAGES][named].to_dict("records")
    with pq.ParquetWriter(plan / "plan.parquet", ROW_SCHEMA, compression="zstd") as writer:
        for start in range(0, count, 1000):
            rows = [{**models[i % len(models)], "index": i} for i in range(start, min(start + 1000, count))]
            rows = [{**row, "attributes": sorted(row["attributes"].items())} for row in rows]
            writer.write_table(pa.Table.from_pylist(rows, ROW_SCHEMA))
    write_json(plan / "dataset.json", read_json(shards / "dataset.json"))
