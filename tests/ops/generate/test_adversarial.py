"""The adversary: hinge, weight and discriminator against what the papers define."""

import pytest
import torch
from torch import nn

from ops.errors import AmalgamError
from ops.generate.adversarial import Adversary, adaptive_weight, build_discriminator, discriminator_loss
from ops.generate.config import AdversarialConfig

CPU = torch.device("cpu")
CONFIG = AdversarialConfig(weight=0.5, channels=[8, 16], lr=0.005)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_hinge_ignores_what_is_right_by_a_margin():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.5 * (0.5 / 2 + 1.25 / 2))


def test_the_weight_is_the_ratio_of_gradients():
    last = torch.tensor([1.0, -2.0], requires_grad=True)
    error, adversarial = 3 * last.sum(), (last * torch.tensor([0.3, 0.4])).sum()
    expected = 3 * 2**0.5 / (0.5 + 1e-4)
    assert float(adaptive_weight(error, adversarial, last)) == pytest.approx(expected, rel=1e-5)
    assert float(adaptive_weight(error * 1e9, adversarial, last)) == 1e4


def test_the_term_pulls_at_the_last_layer_as_hard_as_the_error_times_its_weight():
    adversary = Adversary(CONFIG, 16, 0, CPU)
    decoder = nn.Conv2d(3, 3, 3, padding=1)
    y = decoder(images(4))
    error = (y - images(4, seed=1)).abs().mean()
    pull = torch.autograd.grad(error, decoder.weight, retain_graph=True)[0].norm()
    term = adversary.term(y, error, decoder.weight)
    torch.testing.assert_close(
        torch.autograd.grad(term, decoder.weight)[0].norm(), CONFIG.weight * pull, atol=0, rtol=0.02
    )


def test_each_score_sees_a_patch_of_the_published_size():
    """The PatchGAN of Isola et al. has patches of 70 pixels with widths 64, 128, 256, 512; ours with four levels too."""
    net = build_discriminator(AdversarialConfig(channels=[2, 2, 2, 2]), 160, 0).eval()
    x = torch.zeros(1, 3, 160, 160, requires_grad=True)
    scores = net(x)
    assert scores.shape == (1, 1, 18, 18)
    scores[0, 0, 9, 9].backward()
    rows = x.grad[0].abs().sum(dim=(0, 2)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == 70


def test_it_learns_to_tell_images_apart_without_touching_the_autoencoder():
    adversary = Adversary(CONFIG, 16, 0, CPU)
    x = images(8)
    y = nn.functional.avg_pool2d(x, 3, 1, padding=1).requires_grad_()
    losses = [adversary.learn(x, y, 1.0) for _ in range(40)]
    assert losses[0] == pytest.approx(1.0, abs=0.2)
    assert losses[-1] < 0.3
    assert y.grad is None


def test_its_weights_follow_from_the_seed():
    first, again, other = (build_discriminator(CONFIG, 16, seed)[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_images_too_small_for_it_are_named():
    build_discriminator(AdversarialConfig(channels=[4, 4, 4]), 12, 0)(torch.zeros(1, 3, 12, 12))
    with pytest.raises(AmalgamError, match="images of 8 pixels are too small to be halved 2 times"):
        build_discriminator(AdversarialConfig(channels=[4, 4, 4]), 8, 0)
