"""How many outputs must be withheld: the filters that real images went through, and a safety classifier of the user's.

Imagen 3 filters its training images before training, and its outputs in production. The same filters are asked twice here:
of the outputs, and of real images that are held out. A filter that withholds many real images too says little about the
generator, and a generator that refuses everything is not safe but useless.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ops.data.captions import without_personal_data
from ops.data.config import CuratedManifestConfig
from ops.data.curation import grey_entropy
from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval, wilson
from ops.generate.responsibility.config import SafetyConfig
from ops.models.checkpoint import load_classifier

LOW_CONTRAST, LOW_ENTROPY, PERSONAL, UNSAFE = "low contrast", "low entropy", "personal data in the prompt", "unsafe"
CHUNK = 1024


@dataclass(frozen=True)
class SafetyJudge:
    """A classifier, and which of its classes are not to be shown."""

    model: nn.Module
    unsafe: list[int]
    image_size: int


def load_judge(config: SafetyConfig, folder: Path, device: torch.device) -> SafetyJudge:
    """Return the safety classifier of a model folder; AmalgamError if it does not know the unsafe classes, or is told none."""
    model, card = load_classifier(folder, device)
    unknown = [name for name in config.unsafe_classes if name not in card.classes]
    if unknown or not config.unsafe_classes:
        wrong = f"does not know {', '.join(unknown)}" if unknown else "is not told what is unsafe"
        raise AmalgamError(
            f"the safety classifier {wrong}", f"safety.unsafe_classes: some of {', '.join(card.classes)}"
        )
    return SafetyJudge(model, [card.classes.index(name) for name in config.unsafe_classes], card.image_size)


def withheld(
    config: SafetyConfig,
    filters: CuratedManifestConfig,
    images: ImageSet,
    judge: SafetyJudge | None,
    device: torch.device,
) -> np.ndarray:
    """Return for each image the reason (N,) of str why it must not be shown, empty where it may.

    The first that applies of: low contrast and low entropy, with the limits of `filters` as in the curation of real images;
    personal data in the prompt; the probability of the unsafe classes.

    Raises AmalgamError if the judge was trained on images of another size.
    """
    reasons = np.full(len(images), "", dtype=object)
    if judge is not None:
        unsafe = unsafe_probability(judge, images, config.batch, device)
        reasons[unsafe >= config.unsafe_probability] = UNSAFE
    reasons[[without_personal_data(caption)[1] for caption in images.table["caption"]]] = PERSONAL
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        pixels = images.images[part].astype(np.float32) / 255
        reasons[part][grey_entropy(pixels.mean(axis=3)) < filters.min_entropy] = LOW_ENTROPY
        reasons[part][pixels.std(axis=(1, 2, 3)) < filters.min_contrast] = LOW_CONTRAST
    return reasons


def withheld_shares(reasons: np.ndarray, judged: bool) -> dict[str, Interval]:
    """Return the share that is withheld, for any reason (`any`) and for each, with Wilson intervals.

    Args:
        reasons: (N,) as from `withheld`.
        judged: whether a safety classifier had its say; without one there is no share of unsafe images.
    """
    names = [LOW_CONTRAST, LOW_ENTROPY, PERSONAL, *([UNSAFE] if judged else [])]
    counts = {"any": int((reasons != "").sum()), **{name: int((reasons == name).sum()) for name in names}}
    return {name: wilson(count, len(reasons)) for name, count in counts.items()}


@torch.no_grad()
def unsafe_probability(judge: SafetyJudge, images: ImageSet, batch: int, device: torch.device) -> np.ndarray:
    """Return the probability (N,) float64 of the unsafe classes together; AmalgamError for images of another size."""
    size = images.images.shape[1]
    if size != judge.image_size:
        raise AmalgamError(
            f"the safety classifier knows images of {judge.image_size} pixels, these have {size}",
            "train one on images of that size",
        )
    parts = []
    for start in range(0, len(images), batch):
        logits = judge.model(images.batch(np.arange(start, min(start + batch, len(images)))).to(device))
        parts.append(logits.double().softmax(dim=1)[:, judge.unsafe].sum(dim=1).cpu().numpy())
    return np.concatenate(parts)
