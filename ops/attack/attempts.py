"""Attempts of an attack one after another, and what they find: as many of them side by side as fill a batch.

Where few examples stand, a pass of the network costs nearly the same for one as for several: attempts that would follow one
another, towards other classes or from other starts, go through the network together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch

SEED_STRIDE = 0x9E3779B9
"""Between the seeds of restarts: 2^32 over the golden ratio, so that restarts of neighbouring seeds do not meet."""


@dataclass
class Found:
    """What an attack found for each of N examples."""

    images: torch.Tensor
    """(N, ...): the first misclassified iterate, else the one with the largest objective."""
    value: torch.Tensor
    """(N,): the objective there."""
    fooled: torch.Tensor
    """(N,) bool: whether the image is misclassified."""
    passes: torch.Tensor
    """(N,) int64: what was spent on it. A forward and a backward pass count one each; the iterate that is misclassified and
    ends a search has the forward pass alone, so that the number does not depend on the batch."""

    @classmethod
    def nothing(cls, images: torch.Tensor) -> Self:
        """Return what is known before the first attempt on `images` (N, ...)."""
        count, device = len(images), images.device
        return cls(
            images.clone(),
            torch.full((count,), -torch.inf, device=device),
            torch.zeros(count, dtype=torch.bool, device=device),
            torch.zeros(count, dtype=torch.int64, device=device),
        )

    def standing(self) -> torch.Tensor:
        """Return the places (M,) of the examples that are not fooled yet."""
        return (~self.fooled).nonzero().squeeze(1)

    def only(self, chosen: torch.Tensor | slice) -> Self:
        """Return what was found for the examples that are `chosen`."""
        return type(self)(self.images[chosen], self.value[chosen], self.fooled[chosen], self.passes[chosen])

    def improve(self, places: torch.Tensor, other: "Found") -> None:
        """Take over what `other` found for the examples at `places` (M,), which still stand, where that is better.

        Its passes are added.
        """
        self.passes[places] += other.passes
        better = other.fooled | (other.value > self.value[places])
        taken = places[better]
        self.images[taken] = other.images[better]
        self.value[taken] = other.value[better]
        self.fooled[taken] = other.fooled[better]


@dataclass
class Attempts:
    """Attempts side by side, one to a row."""

    places: torch.Tensor
    """(R,) int64: the example that a row is an attempt on."""
    numbers: torch.Tensor
    """(R,) int64: which of the attempts on it."""
    fooling: torch.Tensor
    """(N,) int64: the lowest number of an attempt on each example that has fooled the network."""

    @classmethod
    def on(cls, places: torch.Tensor, first: int, together: int, count: int) -> Self:
        """Return the attempts `first` and those after it, so many `together`, on the examples at `places` of `count`."""
        numbers = torch.arange(first, first + together, device=places.device)
        fooling = torch.full((count,), torch.iinfo(torch.int64).max, device=places.device)
        return cls(places.repeat(together), numbers.repeat_interleave(len(places)), fooling)

    def ended(self, rows: torch.Tensor, fooled: torch.Tensor) -> torch.Tensor:
        """Return which attempts `rows` (M,) end: those that have `fooled` (M,) bool the network, and later ones on the same."""
        if not fooled.any():
            return fooled
        places, numbers = self.places[rows], self.numbers[rows]
        self.fooling.scatter_reduce_(0, places[fooled], numbers[fooled], "amin")
        return numbers >= self.fooling[places]


def ended_rows(attempts: Attempts | None, rows: torch.Tensor, fooled: torch.Tensor) -> torch.Tensor:
    """Return what `Attempts.ended` does; without `attempts` each row is an example of its own, and only itself ends."""
    return fooled if attempts is None else attempts.ended(rows, fooled)


def attempt_in_turn(found: Found, count: int, batch: int, attempt: Callable[[Attempts], Found]) -> None:
    """Improve `found` by `count` attempts, each of them on the examples that stand after those before it.

    Where `batch` rows are more than the examples that stand, several attempts run side by side. What counts is the same: of
    the attempts that fool the network the first, with the passes until then, else the largest objective.
    """
    number = 0
    while number < count and len(places := found.standing()):
        waves = -(-(count - number) // max(1, batch // len(places)))
        together = -(-(count - number) // waves)
        made = attempt(Attempts.on(places, number, together, len(found.fooled)))
        for first in range(0, together * len(places), len(places)):
            stands = ~found.fooled[places]
            found.improve(places[stands], made.only(slice(first, first + len(places))).only(stands))
        number += together


def restart_seeds(example_seeds: torch.Tensor, places: torch.Tensor, numbers: int | torch.Tensor) -> torch.Tensor:
    """Return the seeds (M,) of the examples at `places` (M,) for restarts `numbers`; number 0 takes them as they are."""
    strides = numbers * SEED_STRIDE
    here = example_seeds.device
    return example_seeds[places.to(here)] + (strides.to(here) if isinstance(strides, torch.Tensor) else strides)
