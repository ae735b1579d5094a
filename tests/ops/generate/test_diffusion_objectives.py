"""Objectives against their equations."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError

from ops.generate.model_config import DDPMConfig, EDMConfig, FlowConfig
from ops.generate.objectives import EDM, mix, objective_of

CONFIGS = [
    FlowConfig(),
    FlowConfig(times="uniform"),
    EDMConfig(),
    DDPMConfig(prediction="v"),
    DDPMConfig(prediction="v", zero_terminal_snr=True),
    DDPMConfig(prediction="epsilon"),
]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_perfect_network_denoises_perfectly(config):
    """D(target) is the data, at every level that training draws."""
    objective = objective_of(config)
    level = objective.draw(500, rng())
    if config.kind == "ddpm" and config.prediction == "epsilon":
        level = level.clamp(max=900)  # beyond, rounding of the noise is divided by almost nothing
    data, noise = torch.randn(500, 2, 3, generator=rng(1)), torch.randn(500, 2, 3, generator=rng(2))
    x = mix(objective, data, noise, level)
    found = objective.denoise(objective.target(data, noise, level), x, level)
    torch.testing.assert_close(found, data, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_path_is_that_of_the_scales(config):
    """(c, s) gives back x = alpha z + sigma e as c (z + s e) for the straight paths in y, at alpha of each objective."""
    objective = objective_of(config)
    grid = objective.grid(7)
    assert len(grid) == 8
    alphas, sigmas = objective.scales(torch.tensor(grid))
    assert (float(alphas[-1]), float(sigmas[-1])) == (1.0, 0.0)
    shares = (sigmas / (alphas + sigmas)).tolist()
    assert shares == sorted(shares, reverse=True)
    for level, alpha, sigma in zip(grid, alphas.tolist(), sigmas.tolist(), strict=True):
        c, s = objective.path(level)
        if config.kind == "flow":
            assert (c, s) == (1.0, level)
        elif alpha:
            assert (c, c * s) == pytest.approx((alpha, sigma), abs=1e-6)
        else:
            assert (c, s) == (0.0, math.inf)


def test_levels_are_drawn_as_the_papers_say():
    t = torch.logit(objective_of(FlowConfig(mean=0.4, std=0.8)).draw(50_000, rng()).double())
    assert (float(t.mean()), float(t.std())) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.8, abs=0.02))
    u = objective_of(FlowConfig(times="uniform")).draw(50_000, rng())
    assert float(u.std()) == pytest.approx(12**-0.5, abs=0.005)
    s = (objective_of(EDMConfig()).draw(50_000, rng()) / EDM.UNIT).log()
    assert (float(s.mean()), float(s.std())) == (pytest.approx(-1.2, abs=0.02), pytest.approx(1.2, abs=0.02))
    n = objective_of(DDPMConfig()).draw(50_000, rng())
    assert (float(n.min()), float(n.max())) == (0, 999)
    assert torch.equal(n, n.round())


def test_edm_sees_and_predicts_unit_variance_and_weighs_as_in_the_paper():
    """Table 1 with sigma_data = 1: c_in x and the target have variance 1; the weight of D's error is 1 + 1 / sigma^2."""
    objective = objective_of(EDMConfig())
    for sigma in (0.01, 0.5, 2.0, 40.0):
        level = torch.full((40_000,), sigma)
        data, noise = torch.randn(40_000, 1, generator=rng(1)), torch.randn(40_000, 1, generator=rng(2))
        x = mix(objective, data, noise, level)
        assert float(objective.inputs(x, level)[0].std()) == pytest.approx(1, abs=0.02)
        target = objective.target(data, noise, level)
        assert float(target.std()) == pytest.approx(1, abs=0.02)
        wrong = target + 0.3
        of_data = (objective.denoise(wrong, x, level) - data).square().mean()
        assert float(of_data * (1 + sigma**-2)) == pytest.approx(0.09, rel=1e-2)


def test_edm_levels_are_the_papers_in_units_of_the_data():
    """Equation 5 with 18 steps: from 80 to 0.002 for a deviation of 0.5, then zero."""
    grid = objective_of(EDMConfig()).grid(18)
    root = [80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7)) for i in range(18)]
    assert grid == pytest.approx([2 * r**7 for r in root] + [0], rel=1e-6)


@pytest.mark.parametrize("zero", [False, True])
def test_ddpm_has_the_table_of_diffusers(zero):
    objective = objective_of(DDPMConfig(zero_terminal_snr=zero))
    table = DDPMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=zero).alphas_cumprod
    alpha, sigma = objective.scales(torch.arange(999.0))
    torch.testing.assert_close(alpha**2, table[:999].float(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(999))
    assert (float(objective.scales(torch.tensor([999.0]))[0]) == 0) is zero


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_min_snr_bounds_the_weight_of_the_datas_error(prediction):
    """Weighted errors of the network are errors of D times min(SNR, 5), whatever it predicts (Hang et al. 2023)."""
    objective = objective_of(DDPMConfig(prediction=prediction))
    level = torch.tensor([30.0, 200.0, 500.0, 800.0])
    data, noise = torch.randn(4, 3, generator=rng(1)), torch.randn(4, 3, generator=rng(2))
    x = mix(objective, data, noise, level)
    error = objective.denoise(objective.target(data, noise, level) + 0.1, x, level) - data
    alpha, sigma = objective.scales(level)
    wanted = (alpha**2 / sigma**2).clamp(max=5) * error.square().mean(1)
    torch.testing.assert_close(objective.weight(level) * 0.01, wanted, rtol=1e-3, atol=1e-6)


def test_settings_that_contradict_are_refused():
    with pytest.raises(ValidationError, match="set prediction to v"):
        DDPMConfig(prediction="epsilon", zero_terminal_snr=True)
    with pytest.raises(ValidationError, match="not below"):
        EDMConfig(smallest=3, largest=2)
