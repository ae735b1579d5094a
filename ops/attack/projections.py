"""Norms, exact projections, steepest ascent and random starts, for whole batches.

The feasible set of an image c is the ball around c intersected with the box [0, 1]. Projecting on one and then on the
other is in both sets, but for L2 and L1 it is not the closest point of both: part of the budget stays unused wherever
pixels meet the border of the box. All functions take and return (N, ...) floating-point tensors on any device, keep
their memory format, and wait for no result on an accelerator.
"""

import math
from typing import Literal

import torch

from ops.attack.threat import Threat

Start = Literal["uniform", "gaussian", "none"]
"""Where an attack begins: a random point of the ball, the image with a little noise, or the image."""
GAUSSIAN_START = 0.001
"""Standard deviation of TRADES' start in pixels: at the image itself the gradient of the KL divergence is 0."""
L1_SHARE = 0.05
"""Share of the pixel values that an L1 step moves in training (E-AT, Croce and Hein 2022, public code)."""
AT_BORDER = 1e-6
"""A pixel this close to the border of the box cannot move towards it: 0.9 + (1 - 0.9) need not be 1 in float32."""
NEWTON_STEPS = 20
"""Bound on Newton's steps for L2. Slope times error falls by 4 or more in each; 2 to 5 are usual."""
FEW = 4
"""L1: where no more than one in so many numbers is asked for, the largest are found without sorting all."""
PRECISION = 1e-6
"""L2: the square of the multiplier is settled when a step changes it by no more than this share."""


def norm_of(delta: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return the norm (N,) of each perturbation (N, ...)."""
    dims = _image_dims(delta)
    if threat.norm == "linf":
        return delta.abs().amax(dim=dims)
    return torch.linalg.vector_norm(delta, 2 if threat.norm == "l2" else 1, dim=dims)


@torch.no_grad()
def project(x: torch.Tensor, centre: torch.Tensor, threat: Threat) -> torch.Tensor:
    """Return the closest point to `x` (N, ...) in the ball around `centre` intersected with [0, 1].

    `centre` must lie in [0, 1]; `x` may be anywhere. Exact for all norms, up to the precision of the numbers. No gradient
    passes through.
    """
    delta = x - centre
    if threat.norm == "linf":
        delta.clamp_(-threat.eps, threat.eps)
    elif threat.norm == "l2":
        delta = _shortened(delta, -centre, 1 - centre, threat.eps)
    else:
        delta = _shrunk(delta, -centre, 1 - centre, threat.eps)
    return delta.add_(centre).clamp_(0, 1)


def _shortened(delta: torch.Tensor, low: torch.Tensor, high: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the closest perturbation to `delta` of L2 norm <= eps in [low, high]; low <= 0 <= high.

    The optimality conditions give d = clamp(s delta, low, high) for one s in [0, 1] per image: 1 if that has norm <= eps,
    else the s at which the norm is eps. In t = s^2, h(t) = ||d||^2 = sum_i min(t delta_i^2, bound_i^2) is concave,
    increasing and linear between kinks. So Newton's method from the left, t <- t + (eps^2 - h(t)) / h'(t), never passes
    the root (every iterate is in the ball) and ends on it after finitely many steps; where no pixel is clipped, its
    starting point eps^2 / ||delta||^2 is the root.
    """
    dims = _image_dims(delta)
    budget, tiny = eps * eps, torch.finfo(delta.dtype).tiny
    t = (budget / _energy(delta, dims).clamp_min(tiny)).clamp_max(1)
    # two buffers for all steps: on a CPU, fresh memory for tensors of this size costs more than the arithmetic
    scaled, found = torch.empty_like(delta), torch.empty_like(delta)
    for _ in range(NEWTON_STEPS):
        torch.mul(delta, t.sqrt(), out=scaled)
        torch.clamp(scaled, low, high, out=found)
        slope = _energy(scaled.eq_(found).mul_(delta), dims)
        new = (t + ((budget - _energy(found, dims)) / slope.clamp_min(tiny)).clamp_min(0)).clamp_max(1)
        settled = new - t <= PRECISION * t
        if delta.device.type == "cpu" and bool(settled.all()):
            return found  # asked only where asking is free: settled multipliers stay as they are anyway
        t = torch.where(settled, t, new)
    return torch.clamp(torch.mul(delta, t.sqrt(), out=scaled), low, high, out=found)


def _energy(values: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    return torch.linalg.vector_norm(values, dim=dims, keepdim=True).square()


def _shrunk(delta: torch.Tensor, low: torch.Tensor, high: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the closest perturbation to `delta` of L1 norm <= eps in [low, high]; low <= 0 <= high.

    The optimality conditions give d = clamp(sign(delta) max(|delta| - tau, 0), low, high) for one tau >= 0 per image (as
    in Croce and Hein 2021): 0 if that has norm <= eps, else the tau at which the norm is eps. The norm falls with tau and
    is linear between its kinks, where a pixel leaves 0 or meets its bound: sort them, sum up, and interpolate.
    """
    leaves, meets = delta.abs().flatten(1), (delta - delta.clamp(low, high)).abs().flatten(1)
    kinks, order = _descending(torch.cat([leaves, meets], dim=1))
    slope = (1 - 2 * (order >= leaves.shape[1]).to(kinks)).cumsum(dim=1)
    norms = torch.zeros_like(kinks)
    norms[:, 1:] = (slope[:, :-1] * (kinks[:, :-1] - kinks[:, 1:])).cumsum(dim=1)
    last = ((norms <= eps).sum(dim=1, keepdim=True) - 1).clamp_min(0)
    missing = eps - norms.gather(1, last)
    tau = (kinks.gather(1, last) - missing / slope.gather(1, last).clamp_min(1)).clamp_min(0)
    tau = per_image(tau, delta)
    found = (delta - delta.clamp(-tau, tau)).clamp(low, high)
    # an error of tau in its last digit counts once for each moved pixel
    length = found.abs().sum(dim=_image_dims(found), keepdim=True)
    return found * (eps / length.clamp_min(eps))


def _descending(kinks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the kinks (N, n), none of them negative, from the largest on, and where they were.

    Of those at 0, where an image's tau may end, one is enough: where a CPU can tell that most are, it leaves others out.
    """
    if kinks.device.type == "cpu" and kinks.numel():
        count = int((kinks > 0).sum(dim=1).max()) + 1
        if FEW * count <= kinks.shape[1]:
            return kinks.topk(count, dim=1)
    return kinks.sort(dim=1, descending=True)


def ascent_direction(
    gradient: torch.Tensor, threat: Threat, x: torch.Tensor | None = None, share: float | torch.Tensor = L1_SHARE
) -> torch.Tensor:
    """Return the direction of steepest ascent of unit norm: L-inf the sign, L2 the normalised gradient, L1 sparse signs.

    For L1 the steepest direction is a single pixel value, which makes slow attacks; as in the public L1 attacks the signs
    of the largest `share` of the entries are taken together, a number for all or (N,) one for each image, always at least
    one entry. With the iterate `x` given, entries that would leave [0, 1] at once are not chosen. A gradient of 0 gives 0.
    """
    if threat.norm == "linf":
        return gradient.sign()
    if threat.norm == "l2":
        return gradient / per_image(norm_of(gradient, threat).clamp_min(1e-12), gradient)
    if x is not None:
        rising, falling = gradient.clamp_min(0) * (x < 1 - AT_BORDER), gradient.clamp_max(0) * (x > AT_BORDER)
        gradient = rising + falling
    size = gradient.abs()
    threshold = per_image(_kth_largest(size.flatten(1), share), gradient)
    signs = gradient.sign() * (size >= threshold)
    return signs / per_image(norm_of(signs, threat).clamp_min(1), signs)


def _kth_largest(values: torch.Tensor, share: float | torch.Tensor) -> torch.Tensor:
    """Return the k-th largest of each row of `values` (N, n), k = share n rounded up (but not for a rounding error)."""
    count = values.shape[1]
    if isinstance(share, torch.Tensor):
        places = (share * count - 0.001).ceil().long().clamp(1, count) - 1
        most = int(places.max()) + 1 if values.device.type == "cpu" and len(places) else count
        few = FEW * most <= count
        largest = values.topk(most, dim=1).values if few else values.sort(dim=1, descending=True).values
        return largest.gather(1, places[:, None]).squeeze(1)
    return values.topk(min(max(math.ceil(share * count - 0.001), 1), count), dim=1).values[:, -1]


def random_start(x: torch.Tensor, threat: Threat, seeds: torch.Tensor, kind: Start = "uniform") -> torch.Tensor:
    """Return where an evaluation starts; an image's point follows from its own seed (N,) int64, whatever its batch.

    `uniform`, L-inf: uniform in the cube. L2: uniform on the sphere (where almost all of the ball's volume is in many
    dimensions). L1: x + N(0, 1) projected, as in AutoAttack: a uniform point of an L1 ball lies close to its centre, this
    one is sparse and far. `gaussian`: x + 0.001 N(0, 1). All are projected on the ball and [0, 1]. `none`: x.
    """
    if kind == "none":
        return x.clone()
    rngs = [torch.Generator().manual_seed(int(seed)) for seed in seeds.tolist()]
    if kind == "uniform" and threat.norm == "linf":
        noise = threat.eps * (torch.stack([torch.rand(x.shape[1:], generator=rng) for rng in rngs]).to(x) * 2 - 1)
        return project(x + noise, x, threat)
    noise = torch.stack([torch.randn(x.shape[1:], generator=rng) for rng in rngs]).to(x)
    if kind == "gaussian":
        noise = GAUSSIAN_START * noise
    elif threat.norm == "l2":
        noise = threat.eps * (noise / per_image(norm_of(noise, threat), noise))
    return project(x + noise, x, threat)


def batch_start(x: torch.Tensor, threat: Threat, kind: Start, rng: torch.Generator) -> torch.Tensor:
    """Return where training's attack on images `x` (N, ...) starts; one CPU generator draws for the whole batch.

    `uniform`: uniform in the ball, for all norms: L-inf coordinates are uniform; for L2 and L1 a direction that is
    uniform on the sphere (normalised Gaussian or Laplace noise) times eps U^(1/n), n values in an image. `gaussian`:
    x + 0.001 N(0, 1), the start of TRADES. Both are projected on the ball and [0, 1]. `none`: x.
    """
    if kind == "none":
        return x.clone()
    if kind == "gaussian":
        noise = GAUSSIAN_START * torch.randn(x.shape, generator=rng)
    elif threat.norm == "linf":
        noise = threat.eps * (torch.rand(x.shape, generator=rng) * 2 - 1)
    else:
        if threat.norm == "l2":
            noise = torch.randn(x.shape, generator=rng)
        else:
            signs = torch.randint(0, 2, x.shape, generator=rng) * 2 - 1
            noise = signs * torch.empty(x.shape).exponential_(generator=rng)
        radius = threat.eps * torch.rand(len(x), generator=rng) ** (1 / max(x[0].numel(), 1))
        noise = noise * per_image(radius / norm_of(noise, threat), noise)
    return project(x + noise.to(x), x, threat)


def per_image(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return `values` (N,) in the shape (N, 1, ..., 1) that multiplies the images `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _image_dims(images: torch.Tensor) -> tuple[int, ...]:
    return tuple(range(1, images.dim()))
