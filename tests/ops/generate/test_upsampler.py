"""The network that enlarges: its guess is exact for Gaussians, and it listens to all that it is told."""

import numpy as np
import pytest
import torch
from PIL import Image

from ops.errors import AmalgamError
from ops.generate.conditioning import Conditions
from ops.generate.guidance import guided_denoiser
from ops.generate.model_config import FlowConfig
from ops.generate.objectives import Flow, mix
from ops.generate.solvers import solve
from ops.generate.text import WIDTH
from ops.generate.upsampler import build_upsampler, deviations, enlarge, shrink
from ops.generate.upsampler_config import UpsamplerConfig, UpsamplingConfig
from ops.generate.upsampling import Given

CONFIG = UpsamplerConfig(channels=[8, 8, 16], context=16, max_tokens=5)
VOCABULARIES = {"label": ["bar", "disc"], "domain": ["paper"], "tone": ["0", "1"]}


def conditions(count: int) -> Conditions:
    rng = torch.Generator().manual_seed(0)
    codes = torch.zeros(count, 3, dtype=torch.int64)
    return Conditions(torch.randn(count, 5, WIDTH, generator=rng).half(), torch.ones(count, 5, dtype=torch.bool), codes)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("factor", [2, 4])
def test_shrinking_is_that_of_pillow(factor):
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    found = (shrink(x, factor) * 255).permute(0, 2, 3, 1).numpy()
    expected = np.stack([np.asarray(Image.fromarray(image).reduce(factor)) for image in images])
    assert np.abs(found - expected).max() <= 1  # ties are rounded in two ways
    assert (np.abs(found - expected) < 1e-3).mean() > 0.8
    np.testing.assert_allclose(found, found.round(), atol=1e-4)


def test_enlarging_is_that_of_pillow_and_keeps_ramps():
    x = random(1, 1, 8, 8)
    expected = np.asarray(Image.fromarray(x[0, 0].numpy()).resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(enlarge(x, 16)[0, 0].numpy(), expected, atol=1e-5)
    inside = enlarge(torch.arange(8.0).expand(1, 1, 8, 8), 16)[..., 4:-4, 4:-4]
    assert torch.allclose(inside.diff(dim=3), torch.full((1, 1, 8, 7), 0.5), atol=1e-5)


def test_untrained_it_draws_the_guess_with_noise_of_the_deviation():
    """Exact flow for z ~ N(a, d^2): x_0 = a + d x_1, with d^2 = clean^2 + s^2 noisy^2."""
    model = build_upsampler(CONFIG, 16, VOCABULARIES, WIDTH, clean=0.3, noisy=2.0)
    small, start, level = random(4, 3, 8, 8), random(4, 3, 16, 16), torch.tensor([0.0, 0.1, 0.2, 0.5])
    told = conditions(4)
    with torch.no_grad():
        denoiser = guided_denoiser(Given(model, small, level), Flow(FlowConfig()), told, UpsamplingConfig(clip=None))
        drawn = solve(denoiser, Flow(FlowConfig()), start, 60, "heun")
    d = torch.tensor([0.3, 0.09 + 0.04, 0.09 + 0.16, 0.09 + 1.0])
    d[1:] = d[1:].sqrt()
    expected = enlarge(small, 16) + d.view(-1, 1, 1, 1) * start
    torch.testing.assert_close(drawn, expected, atol=0.01, rtol=0)


def test_the_weighted_error_of_the_guess_is_one_for_a_gaussian():
    """Var(e - z | x_t) = d^2 / D, at every time and level: the network's own target has deviation 1."""
    model = build_upsampler(CONFIG, 16, VOCABULARIES, WIDTH, clean=0.2, noisy=1.5)
    small, noise, level = random(2, 3, 8, 8).repeat(100, 1, 1, 1), torch.randn(200, 3, 16, 16), torch.full((200,), 0.3)
    d = (0.2**2 + 0.3**2 * 1.5**2) ** 0.5
    z = enlarge(small, 16) + d * random(200, 3, 16, 16)
    for time in (0.02, 0.5, 0.98):
        t = torch.full((200,), time)
        objective = Flow(FlowConfig())
        x, target = mix(objective, z, noise, t), objective.target(z, noise, t)
        with torch.no_grad():
            error = model(x, t, small, level, conditions(200)) - target
        weighted = model.weight(t, level).view(-1, 1, 1, 1) * error.square()
        assert float(weighted.mean()) == pytest.approx(1.0, abs=0.02)


def test_deviations_are_those_of_the_images():
    """Images whose blocks are constant but for +-0.1, and noise without spread: both deviations by hand."""
    sign = torch.ones(16, 16)
    sign[::2, ::2] = sign[1::2, 1::2] = -1
    x = (0.1 * sign).expand(3, 3, 16, 16) + 0.2
    noise = torch.full((3, 3, 8, 8), 1.2)
    clean, noisy = deviations(x, 2, noise)
    assert clean == pytest.approx(0.1, abs=0.004)  # 0.2 is no whole grey level
    assert noisy == pytest.approx(1.0, abs=0.004)
    assert deviations(torch.zeros(1, 3, 16, 16), 2, torch.zeros(1, 3, 8, 8)) == (0.01, 0.01)


@pytest.mark.parametrize("part", ["caption", "label", "tone", "small", "level", "time"])
def test_the_model_listens_to_all_that_it_is_told(part):
    model = build_upsampler(CONFIG, 16, VOCABULARIES, WIDTH, 0.3, 2.0)
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    told, x, small, t, level = conditions(2), random(2, 3, 16, 16), random(2, 3, 8, 8), torch.full((2,), 0.5), 0.2
    before = (x, t, small, torch.full((2,), level), told)
    codes = told.codes.clone()
    codes[:, {"label": 0, "tone": 2}.get(part, 0)] = 1
    after = {
        "caption": (x, t, small, before[3], Conditions(told.tokens.flip(0), told.mask, told.codes)),
        "label": (x, t, small, before[3], Conditions(told.tokens, told.mask, codes)),
        "tone": (x, t, small, before[3], Conditions(told.tokens, told.mask, codes)),
        "small": (x, t, small.flip(2), before[3], told),
        "level": (x, t, small, torch.full((2,), 0.3), told),
        "time": (x, t + 0.1, small, before[3], told),
    }[part]
    with torch.no_grad():
        heard: list[torch.Tensor] = []  # the network's own output, without the guess
        model.unet.conv_out.register_forward_hook(lambda module, inputs, output: heard.append(output))
        model(*before)
        model(*after)
    assert (heard[0] - heard[1]).abs().max() > 1e-4


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(AmalgamError, match="no multiple of 3"):
        build_upsampler(CONFIG.model_copy(update={"factor": 3}), 16, VOCABULARIES, WIDTH, 0.3, 2.0)
    with pytest.raises(AmalgamError, match="halved 3 times"):
        build_upsampler(CONFIG.model_copy(update={"channels": [8, 8, 8, 8]}), 20, VOCABULARIES, WIDTH, 0.3, 2.0)


@pytest.mark.parametrize("channels", [[8], [8, 12], [0, 8]])
def test_channels_that_cannot_be_built_are_refused(channels):
    with pytest.raises(ValueError, match="multiple of 8"):
        UpsamplerConfig(channels=channels)
