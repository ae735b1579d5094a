"""A ResNet's first convolution together with the normalisation of its images, for networks that learn nothing, on the CPU.

The gradient of few channels is a product and a sum of shares: `benchmarks.stem` compares it with torch's. And where only a
window of an image changes, only the tiles that it reaches are computed; see `ops.models.windows`.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ops.models import winograd
from ops.models.blocks import is_watched
from ops.models.finish import flat
from ops.models.kernels.compiling import aligned, match_threads, pixels_of
from ops.models.schemes import SIDE
from ops.models.transformed import kept_kernels, made_once, vectors

if TYPE_CHECKING:
    from ops.models.resnet import ResNet


def fits(model: "ResNet", x: torch.Tensor) -> bool:
    """Return whether images `x` (N, C, H, W) can be led through the stem, and gradients back, by what is compiled here.

    In float32, channels_last, on the CPU; for kernels of 3x3 pixels, parameters that no gradient is asked of, and outputs
    in multiples of `winograd.CHANNELS`.
    """
    conv = model.stem
    return (
        winograd.computes(x)
        and conv.kernel_size == (SIDE, SIDE)
        and conv.stride in ((1, 1), (2, 2))
        and conv.bias is None
        and conv.out_channels % winograd.CHANNELS == 0
        and conv.weight.dtype == torch.float32
        and not is_watched(conv)
        and not (torch.is_grad_enabled() and conv.weight.requires_grad)
    )


def map_images(model: "ResNet", x: torch.Tensor) -> torch.Tensor:
    """Return the stem's map (N, K, h, w), channels_last, of images (N, C, H, W) in [0, 1]; only `x` has a gradient.

    Of a network that `fits`.
    """
    return _Stem.apply(x, model)


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, model: "ResNet") -> torch.Tensor:
        ctx.model, ctx.shape = model, x.shape
        return model.stem(model.normalise(x)).contiguous(memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _led_back(ctx.model, gradient.contiguous(memory_format=torch.channels_last), ctx.shape), None


def _led_back(model: "ResNet", gradient: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return the gradient of images of this `shape` (N, C, H, W), given that of their map."""
    from ops.models.kernels import stem as compiled
    from ops.models.kernels.vectors import LANES

    conv, width = model.stem, 2 * LANES
    stride, taps = conv.stride[0], SIDE * SIDE * shape[1]
    padded = -(-taps // width) * width

    def make() -> np.ndarray:
        kernel = torch.zeros(conv.out_channels, padded)
        kernel[:, :taps] = conv.weight.detach().permute(0, 2, 3, 1).flatten(1)
        return _panels(kernel, width)

    images = torch.empty(shape, memory_format=torch.channels_last)
    needed = compiled.sheet_memory(stride, shape[1], padded, conv.out_channels, *gradient.shape[2:])
    with kept_kernels():
        kernel = made_once([conv.weight], "stem, led back", make)
    compiled.lead_back(
        pixels_of(gradient), stride, _before(model, shape), kernel, _of_a_line(model.std, shape[3]), pixels_of(images),
        aligned(match_threads(), needed),
    )  # fmt: skip
    return images


def map_tiles(
    model: "ResNet", x: torch.Tensor, places: np.ndarray, made: torch.Tensor, active: torch.Tensor, norm: np.ndarray
) -> None:
    """Put the tiles at `places` (T,) int64 of the map of `x` into `made` (N, K, h, w), and norm and SiLU of it into `active`.

    Of a network that `fits`. All maps are channels_last; `norm` (3, K) is what the norm takes off, multiplies by and adds.
    Tiles are those of `ops.models.winograd.convolve_tiles`.
    """
    from ops.models.kernels import stem as compiled
    from ops.models.kernels.finish import NUMBERS
    from ops.models.kernels.vectors import LANES

    conv, width = model.stem, LANES * vectors(model.stem.out_channels)
    stride = conv.stride[0]

    def make() -> np.ndarray:
        return _panels(conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2), width)

    line = compiled.seen(stride)
    memory = aligned(match_threads(), compiled.working_memory(stride, x.shape[1], width))
    compiled.convolve(
        pixels_of(x), _of_a_line(model.mean, line), _of_a_line(model.std, line), stride, _before(model, x.shape),
        made_once([conv.weight], "stem", make), pixels_of(made), places, memory, NUMBERS["kept, activated"], flat(active),
        norm.reshape(-1),
    )  # fmt: skip


def _panels(kernel: torch.Tensor, width: int) -> np.ndarray:
    """Return a kernel (inputs, outputs) as the products read it: (outputs / width, inputs, width)."""
    panels = kernel.unflatten(1, (-1, width)).permute(1, 0, 2)
    made = aligned(*panels.shape)
    made[:] = panels.numpy()
    return made


def _of_a_line(statistics: torch.Tensor, pixels: int) -> np.ndarray:
    """Return what the channels have in common (1, C, 1, 1) for each number of so many pixels."""
    return made_once([statistics], f"{pixels} pixels", lambda: statistics.flatten().repeat(pixels).numpy())


def _before(model: "ResNet", shape: torch.Size) -> tuple[int, int]:
    """Return the pixels that are padded above and on the left."""
    from ops.models.resnet import same_padding

    down, across = (same_padding(side, SIDE, model.stem.stride[0])[0] for side in shape[2:])
    return down, across
