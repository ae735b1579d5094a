"""Classifier-free guidance (Ho and Salimans 2022), composed over conditions, with rescale and interval.

With one weight w the guided output is u + w (c - u), where u is the output for the null. With a weight for each of some
conditions they are added one after the other: u + w_1 (c_1 - u) + w_2 (c_12 - c_1) + ... (the two-scale form for label
and attribute is Brooks et al. 2023, equation 3); every level more is one evaluation more.
"""

from collections.abc import Mapping, Sequence

import torch

from ops.errors import AmalgamError
from ops.generate.backbones import LatentModel
from ops.generate.conditioning import Conditions
from ops.generate.objectives import Objective
from ops.generate.sampler_config import SamplerConfig
from ops.generate.solvers import Denoiser

CAPTION = "caption"


def stages(guidance: float | Mapping[str, float], names: Sequence[str]) -> list[tuple[frozenset[str], float]]:
    """Return the conditions that are given at each level after the null, and the weight of what the level adds.

    `names` are the conditions that have codes. Raises AmalgamError for a condition that the generator has not.
    """
    everything = frozenset([CAPTION, *names])
    if not isinstance(guidance, Mapping):
        return [(everything, float(guidance))]
    given: frozenset[str] = frozenset()
    levels = []
    for name, weight in guidance.items():
        if name not in everything:
            raise AmalgamError(
                f"guidance names {name!r}, which the generator is not conditioned on",
                f"use some of: {', '.join([CAPTION, *names])}",
            )
        given |= {name}
        levels.append((given, float(weight)))
    return levels if given == everything else [*levels, (everything, 1.0)]


def guided_denoiser(
    model: LatentModel, objective: Objective, conditions: Conditions, config: SamplerConfig
) -> Denoiser:
    """Return D(x, level) of `model` for `conditions` (B rows), guided as `config` says.

    Guidance acts where sigma / (alpha + sigma) lies in `config.interval` (Kynkaanniemi et al. 2024; the share is the time
    of rectified flow, so that one setting means the same for every objective); elsewhere the model is asked once.
    Guided outputs get the deviation of conditional ones back by the share `config.rescale` (Lin et al. 2024, section
    3.4). D is bounded by `config.clip`. Where no row of the batch is told anything there is nothing to guide towards, and the
    model is asked once, too.
    """
    names = model.conditioner.names
    levels = stages(config.guidance, names)
    given = [conditions.only(names, model.conditioner.sizes, kept) for kept, _ in levels]
    none = conditions.null(model.conditioner.sizes)
    told = bool(conditions.mask.any()) or not torch.equal(conditions.codes, none.codes)
    plain = not told or all(weight == 1 for _, weight in levels)

    def denoise(x: torch.Tensor, level: float) -> torch.Tensor:
        at = torch.full((len(x),), level, device=x.device)
        seen, time = objective.inputs(x, at)
        alpha, sigma = (float(part[0]) for part in objective.scales(at[:1]))
        low, high = config.interval
        if plain or not low <= sigma / (alpha + sigma) <= high:
            output = model(seen, time, conditions)
        else:
            output = before = model(seen, time, none)
            for (_, weight), part in zip(levels, given, strict=True):
                conditional = model(seen, time, part)
                output = output + weight * (conditional - before)
                before = conditional
            output = rescale(output, before, config.rescale)
        denoised = objective.denoise(output.float(), x, at)
        return denoised if config.clip is None else denoised.clamp(-config.clip, config.clip)

    return denoise


def rescale(guided: torch.Tensor, conditional: torch.Tensor, share: float) -> torch.Tensor:
    """Return `guided` (B, ...) with its deviation over an image moved by `share` to that of `conditional`."""
    if not share:
        return guided
    axes = list(range(1, guided.dim()))
    wanted, is_now = conditional.std(dim=axes, keepdim=True), guided.std(dim=axes, keepdim=True)
    return guided * (share * wanted / is_now.clamp(min=1e-12) + 1 - share)
