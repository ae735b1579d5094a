"""What the searches of Auto-PGD share: the loop, the best point, and that what is misclassified is done."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import nn

from ops.attack.attempts import Attempts, Found, ended_rows
from ops.attack.objectives import Objective, evaluate_objective
from ops.attack.projections import per_image
from ops.attack.threat import Threat


@dataclass
class Search(ABC):
    """The examples that still stand, with all that the next step needs of them; tensors are (M,) or (M, ...)."""

    places: torch.Tensor
    centre: torch.Tensor
    labels: torch.Tensor
    x: torch.Tensor
    gradient: torch.Tensor
    value: torch.Tensor
    """The objective at `x`; after a return to the best point, still that at the point that was left."""
    best: torch.Tensor
    best_value: torch.Tensor
    best_gradient: torch.Tensor

    def only(self, kept: torch.Tensor) -> Self:
        """Return the search for the examples in the mask `kept` (M,) bool."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: v[kept] for name, v in every.items() if isinstance(v, torch.Tensor)})

    def record(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Note value (M,) and gradient (M, ...) at the new iterate, and the iterate if it is the best so far."""
        self.value, self.gradient = value, gradient
        better = value > self.best_value
        self.best_value = torch.where(better, value, self.best_value)
        self.best = torch.where(per_image(better, self.x), self.x, self.best)
        self.best_gradient = torch.where(per_image(better, self.x), gradient, self.best_gradient)

    def return_to_best(self, chosen: torch.Tensor) -> None:
        """Go on from the best point for the examples in the mask `chosen` (M,) bool."""
        back = per_image(chosen, self.x)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)

    def rests(self, before: torch.Tensor) -> torch.Tensor:
        """Return for which examples (M,) bool no further step moves anything: from `before` (M, ...), the last one did not.

        There the gradient is zero, as behind a quantised input, and the best point is this one: with the same gradient the
        next step ends here too, whatever its size, and going back to the best point changes nothing.
        """
        resting = self.gradient[:, 0, 0, 0] == 0  # one pixel clears nearly all of them, without a pass over images
        if resting.any():
            still = (self.gradient == 0) & (self.x == before) & (self.x == self.best)
            resting = still.flatten(1).all(dim=1)
        return resting

    @abstractmethod
    def step(self, threat: Threat, number: int) -> None:
        """Take step `number`, counted from 1."""

    @abstractmethod
    def review(self, threat: Threat, number: int) -> None:
        """Adapt the step size after step `number`, if it is time for it."""


def run_search(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    objective: Objective,
    steps: int,
    start: torch.Tensor,
    begin: Callable[[dict[str, Any]], Search],
    stop: bool = True,
    rows: Attempts | None = None,
) -> Found:
    """Return what `steps` steps find from `start` (N, ...) in the ball around `images`; `begin` makes the search.

    For each example the first misclassified iterate, which ends its search, else the one with the largest objective;
    without `stop` always the latter. Where gradients are averaged over passes, models are random: that an iterate was
    misclassified once may be chance, so the search goes on and the last such iterate counts, as in AutoAttack. The search
    of an example that rests (see `Search.rests`) ends as well: the steps that are left would find the same. And so do later
    attempts on an example that is misclassified, where `rows` says which are attempts on one (if not given: none are).
    """
    ends = objective.eot == 1
    value, gradient, wrong = evaluate_objective(model, start, labels, objective)
    wrong = wrong & stop
    found = Found(start.clone(), value.clone(), wrong.clone(), objective.passes(wrong & ends))
    state = begin(
        {
            "places": torch.arange(len(images), device=images.device),
            "centre": images,
            "labels": labels,
            "x": start,
            "gradient": gradient,
            "value": value,
            "best": start,
            "best_value": value,
            "best_gradient": gradient,
        }
    )
    leaving = ended_rows(rows, state.places, wrong)
    for number in range(1, steps + 1):
        if ends and leaving.any():
            state, objective = state.only(~leaving), objective.only(~leaving)
        if not len(state.places):
            break
        before = state.x
        state.step(threat, number)
        value, gradient, wrong = evaluate_objective(model, state.x, state.labels, objective)
        wrong = wrong & stop
        found.passes[state.places] += objective.passes(wrong & ends)
        state.record(value, gradient)
        places = state.places[wrong]
        found.images[places], found.fooled[places] = state.x[wrong], True
        state.review(threat, number)
        resting = state.rests(before)
        if ends and resting.any():
            _keep_best(found, state.only(resting))
        leaving = ended_rows(rows, state.places, wrong) | resting
    _keep_best(found, state)
    return found


def _keep_best(found: Found, state: Search) -> None:
    """Put the best points of the examples in `state` that are not misclassified into `found`."""
    standing = ~found.fooled[state.places]
    found.images[state.places[standing]] = state.best[standing]
    found.value[state.places] = state.best_value
