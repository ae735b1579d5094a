"""The diffusion model's answers to the evaluation prompts, as shard folders."""

from pathlib import Path

from ops.files import read_json
from ops.generate.prompts import NEUTRAL, PLAN
from ops.generate.shards import write_synthetic
from ops.generate.synthesis import Opening
from ops.generate.synthesis_config import SyntheticShardsConfig
from ops.launching import Launcher
from ops.progress import Monitor
from ops.sample.reading import PlanRows
from ops.summary import Summary

FOLDERS = {"diffusion": PLAN, "neutral": NEUTRAL}
"""The shard folders of this artefact, and the plan that each answers."""


def sample_prompts(
    config: SyntheticShardsConfig,
    prompts: Path,
    diffusion: Path,
    out: Path,
    scratch: Path,
    launcher: Launcher,
    monitor: Monitor,
    upsampler: Path | None = None,
) -> Summary:
    """Write `diffusion`, the answers to the prompts of the training split, and `neutral`, those to neutral ones.

    Each is a shard folder that can be read like `synthetic_shards`; what is finished in `scratch` is not made again.
    `upsampler` is the second stage of a cascade.
    """
    plans = {name: PlanRows(prompts / plan) for name, plan in FOLDERS.items()}
    opened, dataset = Opening(config, diffusion, upsampler), read_json(prompts / "dataset.json")
    for name, rows in plans.items():
        for folder in (out / name, scratch / name):
            folder.mkdir(exist_ok=True)
        write_synthetic(opened, rows, dataset, out / name, scratch / name, config.shard_size, launcher, monitor)
    lineage = read_json(diffusion / "generator.json")["lineage"]
    counts = {f"{name} images": len(rows) for name, rows in plans.items()}
    return Summary({**counts, "guidance": str(config.guidance), "generator": lineage})
