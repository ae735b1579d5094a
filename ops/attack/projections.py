"""Norms, projections and steepest ascent, for whole batches."""

import torch

from ops.attack.threat import Threat


def norm_of(delta: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return the norm (N,) of each perturbation (N, ...)."""
    flat = delta.flatten(1)
    return flat.abs().amax(dim=1) if threat.norm == "linf" else flat.norm(dim=1)


def project(x: torch.Tensor, centre: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return `x` (N, ...) moved into the ball around `centre`, then clipped to [0, 1].

    For L-inf this is the exact projection on the intersection. For L2 the ball comes first and the box second, as in
    AutoAttack: the result is in both sets, because clipping towards a centre that is in the box never lengthens d.
    """
    delta = x - centre
    if threat.norm == "linf":
        delta = delta.clamp(-threat.eps, threat.eps)
    else:
        length = norm_of(delta, threat)
        delta = delta * _per_image((threat.eps / length.clamp_min(1e-12)).clamp(max=1), delta)
    return (centre + delta).clamp(0, 1)


def ascent_direction(gradient: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return the direction of steepest ascent of unit norm: the sign (L-inf) or the normalised gradient (L2)."""
    if threat.norm == "linf":
        return gradient.sign()
    return gradient / _per_image(gradient.flatten(1).norm(dim=1).clamp_min(1e-12), gradient)


def random_start(x: torch.Tensor, threat: Threat, seeds: torch.Tensor) -> torch.Tensor:
    """Return a random point of each image's ball and [0, 1]; an image's point follows from its own seed (N,) int64.

    L-inf: uniform in the cube. L2: uniform on the sphere (where almost all of the ball's volume is in many dimensions).
    """
    rngs = [torch.Generator().manual_seed(int(seed)) for seed in seeds.tolist()]
    if threat.norm == "linf":
        noise = torch.stack([torch.rand(x.shape[1:], generator=rng) for rng in rngs]).to(x) * 2 - 1
    else:
        noise = torch.stack([torch.randn(x.shape[1:], generator=rng) for rng in rngs]).to(x)
        noise = noise / _per_image(noise.flatten(1).norm(dim=1), noise)
    return project(x + threat.eps * noise, x, threat)


def _per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
