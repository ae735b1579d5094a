"""What evaluations that only ask models remember, so that a model that changed is asked alone.

Files are named by what their content follows from: the images, the weights, the settings. Code is not in the names: the
folder that is handed in must be of just this code.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from ops.data.loading import ImageSet
from ops.files import content_hash


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


def answer_folders(home: Path, models: Mapping[str, Path], batch: int) -> dict[str, Path]:
    """Return for every model where its answers lie below `home`.

    The name has a hash of all files of the model and of `batch`, which decides what a model that draws random numbers says.
    """
    return {
        name: home / f"{name.replace('/', '-')}--{short_digest(content_hash(folder), batch)}"
        for name, folder in models.items()
    }


def keep_only(home: Path, used: Collection[Path]) -> None:
    """Remove all files below `home` but those in `used`, and the folders that this leaves empty."""
    for path in sorted(home.rglob("*"), reverse=True):  # what is in a folder comes before the folder
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in used:
            path.unlink()
