"""Affine combinations of weights (Croce et al. 2023, "Seasoning Model Soups")."""

import itertools
from collections.abc import Mapping, Sequence

import torch

from ops.errors import AmalgamError
from ops.models.card import ModelCard


def combine(states: Sequence[Mapping[str, torch.Tensor]], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return sum_i w_i theta_i for floating-point tensors; counters (integers) are the first ingredient's.

    The weights add up to 1 and may be negative or above 1. BatchNorm's running statistics are combined like weights,
    which holds for ingredients that share an ancestor; running variances are kept positive.
    """
    if abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights add up to {sum(weights)}, not 1")
    mixed = {}
    for name, first in states[0].items():
        if not first.is_floating_point():
            mixed[name] = first.clone()
            continue
        total = sum(w * state[name].double() for w, state in zip(weights, states, strict=True))
        assert isinstance(total, torch.Tensor)
        mixed[name] = (total.clamp_min(1e-6) if name.endswith("running_var") else total).to(first.dtype)
    return mixed


def grid(count: int, step: float, extrapolate: int) -> list[tuple[float, ...]]:
    """Return all weights of `count` ingredients on a grid that add up to 1, from -extrapolate * step upwards."""
    parts = round(1 / step)
    low, high = -extrapolate, parts + extrapolate
    heads = itertools.product(range(low, high + 1), repeat=count - 1)
    whole = [(*head, parts - sum(head)) for head in heads]
    return [tuple(n / parts for n in numbers) for numbers in whole if low <= numbers[-1] <= high]


def check_ancestry(cards: Mapping[str, ModelCard]) -> None:
    """Raise AmalgamError unless all ingredients share architecture, classes and ancestor."""
    first_name, first = next(iter(cards.items()))
    for name, card in cards.items():
        for what in ("architecture", "classes", "ancestor"):
            if getattr(card, what) != getattr(first, what):
                raise AmalgamError(
                    f"{name} and {first_name} differ in their {what} and cannot be mixed",
                    "mix a classifier with recipes of `ingredient` that start from it (initialisation)",
                )
