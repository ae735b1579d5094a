"""Sampling of the planned images, shard by shard."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from ops.data.hashing import decode, decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.pictures import labelled_rows, png
from ops.data.shards import finish_shard_folder, read_shard, write_shard
from ops.errors import AmalgamError
from ops.files import read_json
from ops.generate.conditioning import gather
from ops.generate.config import SyntheticShardsConfig
from ops.generate.diffusion import Generator, load_generator
from ops.generate.flow import guided, solve
from ops.generate.text import TextTokens, encode_captions
from ops.progress import Monitor
from ops.runtime import generator as seeded
from ops.summary import Summary


def generate_shards(
    config: SyntheticShardsConfig,
    plan: Path,
    diffusion: Path,
    autoencoder: Path,
    out: Path,
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Sample every row of the plan into a shard folder (split `train`, source `synthetic`).

    The noise of an image follows from (seed, its number in the plan), so any shard can be made alone; a shard that is
    finished in `scratch` is not made again. The manifest says what made each image.
    """
    rows = pq.read_table(plan / "plan.parquet").to_pylist(maps_as_pydicts="strict")
    source = load_generator(diffusion, autoencoder, device)
    text = encode_captions(
        [r["caption"] for r in rows], source.model.conditioner.config.max_tokens, scratch, device, monitor
    )
    records: list[dict[str, Any]] = []
    (out / "train").mkdir()
    for start in range(0, len(rows), config.shard_size):
        part = rows[start : start + config.shard_size]
        name = f"train/train-{start // config.shard_size:06d}.tar"
        finished = scratch / Path(name).name
        if not finished.exists():
            images = sample_rows(config, source, part, text, device, monitor, start, len(rows))
            samples = [
                (f"{row['index']:08d}", png(Image.fromarray(image)), {"id": _identity(row), "label": row["label"]})
                for row, image in zip(part, images, strict=True)
            ]
            write_shard(finished, samples)
        shutil.copyfile(finished, out / name)
        records += _records(config, source, part, name, finished)
        monitor.progress(min(start + config.shard_size, len(rows)), len(rows), "image")
    dataset = read_json(plan / "dataset.json")
    note = "All images are synthetic; the manifest says which generator made them and from which conditioning."
    dataset = {**dataset, "notes": {**dataset["notes"], "synthetic": note}}
    finish_shard_folder(out, pa.Table.from_pylist(records, MANIFEST_SCHEMA), dataset)
    _picture(rows, out, dataset)
    return Summary({"images": len(rows), "sampler": f"{config.solver} {config.steps}", "guidance": config.guidance})


@torch.no_grad()
def sample_rows(
    config: SyntheticShardsConfig,
    source: Generator,
    rows: Sequence[dict[str, Any]],
    text: TextTokens,
    device: torch.device,
    monitor: Monitor,
    done: int = 0,
    total: int = 0,
) -> np.ndarray:
    """Return one image for each row of a plan as (N, H, W, 3) uint8; raises AmalgamError for values that are no numbers."""
    codes = source.model.conditioner.encode(rows)
    captions = text.rows([row["caption"] for row in rows])
    images = []
    for start in range(0, len(rows), config.batch):
        part = slice(start, start + config.batch)
        noise = torch.stack(
            [torch.randn(source.latent, generator=seeded(config.seed, "noise", row["index"])) for row in rows[part]]
        ).to(device)
        conditions = gather(text, captions[part], codes[part])
        none = conditions.null(source.model.conditioner.sizes).to(device)
        conditions = conditions.to(device)

        def velocity(x: torch.Tensor, t: torch.Tensor, given: Any = conditions, null: Any = none) -> torch.Tensor:
            conditional = source.model(x, t, given)
            if config.guidance == 1:
                return conditional
            return guided(conditional, source.model(x, t, null), config.guidance)

        latents = solve(velocity, noise, config.steps, heun=config.solver == "heun")
        x = source.vae.decode(latents / source.vae.config.scaling_factor).sample
        if not torch.isfinite(x).all():
            raise AmalgamError(
                "the generator made values that are no numbers", "train it again: python -m pipelines run diffusion"
            )
        x = ((x + 1) / 2).clamp(0, 1)
        images.append((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
        monitor.progress(done + min(start + config.batch, len(rows)), total or len(rows), "image")
    return np.concatenate(images)


def _identity(row: dict[str, Any]) -> str:
    return f"synthetic-{row['index']:08d}"


def _records(
    config: SyntheticShardsConfig, source: Generator, rows: Sequence[dict[str, Any]], shard: str, path: Path
) -> list[dict[str, Any]]:
    """Return the manifest rows of a finished shard."""
    data = dict(read_shard(path))
    keys = [f"{row['index']:08d}" for row in rows]
    hashes = phash(np.stack([decode_grey(data[key]) for key in keys]))
    side = decode(data[keys[0]]).shape[0]
    sampler = {"solver": config.solver, "steps": config.steps, "guidance": config.guidance}
    return [
        {
            **{name: row[name] for name in ("label", "domain", "name", "caption", "concept")},
            "attributes": sorted(row["attributes"].items()),
            "id": _identity(row),
            "shard": shard,
            "key": key,
            "split": "train",
            "source": "synthetic",
            "provenance": json.dumps(
                {"generator": source.identity, "sampler": sampler, "seed": [config.seed, row["index"]]}, sort_keys=True
            ),
            "sha256": hashlib.sha256(data[key]).hexdigest(),
            "phash": f"{value:016x}",
            "width": side,
            "height": side,
            "weight": 1.0,
        }
        for row, key, value in zip(rows, keys, hashes, strict=True)
    ]


def _picture(rows: Sequence[dict[str, Any]], out: Path, dataset: dict[str, Any]) -> None:
    """Save synthetic images by value of the sensitive attribute, from the first shard."""
    group = dataset["groups"]
    data = dict(read_shard(out / "train" / "train-000000.tar"))
    names = dataset.get("attribute_names", {}).get(group, {})
    lines: dict[str, list[np.ndarray]] = {str(v): [] for v in dataset["attributes"].get(group, [])}
    for row in rows:
        key, value = f"{row['index']:08d}", row["attributes"].get(group, "")
        if key in data and value in lines:
            lines[value].append(decode(data[key]))
    shown = {str(names.get(value, value)): np.stack(images) for value, images in lines.items() if images}
    if shown:
        labelled_rows(shown, out / "pictures" / "synthetic.png", f"synthetic images by {group}")
