"""BatchNorm and SiLU as one operation on the CPU, with the statistics of the batch or with those of training.

On a CPU norm and activation are bound by memory: each of their passes over it costs as much as the next. Together they
need fewer passes than one after the other, forward and backward, and remember only the input.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ops.models.kernels.compiling import match_threads, pixels_of


def fits(norm: nn.BatchNorm2d, x: torch.Tensor) -> bool:
    """Return whether `norm_silu` does for `x` what norm and activation would: float32, channels_last, CPU.

    In evaluation, only where no gradient of the norm's parameters is wanted.
    """
    return (
        not torch.compiler.is_compiling()  # first: a graph for any batch must not depend on this one's size
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and (x.numel() > x.shape[1] if norm.training else is_fixed(norm))
        and not torch.jit.is_tracing()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def is_fixed(norm: nn.BatchNorm2d) -> bool:
    """Return whether the norm is in evaluation, uses its running statistics and learns nothing."""
    learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in norm.parameters())
    return not norm.training and norm.track_running_stats and norm.affine and not learns


def norm_silu(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Return silu(norm(x)) of images (N, C, H, W) that `fits` accepts, and update the running statistics as `norm` does."""
    if not norm.training:
        return _FrozenNormSilu.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
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


class _FrozenNormSilu(torch.autograd.Function):
    """From (x, weight, bias, mean, variance, eps) to the output; only `x` has a gradient."""

    @staticmethod
    @np.errstate(invalid="ignore", over="ignore")
    def forward(ctx: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        ctx.statistics = _frozen(*rest)
        y = torch.empty_like(x)
        _kernels().normalise_silu(_pixels(x), *ctx.statistics, _pixels(y))
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    @np.errstate(invalid="ignore", over="ignore")
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        made, gradient = torch.empty_like(x), gradient.contiguous(memory_format=torch.channels_last)
        _kernels().frozen_gradient(_pixels(x), _pixels(gradient), *ctx.statistics, _pixels(made))
        return made, None, None, None, None, None


def frozen_statistics(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a norm in evaluation takes off, multiplies by and adds, (C,) float32 each."""
    return _frozen(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)


def _frozen(*statistics: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weight, bias, mean, variance = (part.detach().numpy() for part in statistics[:-1])
    return mean, weight / np.sqrt(variance + np.float32(statistics[-1])), bias


def _kernels() -> Any:
    from ops.models.kernels import norm_silu as kernels

    match_threads()
    return kernels


def _pixels(x: torch.Tensor) -> np.ndarray:
    """Return channels_last images (N, C, H, W) as an array (N, H W, C) of the same memory."""
    return pixels_of(x).reshape(len(x), -1, x.shape[1])
