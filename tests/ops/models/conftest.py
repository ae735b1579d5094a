"""A small network of each family, and model folders of them."""

import pytest
import torch

from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SMALL = {
    "preact_resnet": Architecture(widths=[8, 16], blocks=[1, 2], stem_stride=2),
    "preact_resnet with a grid": Architecture(widths=[8, 16], blocks=[1, 1], stem_stride=2, grid=2),
    "wide_resnet": Architecture(family="wide_resnet", depth=10, width=1),
    "resnet9": Architecture(family="resnet9", widths=[8, 12, 16]),
    "vit": Architecture(family="vit", dim=16, heads=2, layers=2),
}


@pytest.fixture(params=list(SMALL))
def architecture(request) -> Architecture:
    return SMALL[request.param]


@pytest.fixture
def build():
    """Return a function that builds a network whose logits are not all the same, as those of a new one are."""

    def make(architecture: Architecture, classes: int = 3, seed: int = 0, mean=MEAN, std=STD):
        model = build_classifier(architecture, classes, mean, std, seed)
        torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed))
        return model

    return make


@pytest.fixture
def save(tmp_path, build):
    """Return a function that saves a network that has seen a batch and returns its folder, itself and its card."""

    def make(architecture: Architecture, name: str = "real", image_size: int = 16):
        model = build(architecture, 2, seed=3).train()
        with torch.no_grad():
            model(torch.rand(8, 3, image_size, image_size, generator=torch.Generator().manual_seed(1)))
        card = ModelCard(
            name=name, architecture=architecture, classes=["a", "b"], image_size=image_size, mean=MEAN, std=STD,
            seed=3, ancestor="x",
        )  # fmt: skip
        save_classifier(tmp_path / name, model, card)
        return tmp_path / name, model.eval(), card

    return make
