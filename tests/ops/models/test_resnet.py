"""Architectures against published sizes, and normalisation inside the model."""

import pytest
import torch

from ops.models.config import Architecture
from ops.models.resnet import BN_MOMENTUM, build_classifier

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
PREACT_18 = Architecture(widths=[64, 128, 256, 512], blocks=[2, 2, 2, 2], stem_stride=1)


def parameters(architecture: Architecture, classes: int = 10) -> int:
    return sum(p.numel() for p in build_classifier(architecture, classes, MEAN, STD).parameters())


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        (PREACT_18, 12.55),  # with the 3x3 shortcuts of the papers' model zoo
        (Architecture(family="wide_resnet", depth=28, width=10), 36.48),
        (Architecture(family="wide_resnet", depth=16, width=4), 2.75),
    ],
)
def test_parameter_counts_are_the_published_ones(architecture, millions):
    assert round(parameters(architecture) / 1e6, 2) == millions


def test_strides_and_shapes():
    model = build_classifier(PREACT_18, 7, MEAN, STD).eval()
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert model.features(torch.rand(2, 3, 32, 32)).shape == (2, 512)
    assert model.blocks(model.stem(torch.rand(1, 3, 32, 32))).shape == (1, 512, 4, 4)


def test_normalisation_is_inside():
    """The same weights without mean and std, given normalised pixels, give the same logits."""
    architecture = Architecture(widths=[8, 16], blocks=[1, 1])
    model = build_classifier(architecture, 3, MEAN, STD, seed=1).eval()
    plain = build_classifier(architecture, 3, [0.0] * 3, [1.0] * 3, seed=1).eval()
    for each in (model, plain):
        torch.nn.init.normal_(each.head.weight, generator=torch.Generator().manual_seed(0))
    x = torch.rand(4, 3, 16, 16)
    normalised = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(model(x), plain(normalised))


def test_a_new_model_is_undecided_and_follows_from_its_seed():
    architecture = Architecture(widths=[8, 16], blocks=[1, 1])
    a, b, c = (build_classifier(architecture, 5, MEAN, STD, seed=s) for s in (0, 0, 1))
    assert torch.equal(a.eval()(torch.rand(2, 3, 16, 16)), torch.zeros(2, 5))
    assert torch.equal(a.stem.weight, b.stem.weight)
    assert not torch.equal(a.stem.weight, c.stem.weight)


def test_batchnorm_keeps_the_papers_decay():
    model = build_classifier(PREACT_18, 10, MEAN, STD)
    assert {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {BN_MOMENTUM}
