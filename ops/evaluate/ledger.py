"""What an evaluation remembers of each model, so that only models that changed are evaluated again."""

import hashlib
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from ops.files import content_hash


def model_ledgers(home: Path, models: Mapping[str, Path], real: Path) -> dict[str, Path]:
    """Return a folder below `home` for every model, named by its content and that of the images in `real`.

    The manifest there has the hash of every image. Code and settings are not in the name: `home` must be of just these.
    """
    manifest = (real / "manifest.parquet").read_bytes() + (real / "dataset.json").read_bytes()
    images = hashlib.sha256(manifest).hexdigest()
    ledgers = {}
    for name, folder in models.items():
        digest = hashlib.sha256(f"{content_hash(folder)} {images}".encode()).hexdigest()[:16]
        ledgers[name] = home / f"{name.replace('/', '-')}--{digest}"
        ledgers[name].mkdir(parents=True, exist_ok=True)
    return ledgers


def forget_others(home: Path, used: Collection[Path]) -> None:
    """Remove what is remembered of models that are no longer evaluated."""
    for folder in home.iterdir():
        if folder not in used:
            shutil.rmtree(folder, ignore_errors=True)
