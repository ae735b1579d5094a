"""BatchNorm with the statistics of the batch and SiLU as one operation on the CPU.

On a CPU norm and activation are bound by memory: each of their passes over it costs as much as the next. Together they
need fewer passes than one after the other, forward and backward, and remember only the input.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable


def fits(norm: nn.BatchNorm2d, x: torch.Tensor) -> bool:
    """Return whether `norm_silu` does for `x` what norm and activation would: float32, channels_last, CPU, training."""
    return (
        norm.training
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > x.shape[1]
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def norm_silu(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Return silu(norm(x)) of images (N, C, H, W) that `fits` accepts, and update the running statistics as `norm` does."""
    y, mean, variance = _NormSilu.apply(x, norm.weight, norm.bias, norm.eps)
    if norm.track_running_stats:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        with torch.no_grad():
            count = x.numel() // x.shape[1]
            momentum = 0.0 if norm.momentum is None else norm.momentum
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(variance * (count / (count - 1)), momentum)
    return y


class _NormSilu(torch.autograd.Function):
    """From (x, weight, bias, eps) to output, mean (C,) and biased variance (C,); the latter two have no gradient."""

    @staticmethod
    @np.errstate(invalid="ignore", over="ignore")  # a run that diverges is found at its loss
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        kernels = _kernels()
        pixels = _pixels(x)
        # sums of differences from some pixel: exact even if all values are far from zero
        shift = pixels[0, 0].copy()
        sums = np.empty((2, len(pixels), len(shift)))
        kernels.moments(pixels, shift, sums)
        first, second = sums.sum(axis=1) / (pixels.shape[0] * pixels.shape[1])
        variance = np.maximum(second - first**2, 0)
        inverse = 1 / np.sqrt(variance + eps)
        mean, variance = (first + shift).astype(np.float32), variance.astype(np.float32)
        scale = (weight.detach().numpy() * inverse).astype(np.float32)
        y = torch.empty_like(x)
        kernels.normalise_silu(pixels, mean, scale, bias.detach().numpy(), _pixels(y))
        ctx.save_for_backward(x, bias)
        ctx.statistics = mean, scale, inverse
        found = torch.from_numpy(mean), torch.from_numpy(variance)
        ctx.mark_non_differentiable(*found)
        return y, *found

    @staticmethod
    @once_differentiable
    @np.errstate(invalid="ignore", over="ignore")
    def backward(
        ctx: Any, gradient: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, None]:
        kernels = _kernels()
        x, bias = ctx.saved_tensors
        mean, scale, inverse = ctx.statistics
        pixels, made = _pixels(x), torch.empty_like(x)
        out, sums = _pixels(made), np.empty((2, len(pixels), len(mean)))
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        kernels.silu_gradient(pixels, _pixels(gradient), mean, scale, bias.detach().numpy(), out, sums)
        offsets, centred = sums.sum(axis=1)
        count = pixels.shape[0] * pixels.shape[1]
        constant = (scale * offsets / count).astype(np.float32)
        slope = (scale * inverse**2 * centred / count).astype(np.float32)
        kernels.norm_gradient(pixels, out, mean, scale, constant, slope)
        scales = torch.from_numpy((centred * inverse).astype(np.float32)) if ctx.needs_input_grad[1] else None
        biases = torch.from_numpy(offsets.astype(np.float32)) if ctx.needs_input_grad[2] else None
        return made, scales, biases, None


def _kernels() -> Any:
    """Return the compiled kernels, which use as many threads as torch does; importing them takes a second."""
    from numba import config, set_num_threads

    from ops.models import kernels

    set_num_threads(min(torch.get_num_threads(), config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    return kernels


def _pixels(x: torch.Tensor) -> np.ndarray:
    """Return channels_last images (N, C, H, W) as an array (N, H W, C) of the same memory."""
    return x.detach().permute(0, 2, 3, 1).flatten(1, 2).numpy()
