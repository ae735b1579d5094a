"""The diffusion model's answers to the evaluation prompts, as shard folders."""

from pathlib import Path

import pyarrow.parquet as pq
import torch

from ops.files import read_json
from ops.generate.prompts import NEUTRAL, PLAN
from ops.generate.shards import write_synthetic
from ops.generate.synthesis import open_source
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.progress import Monitor
from ops.summary import Summary

FOLDERS = {"diffusion": PLAN, "neutral": NEUTRAL}
"""The shard folders of this artefact, and the plan that each answers."""


def sample_prompts(
    config: SyntheticShardsConfig,
    prompts: Path,
    diffusion: Path,
    out: Path,
    scratch: Path,
    device: torch.device,
    monitor: Monitor,
    upsampler: Path | None = None,
) -> Summary:
    """Write `diffusion`, the answers to the prompts of the training split, and `neutral`, those to neutral ones.

    Each is a shard folder that can be read like `synthetic_shards`; what is finished in `scratch` is not made again.
    `upsampler` is the second stage of a cascade.
    """
    plans = {name: pq.read_table(prompts / plan).to_pylist(maps_as_pydicts="strict") for name, plan in FOLDERS.items()}
    captions = [row["caption"] for rows in plans.values() for row in rows]
    source = open_source(config, diffusion, upsampler, captions, scratch, device, monitor)
    for name, rows in plans.items():
        for folder in (out / name, scratch / name):
            folder.mkdir(exist_ok=True)
        write_synthetic(
            source, rows, read_json(prompts / "dataset.json"), out / name, scratch / name, config.shard_size, monitor
        )
    lineage = read_json(diffusion / "generator.json")["lineage"]
    counts = {f"{name} images": len(rows) for name, rows in plans.items()}
    return Summary({**counts, "guidance": str(config.guidance), "generator": lineage})
