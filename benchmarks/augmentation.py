"""How fast is a batch of images padded, cropped, mirrored and mixed? Whole batches against the textbook's loop.

    python -m benchmarks.augmentation --json [--quick]

Both sides start from a batch of 128 images (32, 32, 3) uint8 and end with float32 images in [0, 1] and mixed targets:
4 pixels of padding, random crop, mirror images, CutMix with lambda ~ Beta(1, 1) and one box. Ours is `augment`, in the
channels_last format that training wants. The baseline does what the public loaders do in each of their workers: every
image becomes a PIL picture, is changed alone, turned into a tensor and stacked; CutMix follows on the batch. One
process and one thread each, in turns; images per second are medians over rounds.
"""

import argparse
import json
import random
from collections.abc import Callable

from ops.runtime import prepare_threads

prepare_threads(1)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402

from benchmarks.layers import median_milliseconds  # noqa: E402
from ops.train.augmentation.apply import augment  # noqa: E402
from ops.train.augmentation.config import Augmentation, Mixing  # noqa: E402

BATCH, SIDE, CLASSES, MARGIN = 128, 32, 10, 4
ROUNDS, QUICK_ROUNDS = 300, 40
WARM_UP = 5
Batch = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a sentence")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    arguments = parser.parse_args()
    found = measure(QUICK_ROUNDS if arguments.quick else ROUNDS)
    if arguments.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['ours']:,.0f} images/s in whole batches, {found['baseline']:,.0f} one by one: {found['ratio']:.1f}x"
        )


def measure(rounds: int) -> dict[str, object]:
    """Return medians of both sides over alternating rounds."""
    torch.set_num_threads(1)
    images, labels = pictures()
    rng, draws = torch.Generator().manual_seed(0), random.Random(0)
    sides: dict[str, Callable[[], Batch]] = {
        "ours": lambda: whole_batch(images, labels, rng),
        "baseline": lambda: one_by_one(images, labels, draws),
    }
    check_same(sides)
    medians = median_milliseconds(sides, rounds, WARM_UP)
    speed = {name: 1000 * BATCH / taken for name, taken in medians.items()}
    return {
        "name": "augmentation",
        "ratio": round(speed["ours"] / speed["baseline"], 2),
        "ours": round(speed["ours"], 1),
        "baseline": round(speed["baseline"], 1),
        "unit": "images/s",
        "n": rounds,
    }


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Return images (BATCH, SIDE, SIDE, 3) uint8 of smooth random colours, and labels (BATCH,) int64."""
    draws = np.random.default_rng(0)
    small = [Image.fromarray(p) for p in draws.integers(0, 256, (BATCH, 4, 4, 3), dtype=np.uint8)]
    images = np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for p in small])
    return images, draws.integers(0, CLASSES, BATCH)


def whole_batch(images: np.ndarray, labels: np.ndarray, rng: torch.Generator) -> Batch:
    """Return the batch as this project makes it."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32) / 255  # channels_last without a copy
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES).float()
    return augment(x, targets, Augmentation(crop=MARGIN, flip=True, mixing=Mixing(method="cutmix")), rng)


def one_by_one(images: np.ndarray, labels: np.ndarray, draws: random.Random) -> Batch:
    """Return the batch as a loop over PIL pictures makes it, with CutMix as usual in training loops."""
    changed = []
    for image in images:
        picture = ImageOps.expand(Image.fromarray(image), MARGIN)
        top, left = draws.randint(0, 2 * MARGIN), draws.randint(0, 2 * MARGIN)
        picture = picture.crop((left, top, left + SIDE, top + SIDE))
        if draws.random() < 0.5:
            picture = ImageOps.mirror(picture)
        changed.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255))
    x = torch.stack(changed)
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES).float()
    partner = torch.tensor(draws.sample(range(BATCH), BATCH))
    side = int(SIDE * (1 - draws.betavariate(1, 1)) ** 0.5)
    top, left = draws.randrange(SIDE) - side // 2, draws.randrange(SIDE) - side // 2
    rows, columns = slice(max(top, 0), min(top + side, SIDE)), slice(max(left, 0), min(left + side, SIDE))
    x[:, :, rows, columns] = x[partner, :, rows, columns]
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / SIDE**2
    return x, (1 - share) * targets + share * targets[partner]


def check_same(sides: dict[str, Callable[[], Batch]]) -> None:
    """Raise RuntimeError unless both sides give batches of one kind: shapes, ranges, and means over some batches."""
    means = {}
    for name, run in sides.items():
        batches = [run() for _ in range(20)]
        for x, targets in batches:
            if x.shape != (BATCH, 3, SIDE, SIDE) or targets.shape != (BATCH, CLASSES) or x.min() < 0 or x.max() > 1:
                raise RuntimeError(f"{name} gives images {tuple(x.shape)} from {x.min():g} to {x.max():g}")
            if not torch.allclose(targets.sum(dim=1), torch.ones(BATCH)):
                raise RuntimeError(f"targets of {name} do not sum to 1")
        means[name] = float(torch.stack([x for x, _ in batches]).mean())
    if abs(means["ours"] - means["baseline"]) > 0.005:
        raise RuntimeError(f"mean colours differ: {means}")


if __name__ == "__main__":
    main()
