"""Tiny shard folders made from drawn shapes, and a monitor that keeps what it hears."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ops.data.hashing import decode_grey, phash
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.pictures import png
from ops.data.shards import finish_shard_folder, write_shard

DATASET = {
    "name": "shapes",
    "classes": ["bar", "disc"],
    "domains": ["paper", "slate"],
    "attributes": {"tone": ["0", "1"]},
    "groups": "tone",
    "image_size": 32,
    "channels": 3,
    "licence": "none",
    "notes": {"real": "drawn by a test", "arranged": "nothing"},
}


class Recorder:
    """A monitor that remembers; it can raise after a number of steps, as a kill would."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls, self.points, self.notes = 0, [], []
        self.stop_after = stop_after

    def progress(self, done, total, unit="it", **figures):
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt

    def metrics(self, step, values):
        self.points.append((step, values))

    def note(self, message):
        self.notes.append(message)


def shape(label: str, tone: str, rng: np.random.Generator) -> np.ndarray:
    """Return a 32x32 RGB picture of a bar or a disc at a random place."""
    y, x = np.mgrid[:32, :32]
    cy, cx = rng.integers(10, 22, 2)
    inside = (abs(y - cy) < 4) & (abs(x - cx) < 12) if label == "bar" else (y - cy) ** 2 + (x - cx) ** 2 < 64
    image = np.full((32, 32, 3), 250, np.float64)
    image[inside] = [60, 90, 200] if tone == "0" else [200, 110, 40]
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def make_shards(out: Path, counts: dict[str, int], seed: int = 0, source: str = "real") -> Path:
    """Write a shard folder with `counts` images in each split."""
    rng = np.random.default_rng(seed)
    rows = []
    for split, count in counts.items():
        (out / split).mkdir(parents=True)
        samples = []
        for number in range(count):
            label, tone = DATASET["classes"][number % 2], str(number // 2 % 2)
            data = png(Image.fromarray(shape(label, tone, rng)))
            key, identity = f"{number:08d}", f"{source}-{split}-{number}"
            samples.append((key, data, {"id": identity, "label": label}))
            rows.append(
                {
                    "id": identity,
                    "shard": f"{split}/{split}-000000.tar",
                    "key": key,
                    "label": label,
                    "domain": DATASET["domains"][number % 3 % 2],
                    "attributes": [("tone", tone)],
                    "split": split,
                    "name": label,
                    "caption": f"a {label}",
                    "concept": identity,
                    "source": source,
                    "provenance": "",
                    "sha256": f"{rng.integers(2**62):064x}",
                    "phash": f"{int(phash(decode_grey(data)[None])[0]):016x}",
                    "width": 32,
                    "height": 32,
                    "weight": 1.0,
                }
            )
        write_shard(out / split / f"{split}-000000.tar", samples)
    finish_shard_folder(out, pa.Table.from_pylist(rows, MANIFEST_SCHEMA), json.loads(json.dumps(DATASET)))
    return out


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "real_shards"
    return make_shards(folder, {"train": 96, "validation": 32, "test": 48})


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "synthetic_shards"
    return make_shards(folder, {"train": 40}, seed=1, source="synthetic")


@pytest.fixture
def folders(tmp_path):
    """Return a function that makes empty folders by name."""

    def make(*names: str) -> list[Path]:
        made = [tmp_path / name for name in names]
        for folder in made:
            folder.mkdir(parents=True, exist_ok=True)
        return made

    return make


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def recorder_type():
    return Recorder


@pytest.fixture
def shard_maker():
    return make_shards
