"""Random numbers that follow from the generator given, and pixels fetched for a whole batch at once.

Everything is drawn on the CPU and moved to the images, so that a seed means the same on every device.
"""

import torch
from scipy.special import betaincinv


def beta(count: int, alpha: float, rng: torch.Generator) -> torch.Tensor:
    """Return draws (count,) float64 in [0, 1] of Beta(alpha, alpha), alpha > 0.

    By inversion of the distribution function, because torch draws Beta only from its global generator.
    """
    uniform = torch.rand(count, generator=rng, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, uniform.numpy()))


def symmetric(count: int, limit: float, rng: torch.Generator) -> torch.Tensor:
    """Return draws (count,) float32, uniform in -limit ... limit."""
    return limit * (2 * torch.rand(count, generator=rng) - 1)


def sub_batches(count: int, splits: int) -> list[int]:
    """Return the sizes of at most `splits` consecutive sub-batches of `count` images; they differ by one at most."""
    return [size for size in (count // splits + (k < count % splits) for k in range(splits)) if size]


def shuffled_within(sizes: list[int], rng: torch.Generator) -> torch.Tensor:
    """Return a permutation (N,) int64 that moves rows only inside their own sub-batch."""
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return torch.cat(
        [start + torch.randperm(size, generator=rng) for start, size in zip(starts, sizes, strict=True)]
        or [torch.empty(0, dtype=torch.int64)]
    )


def take_pixels(x: torch.Tensor, image: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """Return (N, C, H, W) whose pixel (n, i, j) is the one of x that the three indices (broadcast to (N, H, W)) name."""
    return x.permute(0, 2, 3, 1)[image, row, column].permute(0, 3, 1, 2)
