"""What every family promises, whatever is inside."""

import pytest
import torch

from ops.models.build import build_classifier
from tests.ops.models.conftest import SMALL

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def images(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("side", [28, 32, 64])
def test_any_resolution(architecture, build, side):
    model = build(architecture, 7).eval()
    x = images(2, side)
    assert model(x).shape == (2, 7)
    assert model.features(x).shape == (2, model.head.in_features)


def test_a_new_model_is_undecided(architecture):
    model = build_classifier(architecture, 5, MEAN, STD)
    for mode in (True, False):
        assert torch.equal(model.train(mode)(images(3, 32)).softmax(1), torch.full((3, 5), 0.2))


def test_weights_follow_from_the_seed_alone(architecture):
    torch.manual_seed(7)
    a = build_classifier(architecture, 5, MEAN, STD, seed=0)
    after = torch.rand(1)
    torch.manual_seed(8)
    b, c = (build_classifier(architecture, 5, MEAN, STD, seed=s) for s in (0, 1))
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())
    x = images(2, 32)
    assert not torch.allclose(a.eval().features(x), c.eval().features(x))
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1)), "building a model draws from nobody else's stream"


def test_normalisation_is_inside(architecture, build):
    """The same weights without mean and std, given normalised pixels, give the same logits."""
    model, plain = build(architecture).eval(), build(architecture, mean=[0.0] * 3, std=[1.0] * 3).eval()
    x = images(4, 32)
    normalised = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    torch.testing.assert_close(model(x), plain(normalised))
    assert not torch.allclose(model(x), plain(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 3, 8, 1), (2, 3, 1, 4), (0, 3, 4, 4)], ids=str)
def test_normalisation_is_the_formula_in_any_layout(build, layout, shape):
    model = build(SMALL["preact_resnet"])
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=layout).requires_grad_()
    formula = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    found = model.normalise(x)
    assert torch.equal(found, formula)
    assert found.is_contiguous(memory_format=layout)
    direction = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    slopes = [torch.autograd.grad((y * direction).sum(), x)[0] for y in (found, formula)]
    assert torch.equal(*slopes)


def test_every_weight_takes_part(architecture, build):
    model = build(architecture).train()
    model(images(4, 32)).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_images_do_not_depend_on_each_other(architecture, build):
    model, x = build(architecture).eval(), images(5, 32)
    one_by_one = torch.cat([model(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(model(x), one_by_one, rtol=1e-4, atol=1e-5)


def test_memory_layout_changes_nothing(architecture, build):
    model, x = build(architecture).eval(), images(3, 28)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)
