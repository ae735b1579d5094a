"""Residual blocks that learn nothing, as one operation on the CPU: what attacks ask of a ResNet.

Sums, norms and SiLUs are done to a convolution's output while that is in the cache (`ops.models.finish`). For the gradient
of the images, what remains of an activation is its slope, which the way back multiplies by: no exponential is taken twice.
Images go through the blocks of one resolution some at a time, so few that their maps stay in the cache, too.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from ops.models import norm_silu, winograd
from ops.models.chain import Groups, Layer, Link, Way, Whole
from ops.models.finish import Finish
from ops.models.transformed import kept_kernels, made_once

if TYPE_CHECKING:
    from ops.models.resnet import NormAct, PreActBlock, ResNet, WideBlock

    Block: TypeAlias = PreActBlock | WideBlock


def blocks_of(model: "ResNet") -> "list[Block]":
    """Return the network's blocks."""
    return list(model.blocks)  # type: ignore[arg-type]


def norms_after(blocks: "Sequence[Block]", last: "NormAct") -> "list[NormAct]":
    """Return what comes after each block: the first norm of the next one, or the network's `last`."""
    return [*(block.norm1 for block in blocks[1:]), last]


def fits(blocks: "Sequence[Block]", norm: "NormAct", x: torch.Tensor) -> bool:
    """Return whether `pass_blocks` computes what `blocks` and then `norm` make of `x` (N, C, H, W).

    In float32, channels_last, on the CPU; for norms in evaluation and SiLU, parameters that no gradient is asked of, and
    channels that are multiples of `winograd.CHANNELS`. Not where hooks want to see what happens within.
    """
    if not winograd.computes(x) or not blocks or any(is_watched(part) for part in (*blocks, norm)):
        return False
    acts = [norm, *(act for block in blocks for act in (block.norm1, block.norm2))]
    convolutions = [part for block in blocks for part in (block.conv1, block.conv2, block.shortcut) if part is not None]
    return (
        all(act.activate is F.silu and norm_silu.is_fixed(act.norm) for act in acts)
        and all(
            conv.in_channels % winograd.CHANNELS == conv.out_channels % winograd.CHANNELS == 0 for conv in convolutions
        )
        and not (torch.is_grad_enabled() and any(conv.weight.requires_grad for conv in convolutions))
    )


def is_watched(part: nn.Module) -> bool:
    """Return whether hooks want to see what happens within."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(each, kind) for each in part.modules() for kind in kinds)


def pass_blocks(
    blocks: "Sequence[Block]", norm: "NormAct", x: torch.Tensor, active: torch.Tensor | None = None
) -> torch.Tensor:
    """Return norm(blocks(x)) of images (N, C, H, W) that `fits` accepts, activated; only `x` has a gradient.

    `active` is what the first block's first norm and activation make of `x`, if that is known already, and no gradient wanted.
    """
    with kept_kernels():
        return _Blocks.apply(
            x, active, _steps(blocks, norm, len(x), (x.shape[2], x.shape[3])), statistics(blocks[0].norm1)
        )


def statistics(act: "NormAct") -> np.ndarray:
    """Return what a norm in evaluation takes off, multiplies by and adds, (3, C) float32."""
    norm = act.norm
    sources = [each for each in (norm.running_mean, norm.running_var, norm.weight, norm.bias) if each is not None]
    return made_once(sources, "statistics", lambda: np.stack(norm_silu.frozen_statistics(norm)))


class _Step(NamedTuple):
    """A block, and the norm after it."""

    first: Layer
    second: Layer
    shortcut: Layer | None
    projects_active: bool
    """Whether the shortcut sees the activated input."""
    channels: int
    sides: tuple[int, int]
    """Of the output."""
    norm: np.ndarray
    """Before the second convolution."""
    after: np.ndarray

    @property
    def is_small(self) -> bool:
        """Return whether groups of images can go through the block."""
        return all(layer is None or layer.is_small for layer in (self.first, self.second, self.shortcut))

    def maps(self, count: int) -> torch.Tensor:
        """Return memory for as many maps as the block's output has."""
        return torch.empty((count, self.channels, *self.sides), memory_format=torch.channels_last)


def _steps(blocks: "Sequence[Block]", norm: "NormAct", count: int, sides: tuple[int, int]) -> list[_Step]:
    steps = []
    for block, after in zip(blocks, norms_after(blocks, norm), strict=True):
        stride, shortcut = block.conv1.stride[0], block.shortcut
        made = -(-sides[0] // stride), -(-sides[1] // stride)
        steps.append(
            _Step(
                first=Layer(block.conv1, winograd.pays(block.conv1, count, *sides)),
                second=Layer(block.conv2, winograd.pays(block.conv2, count, *made)),
                shortcut=None if shortcut is None else Layer(shortcut, winograd.pays(shortcut, count, *sides)),
                projects_active=block.projects_active,
                channels=block.conv2.out_channels,
                sides=made,
                norm=statistics(block.norm2),
                after=statistics(after),
            )
        )
        sides = made
    return steps


def _runs(steps: Sequence[_Step]) -> list[tuple[list[int], bool]]:
    """Return the numbers of the steps of each stage, whose outputs are of one shape, and whether they make a chain.

    The others, with kernels that groups of images would wait for or that are not computed here, stand alone.
    """
    runs = itertools.groupby(range(len(steps)), key=lambda n: (steps[n].channels, steps[n].sides, steps[n].is_small))
    return [(list(run), small) for (*_, small), run in runs]


def _way(run: Sequence[int], small: bool, steps: Sequence[_Step], count: int) -> Way:
    step = steps[run[0]]
    return Groups(count, 4 * step.channels * math.prod(step.sides)) if small else Whole(count)


class _Blocks(torch.autograd.Function):
    """From (x, active, steps, norm of the first step) to the last step's activated output; only `x` has a gradient.

    What is remembered for it are slopes: of each step's activation between its convolutions (`inner`), and of that before
    the first step and those after each of them (`outer`).
    """

    @staticmethod
    @np.errstate(invalid="ignore", over="ignore")
    def forward(
        ctx: Any, x: torch.Tensor, active: torch.Tensor | None, steps: list[_Step], norm: np.ndarray
    ) -> torch.Tensor:
        count, wanted = len(x), ctx.needs_input_grad[0]
        inner = [step.maps(count) if wanted else None for step in steps]
        outer = [torch.empty_like(x) if wanted else None, *(step.maps(count) if wanted else None for step in steps)]
        if active is None:
            active = torch.empty_like(x)
            _activated("activated", active, outer[0], norm).whole(x, active)
        for run, small in _runs(steps):
            way, links = _way(run, small, steps, count), list[Link]()
            for number in run:
                step, is_last = steps[number], number == run[-1]
                sums, made = (
                    step.maps(count) if is_last else way.memory(f"{name} {number % 2}", step.channels, step.sides)
                    for name in ("sums", "made")
                )
                links += _forward(step, way, x, active, sums, made, inner[number], outer[number + 1])
                x, active = sums, made
            way.run(links)
        ctx.steps = steps
        ctx.save_for_backward(*inner, *outer)
        return active

    @staticmethod
    @once_differentiable
    @np.errstate(invalid="ignore", over="ignore")
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        steps: list[_Step] = ctx.steps
        inner, outer = ctx.saved_tensors[: len(steps)], ctx.saved_tensors[len(steps) :]
        gradient = gradient.contiguous(memory_format=torch.channels_last) * outer[-1]
        with kept_kernels():
            for run, small in reversed(_runs(steps)):
                way, links = _way(run, small, steps, len(gradient)), list[Link]()
                for number in reversed(run):
                    slopes = outer[number]
                    made = torch.empty_like(slopes) if number == run[0] else _like(slopes, way, f"made {number % 2}")
                    links += _back(steps[number], way, gradient, made, inner[number], slopes)
                    gradient = made
                way.run(links)
        return gradient, None, None, None


def _like(maps: torch.Tensor, way: Way, name: str) -> torch.Tensor:
    return way.memory(name, maps.shape[1], (maps.shape[2], maps.shape[3]))


def _activated(kind: str, active: torch.Tensor, slopes: torch.Tensor | None, norm: np.ndarray) -> Finish:
    return Finish(kind if slopes is None else f"{kind}, slopes", None, active, slopes, norm)


def _forward(
    step: _Step,
    way: Way,
    x: torch.Tensor,
    active: torch.Tensor,
    sums: torch.Tensor,
    made: torch.Tensor,
    inner: torch.Tensor | None,
    outer: torch.Tensor | None,
) -> Iterator[Link]:
    """Put the block's output into `sums`, what the norm after it and SiLU make of it into `made`, and slopes."""
    between, beside = way.memory("between", step.channels, step.sides), x
    yield Link(step.first, active, between, _activated("activated", between, inner, step.norm))
    if step.shortcut is not None:
        beside = way.memory("beside", step.channels, step.sides)
        yield Link(step.shortcut, active if step.projects_active else x, beside)
    then = _activated("sum activated", made, outer, step.after)
    yield Link(step.second, between, sums, then._replace(beside=beside))


def _back(
    step: _Step, way: Way, gradient: torch.Tensor, x: torch.Tensor, inner: torch.Tensor, outer: torch.Tensor
) -> Iterator[Link]:
    """Put the gradient of the block's input into `x`, given that of its output and the slopes of both activations."""
    between, beside, kind = way.memory("between", step.channels, step.sides), gradient, "by slopes and sum"
    yield Link(step.second, gradient, between, Finish("by slopes", slopes=inner), back=True)
    if step.shortcut is not None:
        beside = _like(x, way, "beside")
        yield Link(step.shortcut, gradient, beside, back=True)
        kind = "sum by slopes" if step.projects_active else kind
    yield Link(step.first, between, x, Finish(kind, beside=beside, slopes=outer), back=True)
