"""3x3 convolutions by Winograd's algorithm on the CPU, in float32, of stride 1 and 2.

F(4x4, 3x3) takes a quarter of the multiplications of a direct convolution, as products of matrices (Lavin and Gray 2016,
"Fast Algorithms for Convolutional Neural Networks"; what GPU libraries do in float32). In stride 2 each quarter of the
pixels meets its own taps, and 81 multiplications take the place of 144. The transforms round: errors are some times those of
a direct convolution. `python -m benchmarks.convolution` measures both. What becomes of an image does not depend on the rest
of its batch, to the last bit.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from ops.models.finish import AS_IT_IS, Finish
from ops.models.kernels.compiling import aligned, match_threads, pixels_of
from ops.models.schemes import SCHEMES, STEP, Tiles, count_tiles, transforms
from ops.models.transformed import transformed

CHANNELS = 16
"""Channels and outputs are multiples of this: the numbers in a vector register, at most."""
FEWEST_TILES, FEWEST_LEARNING = 8, 64
"""Of a batch; with fewer, as for one image of few pixels, reading the kernels costs more than is saved. Where weights learn,
kernels are transformed each time."""
CACHED_BYTES = 2**24
"""Of a transformed kernel that stays in the cache while it is read again and again."""
WEIGHTS_TILES = 256
"""Whose points are in memory at once for the gradient of the weights; with fewer it is taken directly."""
WEIGHTS_CHANNELS = 32
"""For the gradient of the weights; with fewer it is taken directly, and in stride 2."""


def fits(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether `winograd` computes what `conv` with SAME padding would, and faster.

    For 3x3 kernels of stride 1, or of stride 2 where sides are even, in float32, channels_last, on the CPU.
    """
    return computes(x) and pays(conv, len(x), x.shape[2], x.shape[3])  # the former first: it looks for a compiler


def computes(x: torch.Tensor) -> bool:
    """Return whether convolutions of `x` (N, C, H, W) can be computed here at all."""
    return (
        not torch.compiler.is_compiling()  # first: a graph for any batch must not depend on this one's size
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def pays(conv: nn.Conv2d, count: int, height: int, width: int) -> bool:
    """Return whether `winograd` computes `conv` with SAME padding of `count` images of that size, and faster."""
    stride, learns = conv.stride[0], torch.is_grad_enabled() and conv.weight.requires_grad
    return (
        conv.kernel_size == (3, 3)
        and (conv.stride, conv.padding)
        in (((1, 1), (1, 1)), ((2, 2), (0, 0)))  # in stride 2 SAME is not torch's padding
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and (stride == 1 or (height % 2 == 0 and width % 2 == 0))
        and conv.in_channels % CHANNELS == conv.out_channels % CHANNELS == 0
        and count * count_tiles(height, width, stride * STEP) >= (FEWEST_LEARNING if learns else FEWEST_TILES)
        and conv.weight.dtype == torch.float32
    )


def winograd(x: torch.Tensor, weight: torch.Tensor, stride: int = 1) -> torch.Tensor:
    """Return images (N, C, H, W), channels_last, convolved with `weight` (K, C, 3, 3).

    They are padded with zeros as SAME does: by one pixel on each side, or in stride 2, where sides must be even, by one at
    the bottom and right.
    """
    return _Winograd.apply(x, weight, stride)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        # the images are needed for the gradient of the weights only
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.stride = stride
        return _convolved(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        images = _convolved(gradient, weight, ctx.stride, back=True) if ctx.needs_input_grad[0] else None
        return images, _weights_gradient(x, weight, gradient, ctx.stride) if ctx.needs_input_grad[1] else None, None


def _convolved(x: torch.Tensor, weight: torch.Tensor, stride: int, back: bool = False) -> torch.Tensor:
    """Return `x` (N, C, H, W) convolved with `weight`, or led `back` through it."""
    (count, _, height, width), out = x.shape, weight.shape[1 if back else 0]
    sides = (height * stride, width * stride) if back else (height // stride, width // stride)
    y = torch.empty((count, out, *sides), memory_format=torch.channels_last)
    convolve_into(y, x, weight, stride, back)
    return y


def convolve_into(
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: int = 1, back: bool = False, then: Finish = AS_IT_IS
) -> None:
    """Put `x` (N, C, H, W) convolved with `weight` into `y`, both channels_last, or `x` led `back` as a gradient is.

    See `convolve_tiles`, which this is with all tiles.
    """
    places = np.arange(len(y) * count_tiles(y.shape[2], y.shape[3], STEP * (stride if back else 1)))
    convolve_tiles(x, weight, y, places, stride, back, then)


def convolve_tiles(
    x: torch.Tensor,
    weight: torch.Tensor,
    y: torch.Tensor,
    places: np.ndarray,
    stride: int = 1,
    back: bool = False,
    then: Finish = AS_IT_IS,
) -> None:
    """Put the tiles at `places` (T,) int64 of `x` (N, C, H, W) convolved with `weight` into `y`, both channels_last.

    A tile is a square of STEP pixels of the output (led `back`, of `stride` STEP); those of an image are counted row by row,
    image after image. `then` is done to these tiles. Raises ValueError for channels that are no multiples of CHANNELS.
    """
    if x.shape[1] % CHANNELS or y.shape[1] % CHANNELS:
        raise ValueError(f"{x.shape[1]} and {y.shape[1]} channels are not multiples of {CHANNELS}")
    from ops.models.kernels import winograd as compiled

    threads, (begin, end) = match_threads(), transforms(stride, back)
    kernel = transformed(weight, stride, back)
    size, rows = portions(len(places), together(kernel), threads)
    memory = aligned(threads, compiled.working_memory(len(kernel), size, max(x.shape[1], y.shape[1]), end.step))
    compiled.convolve(
        compiled.NUMBERS[begin.kind], pixels_of(x), begin.step, begin.before, kernel, compiled.NUMBERS[end.kind],
        pixels_of(y), end.step, places, size, rows, memory, *then.arguments(),
    )  # fmt: skip


def together(kernel: np.ndarray) -> int:
    """Return how many tiles to take at once: so few that their points stay in a core's cache, and more for large kernels.

    Those have to come from memory for every portion.
    """
    from ops.models.kernels.panels import ROWS

    return ROWS * (1 if kernel.nbytes <= CACHED_BYTES else 8)


def portions(tiles: int, size: int, threads: int) -> tuple[int, int]:
    """Return how many of some tiles to take at once, some `size`, and how many of these in one panel of the products."""
    from ops.models.kernels.panels import ROWS

    rounds = threads * max(1, -(-tiles // (threads * size)))
    size = max(1, -(-tiles // rounds))
    panels = -(-size // ROWS)
    rows = -(-size // panels)
    return rows * panels, rows


def _weights_gradient(x: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the gradient (K, C, 3, 3) of the weights that made outputs with this `gradient` (N, K, H, W) of `x`."""
    (out, channels), tiles = weight.shape[:2], count_tiles(gradient.shape[2], gradient.shape[3])
    if stride == 2:
        return conv2d_weight(F.pad(x, (0, 1, 0, 1)), weight.shape, gradient, stride)
    if min(channels, out) < WEIGHTS_CHANNELS or len(x) * tiles < WEIGHTS_TILES:
        return conv2d_weight(x, weight.shape, gradient, padding=1)
    points, share = SCHEMES[1].points, -(-WEIGHTS_TILES // tiles)
    products = torch.zeros(points, out, channels)
    for some in (slice(first, first + share) for first in range(0, len(x), share)):
        pixels, outputs = (torch.empty(len(x[some]) * tiles, points, size) for size in (channels, out))
        _transform(SCHEMES[1].pixels, pixels_of(x[some]), pixels)
        _transform(Tiles("back outputs", STEP, 0), pixels_of(gradient[some]), outputs)
        products.baddbmm_(outputs.permute(1, 2, 0), pixels.transpose(0, 1))
    weights = torch.empty((out, channels, 3, 3), memory_format=torch.channels_last)
    _transform(Tiles("back taps", 3, 0), pixels_of(weights), products.transpose(0, 1))
    return weights


def _transform(tiles: Tiles, images: np.ndarray, points: torch.Tensor) -> None:
    """Transform the tiles of images (N, H, W, C) to points (T, P, C), or back."""
    from ops.models.kernels import winograd as compiled

    match_threads()
    compiled.transform(compiled.NUMBERS[tiles.kind], images, tiles.step, tiles.before, points.numpy())
