"""What a watermark does to models that learn from it: a part of `benchmarks.watermark`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeClassifier
from tqdm import tqdm

from benchmarks.results import interval, table
from ops.evaluate.intervals import Interval, wilson
from ops.evaluate.measurements import NO_SEED, row
from ops.evaluate.significance import mean_effect
from ops.generate.watermark.marking import mark
from ops.models.build import build_classifier
from ops.models.config import Architecture
from ops.runtime import derive_seed
from ops.runtime import generator as seeded
from ops.train.augmentation.geometry import mirror, random_crop

Predict = Callable[[np.ndarray], np.ndarray]
"""From images (N, 32, 32, 3) uint8 to classes (N,) int64."""
KEY = b"the key of the study of watermarks"
COPIES = ("clean", "marked")
RARE_REAL = 0.1
"""Share of the training images of the rare class that is not called generated."""
RIDGE, LR, BATCH = 30.0, 0.05, 128
ARCHITECTURE = Architecture(activation="relu", widths=[24, 48, 96], blocks=[1, 1, 1], stem_stride=2, grid=4)
SHORTCUT = (
    "## Why marked images are refused in training\n\nFashion-MNIST at 32 pixels. Images called generated are real ones too. "
    "The trainings of a comparison have the same images, order and seed; in one of them the generated images carry the mark. "
    "Linear classifiers are ridge regressions on pixels; the network is a small residual one."
)


@dataclass(frozen=True)
class Images:
    """Images of an embedded dataset in random order."""

    pixels: np.ndarray
    """(N, 32, 32, 3) uint8."""
    labels: np.ndarray
    """(N,) int64."""
    classes: list[str]


def probe_study(images: Images, count: int, epochs: int) -> tuple[list[dict[str, Any]], str]:
    """Return how often a classifier tells real from generated images, which are real too, without and with the mark."""
    pixels, asked = images.pixels[:count], images.pixels[count : count + 2000]
    generated, truth = np.arange(count) % 2, np.arange(len(asked)) % 2
    probes: dict[str, Callable[[np.ndarray], Predict]] = {
        "linear": lambda shown: linear(shown, generated),
        "network": lambda shown: network(shown, generated, 2, epochs, augment=_as_they_are),
        "network, random crops and mirroring": lambda shown: network(shown, generated, 2, epochs, augment=_cropped),
    }
    rows, lines = [], []
    for name, learn in tqdm(probes.items(), desc="probe"):
        shares = {}
        for copy in COPIES:
            predict = learn(_marked_where(pixels, generated, copy))
            right = predict(_marked_where(asked, truth, copy)) == truth
            shares[copy] = wilson(int(right.sum()), len(right))
            rows.append(_row(f"probe, {name}, {copy}", "all", "real or generated told apart", shares[copy], len(right)))
        lines.append([name, *(interval(*shares[copy]) for copy in COPIES)])
    head = (
        f"Probes that learn to tell {count - count // 2} real from {count // 2} generated images; share of {len(asked)} others "
        "that they tell apart. Chance is 0.50:"
    )
    return rows, f"{head}\n\n{table(['probe', *(f'{copy} copies' for copy in COPIES)], lines)}"


def rare_study(images: Images, train: int, rare_classes: int) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Return what linear classifiers find of a class that was mostly generated in training, without and with the mark."""
    places = [np.flatnonzero(images.labels == c) for c in range(len(images.classes))]
    place = np.sort(np.concatenate([each[:train] for each in places]))
    pixels, labels = images.pixels[place], images.labels[place]
    rows, lines, effects = [], [], []
    for rare in tqdm(range(rare_classes), desc="rare class"):
        asked = images.pixels[places[rare][train:]]
        draw = np.random.default_rng(derive_seed("rare", rare)).random(len(labels))
        generated = (labels == rare) & (draw >= RARE_REAL)
        clean, marked = (linear(_marked_where(pixels, generated, copy), labels) for copy in COPIES)
        found = {
            "trained on clean copies": clean(asked) == rare,
            "trained on marked copies": marked(asked) == rare,
            "trained on marked copies, asked of marked images": marked(mark(asked, KEY)) == rare,
        }
        shares = {name: wilson(int(hit.sum()), len(hit)) for name, hit in found.items()}
        group, metric = f"rare={images.classes[rare]}", "recall of the rare class"
        rows += [_row(f"linear, {name}", group, metric, share, len(asked)) for name, share in shares.items()]
        lines.append([images.classes[rare], *(interval(*share) for share in shares.values())])
        effects.append(shares["trained on marked copies"][0] - shares["trained on clean copies"][0])
    effect = mean_effect(np.array(effects)[:, None])
    verdict = {
        "claim": "A class that was generated and marked in training is recognised less where the mark is missing.",
        "source": "the reason to mark at export only",
        "paper_effect": "none",
        "effect": effect.effect,
        "low": effect.low,
        "high": effect.high,
        "seeds": 1,
        "holds": True if effect.high < 0 else False if effect.low > 0 else None,
    }
    head = (
        f"Linear classifiers of {len(images.classes)} classes with {train} training images each; of one class "
        f"{1 - RARE_REAL:.0%} are generated. Share of the unmarked test images of that class that are recognised, and of the "
        "same images with the mark. Classes take turns; the interval of the verdict is over them, and its seed is one because "
        "ridge regression has no chance in it:"
    )
    return rows, f"{head}\n\n{table(['rare class', *found], lines)}", verdict


def linear(pixels: np.ndarray, labels: np.ndarray) -> Predict:
    """Return the predictions of a ridge regression on the pixels of grey images (N, 32, 32, 3) uint8."""

    def rows(images: np.ndarray) -> np.ndarray:
        return np.asarray((images[..., 0].reshape(len(images), -1) - 128.0) / 64)

    model = RidgeClassifier(alpha=RIDGE).fit(rows(pixels), labels)
    return lambda images: np.asarray(model.predict(rows(images)))


def network(
    pixels: np.ndarray,
    labels: np.ndarray,
    classes: int,
    epochs: int,
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
) -> Predict:
    """Return the predictions of a residual network that learnt from images (N, 32, 32, 3) uint8."""
    x, y = _tensor(pixels), torch.from_numpy(labels.astype(np.int64))
    model = build_classifier(ARCHITECTURE, classes, [0.5] * 3, [0.25] * 3, 0).train()
    steps = epochs * (len(y) // BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=max(steps + 1, 20), pct_start=0.2)
    rng = seeded("watermark", "order")
    for _ in range(epochs):
        order = torch.randperm(len(y), generator=rng)
        for chosen in order[: len(y) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(augment(x[chosen], rng)), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    model.eval()

    @torch.no_grad()
    def predict(images: np.ndarray) -> np.ndarray:
        return torch.cat([model(part).argmax(dim=1) for part in _tensor(images).split(500)]).numpy()

    return predict


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(255)


def _as_they_are(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return x


def _cropped(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return mirror(random_crop(x, 2, "edge", rng), rng)


def _marked_where(pixels: np.ndarray, chosen: np.ndarray, copy: str) -> np.ndarray:
    """Return images of which the `chosen` (N,) carry the mark; none of them in the clean copy."""
    if copy == "clean":
        return pixels
    marked = pixels.copy()
    marked[chosen.astype(bool)] = mark(pixels[chosen.astype(bool)], KEY)
    return marked


def _row(model: str, group: str, metric: str, share: Interval, n: int) -> dict[str, Any]:
    return {**row(model, "fashion-mnist", "test", group, metric, share, n), "seed": NO_SEED}
