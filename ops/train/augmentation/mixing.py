"""Images mixed with each other, and their targets with them.

CutMix, MixUp and the soft circles differ only in a mask m in [0, 1], the partner's share of each pixel:
x' = (1 - m) x + m x[partner] and y' = (1 - mean m) y + (mean m) y[partner]. RICAP puts four images together. Partners
are a random permutation of the batch, or of each of `splits` sub-batches, which are mixed separately.
"""

import torch

from ops.train.augmentation.boxes import inside, random_boxes
from ops.train.augmentation.config import Mixing
from ops.train.augmentation.draws import beta, shuffled_within, sub_batches, take_pixels

SPREAD = (0.25, 0.5)  # of the soft circles: standard deviation in units of the shorter side, uniform; a choice of ours


def mix(
    x: torch.Tensor, targets: torch.Tensor, config: Mixing, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mixed images (N, C, H, W) and targets (N, K), by `config.method`.

    Targets that sum to 1 still do. The images and targets given are not changed.
    """
    if config.method == "none":
        return x, targets
    sizes = sub_batches(len(x), config.splits)
    owner = torch.arange(len(x)) if config.draw == "image" else torch.arange(len(sizes)).repeat_interleave(_long(sizes))
    if config.method == "ricap":
        return _ricap(x, targets, config.alpha, sizes, owner, rng)
    partner = shuffled_within(sizes, rng).to(x.device)
    masks = _masks(config, int(owner.max()) + 1, x.shape[2], x.shape[3], rng, x.device)
    shares, owner = masks.mean(dim=(1, 2, 3)), owner.to(x.device)
    # lerp gives its ends exactly, so that pixels inside and outside a box are copies
    mixed = torch.lerp(x, x.index_select(0, partner), masks[owner])
    return mixed, torch.lerp(targets, targets[partner], shares[owner, None])


def _masks(
    config: Mixing, count: int, height: int, width: int, rng: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return the partner's share of each pixel, (count, 1, H, W) or, for MixUp, (count, 1, 1, 1); float32."""
    if config.method == "cutmix":
        if config.size == "window":
            return window_masks(config.window, count, height, width, rng, device)
        return beta_masks(config.alpha, count, height, width, rng, device)
    if config.method == "mixup":
        return (1 - beta(count, config.alpha, rng)).float().to(device)[:, None, None, None]
    return soft_circles(count, height, width, rng, device)


def beta_masks(
    alpha: float, count: int, height: int, width: int, rng: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return boxes of CutMix (Yun et al. 2019) as masks (count, 1, H, W) float32.

    lambda ~ Beta(alpha, alpha) and the sides are sqrt(1 - lambda) of the image's, rounded down to pixels. The mean of a
    mask is 1 - lambda after clipping, which is what the targets must be mixed with.
    """
    ratio = (1 - beta(count, alpha, rng)).sqrt()
    sides = (ratio[:, None] * torch.tensor([height, width])).long()
    return inside(random_boxes(sides, height, width, rng).to(device), height, width).float()


def window_masks(
    window: int, count: int, height: int, width: int, rng: torch.Generator, device: torch.device
) -> torch.Tensor:
    """Return boxes of CutMix with a fixed window length, as Rebuffi et al. 2021 sweep it; (count, 1, H, W) float32."""
    boxes = random_boxes(torch.full((count, 2), window), height, width, rng)
    return inside(boxes.to(device), height, width).float()


def soft_circles(count: int, height: int, width: int, rng: torch.Generator, device: torch.device) -> torch.Tensor:
    """Return Gaussian bells exp(-d^2 / (2 s^2)) around uniform centres as masks (count, 1, H, W) float32.

    After SmoothMix (Lee et al. 2020): the composition has no edges for a network to learn. The range of s is `SPREAD`.
    """
    place = torch.rand(count, 3, generator=rng)
    row, column = place[:, 0] * height, place[:, 1] * width
    spread = (SPREAD[0] + (SPREAD[1] - SPREAD[0]) * place[:, 2]) * min(height, width)
    row, column, spread = (v.to(device)[:, None] for v in (row, column, spread))
    vertical = ((torch.arange(height, device=device) + 0.5 - row) / spread).square()
    horizontal = ((torch.arange(width, device=device) + 0.5 - column) / spread).square()
    return (-(vertical[:, :, None] + horizontal[:, None, :]) / 2).exp()[:, None]


def _ricap(
    x: torch.Tensor, targets: torch.Tensor, alpha: float, sizes: list[int], owner: torch.Tensor, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return RICAP compositions (Takahashi et al. 2018) and their targets.

    The image is cut in four at a point (h, w) of which both parts are Beta(alpha, alpha) shares of the sides, rounded to
    pixels. Each part is a crop, at a random place, of an image of a permutation of its own; its area is its weight.
    """
    height, width = x.shape[2:]
    draws = int(owner.max()) + 1
    h = (beta(draws, alpha, rng) * height).round().long()[owner, None]
    w = (beta(draws, alpha, rng) * width).round().long()[owner, None]
    lower, right = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    part_height = torch.where(lower == 0, h, height - h)  # (N, 4)
    part_width = torch.where(right == 0, w, width - w)
    place = torch.rand(2, draws, 4, generator=rng, dtype=torch.float64)[:, owner]
    row_shift = (place[0] * (height - part_height + 1)).long() - lower * h  # of the source against the result
    column_shift = (place[1] * (width - part_width + 1)).long() - right * w
    source = torch.stack([shuffled_within(sizes, rng) for _ in range(4)], dim=1)
    weights = (part_height * part_width).to(x) / (height * width)

    h, w, row_shift, column_shift, source = (v.to(x.device) for v in (h, w, row_shift, column_shift, source))
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    part = (2 * (rows >= h)[:, :, None] + (columns >= w)[:, None, :].long()).flatten(1)  # (N, H W)
    image, down, across = (v.gather(1, part).view(-1, height, width) for v in (source, row_shift, column_shift))
    mixed = take_pixels(x, image, rows[:, None] + down, columns + across)
    return mixed, torch.einsum("nq,nqk->nk", weights, targets[source])


def _long(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)
