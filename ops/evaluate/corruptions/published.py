"""The published files: CIFAR-10-C (arrays) and ImageNet-C (folders of images).

Nothing ties their images to the manifest of the dataset, so that they have names of their own, and the split is called
`published`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ops.data.hashing import decode
from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.images import Piece, Source, decoded_once
from ops.evaluate.predicting import chosen_places
from ops.evaluate.remembered import short_digest

SPLIT = "published"

CIFAR_COUNT = 10000
"""Images of the test split of CIFAR-10; severity s is at rows (s - 1) * 10000 and after."""

IMAGENET_C = "ImageNet-C"
"""The kind of that source."""

SUFFIXES = (".jpeg", ".jpg", ".png")


def read_published(folder: Path, config: CorruptionsConfig, classes: Sequence[str], size: int, ledger: Path) -> Source:
    """Return a seeded choice of the images in `folder`; the layout is that of CIFAR-10-C if it holds `labels.npy`.

    Args:
        folder: the unpacked download.
        config: which corruptions and severities, and how many images.
        classes: of the dataset, in their order: the labels of CIFAR-10-C are places in it, the folders of ImageNet-C
            names in it.
        size: side of the images that the models take.
        ledger: where decoded images are kept.

    Raises:
        AmalgamError: a file or folder is missing, has another shape or size, or another class.
    """
    if not folder.is_dir():
        raise AmalgamError(f"corruptions.published: there is no folder {folder.name}", "dvc pull, or correct the path")
    if (folder / "labels.npy").exists():
        return _cifar(folder, config, classes, size)
    return _imagenet(folder, config, classes, size, ledger)


def _cifar(folder: Path, config: CorruptionsConfig, classes: Sequence[str], size: int) -> Source:
    """Return images of CIFAR-10-C; only the chosen rows are read into memory."""
    names = [f"cifar-10-c-{number:05d}" for number in range(CIFAR_COUNT)]
    chosen = chosen_places(names, SPLIT, config.images, config.seed)
    table = pd.DataFrame({"id": [names[number] for number in chosen], "split": SPLIT})

    def load(piece: Piece) -> ImageSet:
        pixels, found = open_cifar_c(folder, *piece, len(classes))
        if pixels.shape[1] != size:
            raise AmalgamError(
                f"images of {folder.name} are {pixels.shape[1]} pixels wide, those of the dataset {size}",
                f"set raw_images.image_size to {pixels.shape[1]}",
            )
        return ImageSet(pixels[chosen], found[chosen], table, tuple(classes))

    pieces, chosen_names = config.pieces(), table["id"].tolist()
    digests = {
        piece: _digest(classes, chosen_names, [folder / "labels.npy", folder / f"{piece[0]}.npy"]) for piece in pieces
    }
    return Source(load(pieces[0]), pieces, load, "CIFAR-10-C", digests, lambda piece: load(piece).images[0])


def _digest(classes: Sequence[str], chosen: Sequence[str], files: Sequence[Path]) -> str:
    """Return a short hash of the choice and of the files, which are known by size and time: there can be millions."""
    found = [path.stat() if path.exists() else None for path in files]
    known = [f"{stat.st_size} {stat.st_mtime_ns}" if stat else "missing" for stat in found]
    return short_digest(*classes, "of", *chosen, "in", *known)


def open_cifar_c(root: Path, corruption: str, severity: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (10000, 32, 32, 3) uint8, mapped into memory, and labels (10000,) int64 of one severity.

    Raises AmalgamError for a missing file, another shape or type, and labels outside 0 to `classes` - 1.
    """
    arrays = []
    for name, shape in ((corruption, (32, 32, 3)), ("labels", ())):
        path = root / f"{name}.npy"
        if not path.exists():
            raise AmalgamError(
                f"{root.name} has no {path.name}", "unpack the whole archive, or leave the corruption out"
            )
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise AmalgamError(f"{root.name}/{path.name} is damaged: {error}", "download it again") from None
        expected = (5 * CIFAR_COUNT, *shape)
        if array.shape != expected or not np.issubdtype(array.dtype, np.integer):
            raise AmalgamError(
                f"{root.name}/{path.name} has shape {array.shape} and type {array.dtype}, expected is {expected}",
                "download it again: CIFAR-10-C has five severities of 10000 images",
            )
        arrays.append(array[(severity - 1) * CIFAR_COUNT : severity * CIFAR_COUNT])
    labels = np.asarray(arrays[1], np.int64)
    if not np.array_equal(labels, array[:CIFAR_COUNT]):
        raise AmalgamError(
            f"{root.name}/labels.npy differs between severities 1 and {severity}",
            "download it again: all severities have the same images in the same order",
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise AmalgamError(
            f"{root.name}/labels.npy tells of class {labels.max()}, the dataset has {classes}",
            "use the dataset CIFAR-10",
        )
    return arrays[0], labels


def _imagenet(folder: Path, config: CorruptionsConfig, classes: Sequence[str], size: int, ledger: Path) -> Source:
    """Return images of ImageNet-C; the same files of every corruption and severity."""
    names = open_imagenet_c(folder, *config.pieces()[0], classes)
    chosen = [names[number] for number in chosen_places(names, SPLIT, config.images, config.seed)]
    labels = np.array([list(classes).index(name.split("/")[0]) for name in chosen], np.int64)
    table = pd.DataFrame({"id": chosen, "split": SPLIT})

    def read_image(piece: Piece, name: str) -> np.ndarray:
        path = folder / piece[0] / str(piece[1]) / name
        if not path.exists():
            raise AmalgamError(f"{folder.name} has no {piece[0]}/{piece[1]}/{name}", "unpack all archives again")
        image = decode(path.read_bytes())
        if image.shape != (size, size, 3):
            raise AmalgamError(
                f"{piece[0]}/{piece[1]}/{name} is {image.shape[1]} x {image.shape[0]} pixels, the dataset's images "
                f"are {size} x {size}",
                "set raw_images.image_size to the side of the published images",
            )
        return image

    def read(piece: Piece) -> np.ndarray:
        pixels = np.empty((len(chosen), size, size, 3), np.uint8)
        for number, name in enumerate(chosen):
            pixels[number] = read_image(piece, name)
        return pixels

    named = ImageSet(np.empty((len(chosen), 0)), labels, table, tuple(classes))

    pieces = config.pieces()
    homes = {piece: folder / piece[0] / str(piece[1]) for piece in pieces}
    digests = {piece: _digest(classes, chosen, [home / name for name in chosen]) for piece, home in homes.items()}

    def load(piece: Piece) -> ImageSet:
        return decoded_once(named, piece, digests[piece], ledger, lambda: read(piece))

    return Source(load(pieces[0]), pieces, load, IMAGENET_C, digests, lambda piece: read_image(piece, chosen[0]))


def open_imagenet_c(root: Path, corruption: str, severity: int, classes: Sequence[str]) -> list[str]:
    """Return the images `<class>/<name>` in `<root>/<corruption>/<severity>`, sorted.

    Raises AmalgamError for a folder that is missing or empty, and for classes that the dataset does not have.
    """
    folder = root / corruption / str(severity)
    if not folder.is_dir():
        raise AmalgamError(
            f"{root.name} has no folder {corruption}/{severity}",
            "unpack that archive, or take it out of corruptions.corruptions or corruptions.severities",
        )
    names = sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    unknown = sorted({name.split("/")[0] for name in names} - set(classes))
    if unknown:
        raise AmalgamError(
            f"{root.name}/{corruption}/{severity} has classes that the dataset has not: {', '.join(unknown[:5])}",
            f"known are: {', '.join(classes[:5])}, ...; name the folders like the dataset's classes",
        )
    if not names:
        raise AmalgamError(f"{root.name}/{corruption}/{severity} holds no images", "unpack that archive again")
    return names
