"""3x3 convolutions by Winograd's algorithm F(4x4, 3x3) on the CPU, in float32.

A quarter of the multiplications of a direct convolution, as products of matrices, for which a CPU reaches a larger part
of its peak (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"; what GPU libraries do in float32).
The transforms round: errors are some times those of a direct convolution. `python -m benchmarks.convolution` measures both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ops.models.kernels.compiling import match_threads, pixels_of

LEAST_CHANNELS = 64
"""With fewer, the transforms cost more than the products save."""
LEAST_TILES = 16
"""In a batch; with fewer, transforming the kernels costs more than the products save."""
TILES = 256
"""Of one round of transform, product and transform back: few enough for the cache, enough to read the kernels rarely."""
SIDE, STEP = 6, 4
"""Pixels of a tile's side, of the input and of the output."""
KEPT_BYTES = 2**30
"""Of the transformed kernels that `kept_kernels` keeps: eight times the weights, forward and backward together."""
_KEPT: ContextVar[dict[tuple[int, bool], "_Kept"] | None] = ContextVar("_KEPT", default=None)
"""By the weight's address and `turned`."""


class _Kept(NamedTuple):
    weight: torch.Tensor
    """So that its address stays taken."""
    version: int
    """Of the weight when it was transformed: torch counts changes in place."""
    kernel: torch.Tensor


@contextmanager
def kept_kernels() -> Iterator[None]:
    """Transform each kernel once for as long as the block lasts, and again if its weight changes."""
    if _KEPT.get() is not None:
        yield
        return
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def fits(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether `winograd` computes what `conv` would, and faster: 3x3, stride 1, float32, channels_last, CPU."""
    return (
        not torch.compiler.is_compiling()  # first: a graph for any batch must not depend on this one's size
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
        and x.device.type == "cpu"
        and x.dtype == conv.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and len(x) * _tiles(x) >= LEAST_TILES
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def winograd(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return images (N, C, H, W), channels_last, convolved with `weight` (K, C, 3, 3) and one pixel of zero padding."""
    return _Winograd.apply(x, weight)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        # the images are needed for the gradient of the weights only
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _convolve(x, _kernel(weight, turned=False).transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        images = _convolve(gradient, _kernel(weight, turned=True)) if ctx.needs_input_grad[0] else None
        return images, _weights_gradient(x, gradient) if ctx.needs_input_grad[1] else None


def _convolve(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Return `x` (N, C, H, W) convolved with the transformed `kernel` (36, C, K), some images at a time."""
    transforms = _transforms()
    (count, channels, height, width), out, tiles = x.shape, kernel.shape[2], _tiles(x)
    y = torch.empty((count, out, height, width), memory_format=torch.channels_last)
    read, made = pixels_of(x), pixels_of(y)
    spread = products = torch.empty(0, 0)
    for first, images in _rounds(count, tiles):
        if spread.shape[1] != images * tiles:  # the first and the last round: others find their memory in the cache
            spread, products = (torch.empty(SIDE**2, images * tiles, size) for size in (channels, out))
        transforms.spread(read, first, images, spread.numpy())
        torch.bmm(spread, kernel, out=products)
        transforms.gather(products.numpy(), first, images, made)
    return y


def _weights_gradient(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the gradient (K, C, 3, 3) of the weights that made outputs with this `gradient` (N, K, H, W) of `x`."""
    transforms = _transforms()
    (count, channels), out, tiles = x.shape[:2], gradient.shape[1], _tiles(x)
    read, slopes = pixels_of(x), pixels_of(gradient)
    products = torch.zeros(SIDE**2, out, channels)
    spread = outputs = torch.empty(0, 0)
    for first, images in _rounds(count, tiles):
        if spread.shape[1] != images * tiles:
            spread, outputs = (torch.empty(SIDE**2, images * tiles, size) for size in (channels, out))
        transforms.spread(read, first, images, spread.numpy())
        transforms.spread_outputs(slopes, first, images, outputs.numpy())
        products.baddbmm_(outputs.transpose(1, 2), spread)
    weights = torch.empty((out, channels, 3, 3), memory_format=torch.channels_last)
    transforms.gather_kernel(products.numpy(), pixels_of(weights))
    return weights


def _kernel(weight: torch.Tensor, turned: bool) -> torch.Tensor:
    """Return the transform (36, K, C) of `weight` (K, C, 3, 3), or of the same kernels turned by 180 degrees."""
    kept, key = _KEPT.get(), (weight.data_ptr(), turned)
    version = 0 if weight.is_inference() else weight._version  # tensors of inference mode count no changes
    if kept is not None and key in kept and kept[key].version == version:
        return kept[key].kernel
    kernel = torch.empty(SIDE**2, *weight.shape[:2])
    _transforms().spread_kernel(pixels_of(weight.contiguous(memory_format=torch.channels_last)), turned, kernel.numpy())
    if kept is not None and sum(each.kernel.nbytes for each in kept.values()) + kernel.nbytes <= KEPT_BYTES:
        kept[key] = _Kept(weight, version, kernel)
    return kernel


def _tiles(x: torch.Tensor) -> int:
    """Return the number of tiles of one image."""
    return -(-x.shape[2] // STEP) * -(-x.shape[3] // STEP)


def _rounds(count: int, tiles: int) -> Iterator[tuple[int, int]]:
    """Yield the first image and the number of images of each round over `count` images of so many tiles."""
    share = -(-TILES // tiles)
    for first in range(0, count, share):
        yield first, min(share, count - first)


def _transforms() -> Any:
    from ops.models.kernels import winograd as transforms

    match_threads()
    return transforms
