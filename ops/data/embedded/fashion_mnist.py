"""Build the embedded part of *Fashion-MNIST*: 12,000 photographs of garments.

    python -m ops.data.embedded.fashion_mnist --out data/fashion-mnist

Images and labels are real (Zalando product photographs, 28x28 grey, here padded to 32x32). `tone` is measured: the
tercile of the mean of the garment's pixels. `site` (the domain) is *simulated* by the fixed transforms of `SITES`; no
site effect was observed in the wild. Sites s3 and s4 appear in the `shift` split only. The Debian package
dataset-fashion-mnist is fetched with `apt-get download` and verified.
"""

import argparse
import gzip
import io
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ops.data.embedded.common import fetch, write_dataset
from ops.data.pictures import png
from ops.runtime import derive_seed

VERSION = "0.0~git20200523.55506a9-1"
FILE = "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb"
SHA256 = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
TERCILES = (140.7, 181.6)
"""Bounds of low, mid and high mean intensity (of pixels above 16) over the 60,000 training images."""
COUNTS = {"train": 6000, "validation": 1000, "test": 3000, "shift": 2000}
LICENCE = """Fashion-MNIST, copyright 2017 Zalando SE, https://tech.zalando.com. Licence: MIT (Expat).

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions: The above copyright notice and
this permission notice shall be included in all copies or substantial portions of the Software. THE SOFTWARE IS PROVIDED
"AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT
HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

Changed: a subset of 12,000 images, padded to 32x32, with simulated acquisition sites."""


def main() -> None:
    """Build the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where the package is, or is put")
    arguments = parser.parse_args()
    command = ["apt-get", "download", f"dataset-fashion-mnist={VERSION}"]
    archive = fetch(command, FILE, SHA256, arguments.packages)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(archive), folder], check=True)
        home = Path(folder) / "usr" / "share" / "datasets" / "fashion-mnist"
        train = read_idx(home / "train-images-idx3-ubyte.gz"), read_idx(home / "train-labels-idx1-ubyte.gz")
        test = read_idx(home / "t10k-images-idx3-ubyte.gz"), read_idx(home / "t10k-labels-idx1-ubyte.gz")
    rows = []
    for splits, prefix, (images, labels) in (
        (("train", "validation"), "train", train),
        (("test", "shift"), "t10k", test),
    ):
        order = balanced_order(labels, derive_seed("fashion-mnist", prefix))
        start = 0
        for split in splits:
            for place, index in enumerate(order[start : start + COUNTS[split]]):
                rows.append(row(images[index], int(labels[index]), f"{prefix}-{index:05d}", split, place))
            start += COUNTS[split]
    write_dataset(arguments.out, rows, describe(), {"LICENSE.txt": LICENCE})
    print(f"{len(rows)} images in {arguments.out}")


def read_idx(path: Path) -> np.ndarray:
    """Return the array in a gzipped IDX file: byte 3 is the rank, then big-endian sizes, then uint8 data."""
    data = gzip.decompress(path.read_bytes())
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def balanced_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return indices into `labels` (N,) in random order such that any prefix of whole rounds has all classes alike."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = [shuffled[labels[shuffled] == label] for label in np.unique(labels)]
    rounds = min(map(len, by_class))
    return np.stack([indices[:rounds] for indices in by_class], axis=1).ravel()


def tone_of(image: np.ndarray) -> str:
    """Return the tercile of the mean over the pixels of the garment (those above 16)."""
    garment = image[image > 16]
    mean = float(garment.mean()) if garment.size else 0.0
    return "low" if mean < TERCILES[0] else "mid" if mean < TERCILES[1] else "high"


def _gamma(image: Image.Image, gamma: float) -> Image.Image:
    return image.point([round(255 * (v / 255) ** gamma) for v in range(256)])


def _noise(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    low = 32 + 0.7 * np.asarray(image, np.float64) + rng.normal(0, 10, (image.height, image.width))
    return Image.fromarray(np.clip(low, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.point(lambda v: min(255, v + 40)).save(stream, "JPEG", quality=25)
    return Image.open(stream).convert("L")


SITES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "s0": lambda image, rng: image,
    "s1": lambda image, rng: _gamma(image.filter(ImageFilter.GaussianBlur(0.7)), 0.8),
    "s2": _noise,
    "s3": lambda image, rng: _jpeg(image),
    "s4": lambda image, rng: _gamma(image.resize((16, 16), Image.Resampling.BILINEAR).resize((32, 32)), 1.4),
}
SITES_OF = {"train": ["s0", "s0", "s0", "s1", "s2"], "shift": ["s3", "s4"]}
"""Training sites are uneven: three fifths s0."""


def row(pixels: np.ndarray, label: int, name: str, split: str, place: int) -> dict[str, Any]:
    """Return one row of the dataset; `place` is the image's number in its split."""
    sites = SITES_OF["shift"] if split == "shift" else SITES_OF["train"]
    site = sites[(place // len(CLASSES)) % len(sites)]
    rng = np.random.default_rng(derive_seed("fashion-mnist", name, site))
    image = SITES[site](Image.fromarray(np.pad(pixels, 2)), rng)
    tone = tone_of(pixels)
    return {
        "id": name,
        "image": png(image),
        "label": CLASSES[label],
        "domain": site,
        "attributes": {"tone": tone},
        "caption": CLASSES[label],
        "concept": name,
        "split": split,
        "licence": "MIT",
        "package": f"dataset-fashion-mnist {VERSION}",
    }


def describe() -> dict[str, Any]:
    """Return `dataset.json`."""
    return {
        "name": "fashion-mnist",
        "classes": CLASSES,
        "domains": sorted(SITES),
        "attributes": {"tone": ["low", "mid", "high"]},
        "attribute_phrases": {"tone": "{} tone"},
        "groups": "tone",
        "image_size": 32,
        "channels": 3,
        "licence": "MIT",
        "notes": {
            "real": "Images and labels are real (Zalando product photographs). Tone is measured on the pixels of the "
            "real image (mean of pixels above 16, terciles of the 60,000 training images); it is a property of the garment.",
            "arranged": "The site is simulated by fixed image transforms; no site effect was observed in the wild. Any "
            "correlation in the training split is made by subsampling.",
        },
    }


if __name__ == "__main__":
    main()
