"""Colour operations of AutoAugment, RandAugment and colour jitter, for batches in which each image has its own strength.

All take images (n, 3, H, W) float32 in [0, 1] and return the same. The reference is PIL's ImageOps and ImageEnhance on
images of 8 bits. The operations that are defined by 8 bits (equalize, posterize) round to them and agree with PIL
exactly; the others stay real numbers and agree within PIL's roundings, which is 2/255 at most.
"""

import torch

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's conversion to "L"


def autocontrast(x: torch.Tensor) -> torch.Tensor:
    """Return images of which every channel is stretched to [0, 1]; constant channels stay."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / span.clamp_min(1e-12), x).clamp(0, 1)


def equalize(x: torch.Tensor) -> torch.Tensor:
    """Return images of which every channel has a flat histogram of 256 bins, by PIL's integer arithmetic."""
    count, channels = x.shape[:2]
    values = (x * 255).round().long().flatten(2)
    first_bin = 256 * torch.arange(count * channels, device=x.device).view(count, channels, 1)
    histogram = torch.bincount((values + first_bin).flatten(), minlength=256 * count * channels)
    histogram = histogram.view(count, channels, 256)
    brightest = histogram.gather(2, values.amax(dim=2, keepdim=True))
    step = (values.shape[2] - brightest) // 255
    before = histogram.cumsum(dim=2) - histogram
    table = ((step // 2 + before) // step.clamp_min(1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return (table.gather(2, values).to(x.dtype) / 255).view(x.shape)


def invert(x: torch.Tensor) -> torch.Tensor:
    """Return negatives."""
    return 1 - x


def solarize(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Return images whose values at or above 255 `threshold` / 256 are inverted: thresholds (n,) from 1 (none) to 0."""
    return torch.where(x * 255 < _per_image(threshold) * 256, x, 1 - x)


def posterize(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Return images rounded to 8 bits of which the `bits` (n,) highest are kept; 8 keeps all."""
    step = _per_image(2.0 ** (8 - bits))
    return ((x * 255).round() / step).floor() * step / 255


def saturation(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images between (0) and beyond (above 1) their grey copies and themselves (1): PIL's Color."""
    return _blend(_grey(x), x, factor)


def contrast(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images blended with the mean of their grey copies."""
    return _blend(_grey(x).mean(dim=(2, 3), keepdim=True), x, factor)


def brightness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images blended with black."""
    return _blend(torch.zeros_like(x), x, factor)


def turn_hue(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Return images whose hue is moved by `turns` (n,) of the colour circle; value and saturation (HSV) stay.

    In sixths of a turn, red is at 0, green at 2, blue at 4, and a channel c at n = 5, 3, 1 has the value
    V - (V - min) max(0, min(k, 4 - k, 1)) with k = (n + hue) mod 6, which is what HSV is defined by.
    """
    value, low = x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True)
    chroma = value - low
    red, green, blue = x.split(1, dim=1)
    first, second = red == value, green == value  # a grey pixel has no hue, and its chroma of 0 makes any hue do
    ahead = torch.where(first, green - blue, torch.where(second, blue - red, red - green))
    base = torch.where(first, 0.0, torch.where(second, 2.0, 4.0))
    sixths = base + ahead / chroma.clamp_min(torch.finfo(x.dtype).tiny)
    channels = torch.tensor([5.0, 3.0, 1.0], dtype=x.dtype, device=x.device)[None, :, None, None]
    k = (channels + sixths + 6 * _per_image(turns)) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def sharpness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return images blended with a copy smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; the border stays."""
    smooth = x.clone()
    if min(x.shape[2:]) > 2:
        total = torch.nn.functional.avg_pool2d(x, 3, stride=1) * 9
        smooth[:, :, 1:-1, 1:-1] = (total + 4 * x[:, :, 1:-1, 1:-1]) / 13
    return _blend(smooth, x, factor)


def _grey(x: torch.Tensor) -> torch.Tensor:
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _blend(start: torch.Tensor, end: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (start + _per_image(factor) * (end - start)).clamp(0, 1)


def _per_image(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]
