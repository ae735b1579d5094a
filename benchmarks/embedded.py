"""The embedded dataset as studies see it: the shards that the default profile makes, in a folder of their own."""

import shutil
from pathlib import Path

import yaml

from ops.data.curation import curate_manifest
from ops.data.manifest import build_manifest, read_manifest
from ops.data.shards import write_real_shards
from ops.data.sources import ingest_images
from ops.progress import Silent
from pipelines.params import Params, resolve, validate
from pipelines.project import ROOT


def profile(name: str = "default") -> Params:
    """Return the parameters of a profile, whatever params.yaml holds."""
    return validate(yaml.safe_load(resolve(name)), f"profiles/{name}.yaml")


def real_shards(params: Params, home: Path) -> Path:
    """Return the folder of real shards of `params` below `home`, made by the pipeline's own ops if it is not there."""
    final = home / "real_shards"
    if final.exists():
        return final
    shutil.rmtree(home, ignore_errors=True)
    raw, manifest, curated, out = (home / n for n in ("raw_images", "manifest", "curated_manifest", "real_shards.tmp"))
    for folder in (raw, manifest, curated, out):
        folder.mkdir(parents=True)
    silent = Silent()
    ingest_images(params.raw_images, ROOT / params.raw_images.dataset, raw, silent)
    build_manifest(params.manifest, raw, manifest, silent)
    curate_manifest(params.curated_manifest, manifest, raw, curated, silent)
    write_real_shards(params.real_shards, curated, raw, out, silent)
    return out.rename(final)


def training_images(shards: Path) -> int:
    """Return how many training images there are."""
    return int((read_manifest(shards)["split"] == "train").sum())
