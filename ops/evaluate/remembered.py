"""What evaluations remember of models, so that a model that changed is evaluated alone.

Files are named by what their content follows from: the images, the weights, the settings. Code is not in the names: the
folder that is handed in must be of just this code.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from ops.data.loading import ImageSet
from ops.files import content_hash, replacing


def short_digest(*parts: str | int) -> str:
    """Return a short hash of texts and numbers, which depends on where one ends and the next begins."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def images_digest(images: ImageSet) -> str:
    """Return a short hash of pixels, labels, classes, ids and (where the table has them) splits, in their order."""
    pixels = np.ascontiguousarray(images.images)
    known = [column for column in ("id", "split") if column in images.table]
    return short_digest(
        hashlib.sha256(pixels.data).hexdigest(),
        json.dumps(pixels.shape),
        hashlib.sha256(np.ascontiguousarray(images.labels).data).hexdigest(),
        json.dumps([images.classes, *(images.table[column].tolist() for column in known)]),
    )


def model_folders(home: Path, models: Mapping[str, Path], *others: str | int) -> dict[str, Path]:
    """Return for every model where what is remembered of it lies below `home`.

    The name has a hash of all files of the model, and of `others` on which the answers depend: the images, or the size of
    batches, which decides what a model that draws random numbers says.
    """
    return {
        name: home / f"{name.replace('/', '-')}--{short_digest(content_hash(folder), *others)}"
        for name, folder in models.items()
    }


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array file whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def forget_others(home: Path, used: Collection[Path]) -> None:
    """Remove everything below `home` that is not one of `used` (files or folders), nor in one of them."""
    kept = set(used)
    leading = {parent for path in kept for parent in path.parents}
    for path in home.iterdir():
        if path in kept:
            continue
        if path in leading:
            forget_others(path, kept)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
