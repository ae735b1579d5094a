"""The small network against its definition, written out."""

import torch
import torch.nn.functional as F

from ops.models.build import build_classifier
from ops.models.config import Architecture

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def test_the_contests_layout():
    """Eight convolutions and a linear layer; three halvings; 6.57 million parameters, as Page's network has."""
    architecture = Architecture(family="resnet9", widths=[64, 128, 256, 512])
    with torch.device("meta"):
        model = build_classifier(architecture, 10, MEAN, STD)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 8
    shapes = [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
    expected = sum(9 * a * b + 2 * b for a, b in shapes) + 512 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.stages(torch.empty(1, 64, 32, 32, device="meta")).shape == (1, 512, 4, 4)


def test_it_is_its_definition(build):
    """New BatchNorm layers do nothing in evaluation mode (up to eps), which leaves convolutions and activations."""
    model = build(Architecture(family="resnet9", widths=[6, 8, 10, 12], activation="relu")).eval()
    state, x = model.state_dict(), torch.rand(2, 3, 16, 16)

    def layer(name, y, pool=False):
        y = F.conv2d(y, state[f"{name}.weight"], padding=1)
        return F.relu(F.max_pool2d(y, 2) if pool else y) / (1 + 1e-5) ** 0.5

    y = layer("stem.0", (x - state["mean"]) / state["std"])
    for stage, residual in enumerate([True, False, True]):
        y = layer(f"stages.{stage}.conv", y, pool=True)
        if residual:
            y = y + layer(f"stages.{stage}.residual.2", layer(f"stages.{stage}.residual.0", y))
    torch.testing.assert_close(model(x), F.linear(y.mean(dim=(2, 3)), state["head.weight"]), rtol=1e-4, atol=1e-5)
