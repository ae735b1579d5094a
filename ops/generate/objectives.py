"""What a diffusion model learns: how data and noise mix, what the network sees, and what it is asked for.

All three objectives mix x = alpha z + sigma e of data z and noise e ~ N(0, 1), by a *level* of their own: the time in
[0, 1] of rectified flow, the deviation sigma of EDM, the number of a DDPM step. They differ in the levels of training, in
the network's target and in its weight. Samplers need no more than the denoised data D that each makes of an output.
"""

import math
from typing import Protocol

import torch
from diffusers import DDPMScheduler

from ops.generate.model_config import DDPMConfig, EDMConfig, FlowConfig

EMBEDDED = 1000.0
"""The networks' sinusoidal embedding of time is made for numbers up to here."""


def column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return `values` (B,) with as many dimensions as `like` (B, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


class Objective(Protocol):
    """One way to learn to denoise; levels are (B,) float32 tensors on the device of the data."""

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return `count` levels to train on."""

    def scales(self, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return alpha and sigma, both (B,)."""

    def inputs(self, x: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the network sees: `x` (B, ...), perhaps scaled, and the time (B,) that it embeds."""

    def target(self, data: torch.Tensor, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return what the network should put out (B, ...)."""

    def weight(self, level: torch.Tensor) -> torch.Tensor:
        """Return the weight (B,) of the squared error."""

    def denoise(self, output: torch.Tensor, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return the data (B, ...) that an output for `x` stands for."""

    def grid(self, steps: int) -> list[float]:
        """Return steps + 1 levels from noise to data."""

    def path(self, level: float) -> tuple[float, float]:
        """Return (c, s) such that y = x / c obeys dy/ds = (y - D) / s; (0, inf) where x holds no data."""


class Flow:
    """Rectified flow: x_t = (1 - t) z + t e; the network predicts the velocity e - z (Liu et al. 2023).

    Training times are logit-normal (Esser et al. 2024, section 3.1) or uniform.
    """

    def __init__(self, config: FlowConfig) -> None:
        self.config = config

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return times in (0, 1)."""
        if self.config.times == "uniform":
            return torch.rand(count, generator=generator)
        return torch.sigmoid(self.config.mean + self.config.std * torch.randn(count, generator=generator))

    def scales(self, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return 1 - t and t."""
        return 1 - level, level

    def inputs(self, x: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `x` as it is, and the time stretched."""
        return x, level * EMBEDDED

    def target(self, data: torch.Tensor, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return the velocity dx/dt."""
        return noise - data

    def weight(self, level: torch.Tensor) -> torch.Tensor:
        """Return ones: the density of the times is the weight."""
        return torch.ones_like(level)

    def denoise(self, output: torch.Tensor, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return x - t v."""
        return x - column(level, x) * output

    def grid(self, steps: int) -> list[float]:
        """Return 1, 1 - 1/steps, ..., 0.

        (The scheduler of diffusers ends its own grid at 0.001 before 0, which makes its last step almost empty.)
        """
        return torch.linspace(1, 0, steps + 1).tolist()

    def path(self, level: float) -> tuple[float, float]:
        """Return (1, t): the path is straight in x itself."""
        return 1.0, level


class EDM:
    """Karras et al. 2022: x = z + sigma e; c_skip x + c_out F(c_in x, c_noise) denoises, F is the network (table 1).

    Deviations: data have a deviation of 1 here (latents are scaled so), where the paper has 0.5; all levels are twice
    the paper's, which is the same model in other units. And c_noise = log(sigma) / 4 is stretched to the range that the
    networks' sinusoidal embedding resolves.
    """

    UNIT = 2.0

    def __init__(self, config: EDMConfig) -> None:
        self.config = config

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return log-normal deviations."""
        return self.UNIT * torch.exp(self.config.mean + self.config.std * torch.randn(count, generator=generator))

    def scales(self, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return 1 and sigma."""
        return torch.ones_like(level), level

    def inputs(self, x: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return c_in x and the stretched c_noise."""
        noise = (level / self.UNIT).clamp(min=1e-8).log() / 4
        return x / column((1 + level**2).sqrt(), x), 500 + 250 * noise

    def target(self, data: torch.Tensor, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return (z - c_skip x) / c_out = (sigma z - e) / sqrt(1 + sigma^2), of deviation 1."""
        sigma = column(level, data)
        return (sigma * data - noise) / (1 + sigma**2).sqrt()

    def weight(self, level: torch.Tensor) -> torch.Tensor:
        """Return ones: the paper's weight 1 / c_out^2 of the denoised error is 1 for the network's own error."""
        return torch.ones_like(level)

    def denoise(self, output: torch.Tensor, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return c_skip x + c_out F with c_skip = 1 / (1 + sigma^2) and c_out = sigma / sqrt(1 + sigma^2)."""
        sigma = column(level, x)
        return x / (1 + sigma**2) + output * sigma / (1 + sigma**2).sqrt()

    def grid(self, steps: int) -> list[float]:
        """Return (a + i / (n - 1) (b - a))^rho with a and b the roots of the largest and smallest level, and 0."""
        rho, largest = self.config.rho, self.config.largest
        ends = largest ** (1 / rho), self.config.smallest ** (1 / rho)
        share = torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)
        return [*(self.UNIT * (ends[0] + share * (ends[1] - ends[0])) ** rho).tolist(), 0.0]

    def path(self, level: float) -> tuple[float, float]:
        """Return (1, sigma)."""
        return 1.0, level


class DDPM:
    """A thousand levels 0 to 999 on the cosine schedule; -1 is data (Nichol and Dhariwal 2021).

    The network predicts the noise e, or v = alpha e - sigma z (Salimans and Ho 2022). Errors are weighted by
    min(SNR, gamma) / SNR for e and min(SNR, gamma) / (SNR + 1) for v (Hang et al. 2023). The table of alphas is that of
    diffusers' scheduler, so that its pipelines can sample the model; so is the rescaling to zero terminal SNR (Lin et al.
    2024).
    """

    def __init__(self, config: DDPMConfig) -> None:
        self.config = config
        scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=config.zero_terminal_snr)
        squares = scheduler.alphas_cumprod.double()
        if config.zero_terminal_snr:
            squares[-1] = 0  # diffusers keeps a tiny rest there
        self.alphas = torch.cat([squares, torch.ones(1, dtype=torch.float64)]).sqrt()  # the last is that of -1

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return uniform levels."""
        return torch.randint(0, len(self.alphas) - 1, (count,), generator=generator).float()

    def scales(self, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sqrt(alpha_bar) and sqrt(1 - alpha_bar)."""
        alpha = self.alphas.to(level.device)[level.long()]
        return alpha.float(), (1 - alpha**2).clamp(min=0).sqrt().float()

    def inputs(self, x: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both as they are."""
        return x, level

    def target(self, data: torch.Tensor, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return the noise or v."""
        if self.config.prediction == "epsilon":
            return noise
        alpha, sigma = (column(part, data) for part in self.scales(level))
        return alpha * noise - sigma * data

    def weight(self, level: torch.Tensor) -> torch.Tensor:
        """Return the min-SNR weights."""
        if self.config.min_snr is None:
            return torch.ones_like(level)
        alpha, sigma = self.scales(level)
        snr = alpha**2 / sigma**2
        bounded = snr.clamp(max=self.config.min_snr)
        return bounded / snr if self.config.prediction == "epsilon" else bounded / (snr + 1)

    def denoise(self, output: torch.Tensor, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return (x - sigma e) / alpha, or alpha x - sigma v."""
        alpha, sigma = (column(part, x) for part in self.scales(level))
        if self.config.prediction == "epsilon":
            return (x - sigma * output) / alpha
        return alpha * x - sigma * output

    def grid(self, steps: int) -> list[float]:
        """Return 'trailing' levels: 999 first, then evenly down, and -1 (Lin et al. 2024)."""
        count = len(self.alphas) - 1
        if steps > count:
            raise ValueError(f"{steps} steps of {count} levels")
        return [round(count - i * count / steps) - 1.0 for i in range(steps + 1)]

    def path(self, level: float) -> tuple[float, float]:
        """Return (alpha, sigma / alpha)."""
        alpha = float(self.alphas[int(level)])
        return (alpha, math.sqrt(max(0.0, 1 - alpha**2)) / alpha) if alpha else (0.0, math.inf)


def objective_of(config: FlowConfig | EDMConfig | DDPMConfig) -> Objective:
    """Return the objective that `config` describes."""
    if isinstance(config, FlowConfig):
        return Flow(config)
    return EDM(config) if isinstance(config, EDMConfig) else DDPM(config)


def mix(objective: Objective, data: torch.Tensor, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Return alpha z + sigma e (B, ...)."""
    alpha, sigma = objective.scales(level)
    return column(alpha, data) * data + column(sigma, data) * noise
