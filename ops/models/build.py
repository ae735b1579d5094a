"""From a description of an architecture to a network with weights that follow from a seed."""

from collections.abc import Callable, Sequence

import torch

from ops.models.base import Classifier
from ops.models.config import Architecture
from ops.models.resnet import preact_resnet, wide_resnet
from ops.models.resnet9 import ResNet9
from ops.models.vit import VisionTransformer
from ops.runtime import derive_seed

FAMILIES: dict[str, Callable[[Architecture, int], Classifier]] = {
    "preact_resnet": preact_resnet,
    "wide_resnet": wide_resnet,
    "resnet9": ResNet9,
    "vit": VisionTransformer,
}


def build_classifier(
    architecture: Architecture, classes: int, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> Classifier:
    """Return an untrained classifier with K = `classes`, in training mode, on the CPU.

    Its weights follow from `seed` alone. `mean` and `std` are those of each channel, for pixels in [0, 1].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        model = FAMILIES[architecture.family](architecture, classes)
    model.mean.copy_(torch.tensor(mean).view(1, 3, 1, 1))
    model.std.copy_(torch.tensor(std).view(1, 3, 1, 1))
    return model
