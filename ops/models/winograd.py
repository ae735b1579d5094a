"""3x3 convolutions by Winograd's algorithm on the CPU, in float32, of stride 1 and 2.

F(4x4, 3x3) takes a quarter of the multiplications of a direct convolution, as products of matrices, for which a CPU reaches
a larger part of its peak (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"; what GPU libraries do
in float32). In stride 2 each quarter of the pixels meets its own taps, and 81 multiplications take the place of 144. The
transforms round: errors are some times those of a direct convolution. `python -m benchmarks.convolution` measures both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ops.models.kernels.compiling import match_threads, pixels_of

PAYS = {1: ((64, 16), (32, 4096)), 2: ((128, 64),)}
"""By stride, so many channels and so many tiles in a batch; with fewer, transforms cost more than the products save."""
STEP = 4
"""Pixels of a tile's side in the output."""
ONE_PIXEL: tuple[list[int], ...] = ([0, 0], [1, 1], [1, 1])
"""Padding, stride and dilation of a convolution of single pixels."""
KEPT_BYTES = 2**31
"""Of the transformed kernels that `kept_kernels` keeps: some eight times the weights, forward and backward together."""
_KEPT: ContextVar[dict[tuple[int, bool, bytes], "_Kept"] | None] = ContextVar("_KEPT", default=None)
"""By the weight's address, `turned` and the form it is packed in."""


class _Tiles(NamedTuple):
    """Of images, and what becomes of them or makes them; see `ops.models.kernels.winograd.transform`."""

    kind: str
    step: int
    before: int


class _Scheme(NamedTuple):
    """The transforms of one stride."""

    points: int
    round: int
    """Tiles from transform to transform back: few enough for the cache, enough to read the kernels rarely."""
    pixels: _Tiles
    outputs: _Tiles
    taps: tuple[str, str]
    """As they are, and turned by 180 degrees."""
    led_back: tuple[_Tiles, _Tiles]
    """Of the outputs' gradient, and to that of the pixels."""
    back_outputs: _Tiles
    back_taps: str


_SCHEMES = {
    1: _Scheme(
        points=36,
        round=256,
        pixels=_Tiles("pixels", STEP, 1),
        outputs=_Tiles("outputs", STEP, 0),
        taps=("taps", "turned taps"),
        led_back=(_Tiles("pixels", STEP, 1), _Tiles("outputs", STEP, 0)),
        back_outputs=_Tiles("back outputs", STEP, 0),
        back_taps="back taps",
    ),
    2: _Scheme(
        points=81,
        round=128,
        pixels=_Tiles("strided pixels", 2 * STEP, 0),
        outputs=_Tiles("strided outputs", STEP, 0),
        taps=("strided taps", "turned strided taps"),
        led_back=(_Tiles("led back pixels", STEP, 1), _Tiles("led back outputs", 2 * STEP, 0)),
        back_outputs=_Tiles("back strided outputs", STEP, 0),
        back_taps="back strided taps",
    ),
}


class _Kept(NamedTuple):
    weight: torch.Tensor
    """So that its address stays taken."""
    version: int
    """Of the weight when it was transformed: torch counts changes in place."""
    kernel: torch.Tensor
    bytes: int


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
    """Return whether `winograd` computes what `conv` with SAME padding would, and faster.

    For 3x3 kernels of stride 1, or of stride 2 where sides are even, in float32, channels_last, on the CPU.
    """
    stride = conv.stride[0]
    return (
        not torch.compiler.is_compiling()  # first: a graph for any batch must not depend on this one's size
        and conv.kernel_size == (3, 3)
        and (conv.stride, conv.padding)
        in (((1, 1), (1, 1)), ((2, 2), (0, 0)))  # in stride 2 SAME is not torch's padding
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and (stride == 1 or (x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0))
        and _pays(min(conv.in_channels, conv.out_channels), len(x) * _tiles(x, stride), stride)
        and x.device.type == "cpu"
        and x.dtype == conv.weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def multiplications(stride: int) -> float:
    """Return the multiplications of `winograd`, as a share of a direct convolution's, the transforms' aside."""
    return _SCHEMES[stride].points / (9 * STEP**2)


def _pays(channels: int, tiles: int, stride: int) -> bool:
    return any(channels >= least and tiles >= fewest for least, fewest in PAYS[stride])


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
        return _convolve(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        images = _convolve(gradient, weight, ctx.stride, back=True) if ctx.needs_input_grad[0] else None
        return images, _weights_gradient(x, gradient, ctx.stride) if ctx.needs_input_grad[1] else None, None


def _convolve(x: torch.Tensor, weight: torch.Tensor, stride: int, back: bool = False) -> torch.Tensor:
    """Return `x` (N, C, H, W) convolved with `weight`, or led `back` through it, some images at a time."""
    scheme = _SCHEMES[stride]
    begin, end = scheme.led_back if back else (scheme.pixels, scheme.outputs)
    (count, channels, height, width), out = x.shape, weight.shape[1 if back else 0]
    tiles = _tiles(x, 1 if back else stride)
    sides = (height * stride, width * stride) if back else (height // stride, width // stride)
    y = torch.empty((count, out, *sides), memory_format=torch.channels_last)
    transform, read, made = _transform(), pixels_of(x), pixels_of(y)
    points = torch.empty(0, 0)
    for first, images in _rounds(count, tiles, scheme):
        if len(points) != images * tiles:  # the first and the last round: others find their memory in the cache
            points = torch.empty(images * tiles, scheme.points, channels)
            spread, kernel = points.numpy(), _kernel(weight, stride, back, images * tiles)
        transform(begin, read, first, images, spread)
        transform(end, made, first, images, _products(points, kernel).numpy())
    return y


def _products(points: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Return the products (tiles, P, K) of the points of tiles (tiles, P, C) and the packed `kernel`.

    As convolutions of one pixel in P groups, over an image with one row for each tile: those of torch's library for
    convolutions lie closer to the peak than torch.bmm, above all for few tiles, and take kernels that are packed for them.
    """
    tiles, groups, channels = points.shape
    rows = points.view(1, tiles, 1, groups * channels).permute(0, 3, 1, 2)
    found = torch.ops.mkldnn._convolution_pointwise(rows, kernel, None, *ONE_PIXEL, groups, "none", [], "")
    return found.permute(0, 2, 3, 1).view(tiles, groups, -1)


def _weights_gradient(x: torch.Tensor, gradient: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the gradient (K, C, 3, 3) of the weights that made outputs with this `gradient` (N, K, H, W) of `x`."""
    scheme = _SCHEMES[stride]
    (count, channels), out, tiles = x.shape[:2], gradient.shape[1], _tiles(gradient, 1)
    transform, read, slopes = _transform(), pixels_of(x), pixels_of(gradient)
    products = torch.zeros(scheme.points, out, channels)
    points = outputs = torch.empty(0, 0)
    for first, images in _rounds(count, tiles, scheme):
        if len(points) != images * tiles:
            points, outputs = (torch.empty(images * tiles, scheme.points, size) for size in (channels, out))
        transform(scheme.pixels, read, first, images, points.numpy())
        transform(scheme.back_outputs, slopes, first, images, outputs.numpy())
        products.baddbmm_(outputs.permute(1, 2, 0), points.transpose(0, 1))
    weights = torch.empty((out, channels, 3, 3), memory_format=torch.channels_last)
    transform(_Tiles(scheme.back_taps, 3, 0), pixels_of(weights), 0, out, products.transpose(0, 1).numpy())
    return weights


def _kernel(weight: torch.Tensor, stride: int, turned: bool, tiles: int) -> torch.Tensor:
    """Return the transform of `weight` (K, C, 3, 3), or of the kernels (C, K, 3, 3) that lead gradients back, packed."""
    scheme = _SCHEMES[stride]
    channels, out = weight.shape[:2] if turned else weight.shape[1::-1]
    form = _form(scheme.points, out, channels, tiles, torch.get_num_threads())
    kept, key = _KEPT.get(), (weight.data_ptr(), turned, form)
    version = 0 if weight.is_inference() else weight._version  # tensors of inference mode count no changes
    if kept is not None and key in kept and kept[key].version == version:
        return kept[key].kernel
    source = (weight.transpose(0, 1) if turned else weight).contiguous(memory_format=torch.channels_last)
    plain = torch.empty(scheme.points, out, channels)
    _transform()(_Tiles(scheme.taps[turned], 3, 0), pixels_of(source), 0, out, plain.transpose(0, 1).numpy())
    kernel = _pack(plain, tiles)
    if kept is not None and sum(each.bytes for each in kept.values()) + plain.nbytes <= KEPT_BYTES:
        kept[key] = _Kept(weight, version, kernel, plain.nbytes)
    return kernel


def _pack(plain: torch.Tensor, tiles: int) -> torch.Tensor:
    """Return a transformed kernel (P, K, C) as the library wants it for so many tiles."""
    groups, out, channels = plain.shape
    weight, images = plain.view(groups * out, channels, 1, 1), [1, groups * channels, tiles, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *ONE_PIXEL, groups, images)


@cache
def _form(groups: int, out: int, channels: int, tiles: int, threads: int) -> bytes:
    """Return how the library wants kernels of that size: with another form it is hundreds of times slower."""
    packed = _pack(torch.zeros(groups, out, channels), tiles)
    return torch.ops.mkldnn._get_mkldnn_serialized_md(packed).numpy().tobytes()


def _transform() -> Callable[[_Tiles, np.ndarray, int, int, np.ndarray], None]:
    """Return what transforms tiles of some images (N, H, W, C), from the first of them on, to points (T, P, C), or back."""
    from ops.models.kernels import winograd as transforms

    match_threads()

    def transform(tiles: _Tiles, images: np.ndarray, first: int, count: int, points: np.ndarray) -> None:
        kind = transforms.NUMBERS[tiles.kind]
        transforms.transform(kind, images, first, count, tiles.step, tiles.before, points)

    return transform


def _tiles(x: torch.Tensor, stride: int) -> int:
    """Return the number of tiles of one image."""
    return -(-x.shape[2] // (stride * STEP)) * -(-x.shape[3] // (stride * STEP))


def _rounds(count: int, tiles: int, scheme: _Scheme) -> Iterator[tuple[int, int]]:
    """Yield the first image and the number of images of each round over `count` images of so many tiles."""
    share = -(-scheme.round // tiles)
    for first in range(0, count, share):
        yield first, min(share, count - first)
