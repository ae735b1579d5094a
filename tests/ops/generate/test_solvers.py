"""Solvers against a flow known in closed form, and against the schedulers of diffusers."""

import itertools
import math

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)

from ops.generate.model_config import DDPMConfig, EDMConfig, FlowConfig
from ops.generate.objectives import EDM, objective_of
from ops.generate.solvers import solve

FLOW, EDM_, DDPM_, ZERO = FlowConfig(), EDMConfig(), DDPMConfig(), DDPMConfig(zero_terminal_snr=True)
MEAN, STD = 1.5, 0.5


def scales(objective, level):
    return (float(part) for part in objective.scales(torch.tensor([level])))


def gaussian(objective):
    """Return E[z | x] for data N(MEAN, STD^2): everything is jointly Gaussian."""

    def denoise(x, level):
        alpha, sigma = scales(objective, level)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return MEAN + gain * (x - alpha * MEAN)

    return denoise


def bent(x, level):
    """Return a denoiser that is no straight line, the same for all objectives."""
    return torch.tanh(1.3 * x) * 0.8 + 0.1 * torch.sin(3 * x)


def exact(objective, noise, steps):
    """Return where the ODE takes `noise`: quantiles stay quantiles."""
    alpha, sigma = scales(objective, objective.grid(steps)[0])
    return MEAN + STD * (noise * sigma - alpha * MEAN) / math.sqrt(alpha**2 * STD**2 + sigma**2)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpm++", 2)])
@pytest.mark.parametrize(
    "config", [FLOW, EDM_, DDPM_, ZERO], ids=lambda c: f"{c.kind}-{getattr(c, 'zero_terminal_snr', '')}"
)
def test_solvers_have_their_order_on_a_gaussian(config, solver, order):
    """Doubling the steps divides the error by two or four."""
    objective = objective_of(config)
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    errors = [
        float((solve(gaussian(objective), objective, noise, n, solver) - exact(objective, noise, n)).abs().max())
        for n in (25, 50, 100)
    ]
    assert errors[2] < (0.05 if order == 1 else 0.01)
    if config.kind == "ddpm" and (solver == "dpm++" or config is ZERO):
        return  # nearly infinite log(SNR) at the first levels: small errors, but no order yet
    if (solver, config.kind) == ("dpm++", "flow"):
        order = 1  # its first step, from an SNR of zero, is Euler's
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) > order - 0.35


def follow(scheduler, noise, output):
    """Return the end of a scheduler's own loop; `output` turns (x, timestep index) into the model's output."""
    x = noise
    for number, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(output(x, number), timestep, x, return_dict=False)[0]
    return x


def noise():
    return torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_euler_on_rectified_flow_is_the_scheduler_of_diffusers():
    objective, start = objective_of(FLOW), noise()
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=objective.grid(6)[:-1])
    sigmas = scheduler.sigmas.tolist()
    reference = follow(scheduler, start, lambda x, n: (x - bent(x, 0)) / sigmas[n])
    torch.testing.assert_close(solve(bent, objective, start, 6, "euler"), reference, rtol=1e-4, atol=1e-4)


def test_heun_on_rectified_flow_is_the_scheduler_of_diffusers():
    """On its own grid, whose last step is almost empty."""
    objective, start = objective_of(FLOW), noise()
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(6)
    sigmas, levels = scheduler.sigmas.tolist(), [float(scheduler.sigmas[0]), *scheduler.sigmas[1::2].tolist()]
    objective.grid = lambda steps: levels
    reference = follow(scheduler, start, lambda x, n: (x - bent(x, 0)) / sigmas[n])
    torch.testing.assert_close(solve(bent, objective, start, 6, "heun"), reference, rtol=1e-4, atol=1e-4)


def test_euler_on_edm_is_the_scheduler_of_diffusers():
    """Which has data of deviation 0.5: the same model with everything half as large."""
    objective, start = objective_of(EDM_), noise()
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, rho=7)
    scheduler.set_timesteps(9)
    sigmas = scheduler.sigmas.tolist()

    def output(x, number):  # F such that c_skip x + c_out F = D
        sigma = sigmas[number]
        skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.sqrt(sigma**2 + 0.25)
        return (bent(EDM.UNIT * x, 0) / EDM.UNIT - skip * x) / out

    reference = EDM.UNIT * follow(scheduler, start * sigmas[0], output)
    torch.testing.assert_close(solve(bent, objective, start, 9, "euler"), reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("solver", ["euler", "dpm++"])
def test_ddpm_solvers_are_the_schedulers_of_diffusers(solver):
    objective, start = objective_of(DDPM_), noise()
    kind = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    if solver == "euler":
        scheduler = DDIMScheduler(**kind, clip_sample=False, set_alpha_to_one=True)
    else:
        scheduler = DPMSolverMultistepScheduler(**kind, final_sigmas_type="zero")
    scheduler.set_timesteps(10)
    levels = objective.grid(10)
    assert scheduler.timesteps.tolist() == levels[:-1]

    def output(x, number):
        alpha, sigma = scales(objective, levels[number])
        return alpha * (x - alpha * bent(x, 0)) / sigma - sigma * bent(x, 0)

    reference = follow(scheduler, start, output)
    torch.testing.assert_close(solve(bent, objective, start, 10, solver), reference, rtol=1e-3, atol=1e-3)


def test_samples_have_the_datas_distribution():
    objective = objective_of(FLOW)
    start = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    found = solve(gaussian(objective), objective, start, 16, "heun")
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.015)
    assert float(found.std()) == pytest.approx(STD, abs=0.01)
