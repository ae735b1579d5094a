"""What attacks maximise. Every function returns one value for each example (N,) from its logits z (N, K)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from ops.errors import AmalgamError
from ops.models.frozen import frozen_parameters


@dataclass(frozen=True)
class Objective:
    """From logits (N, K) and labels (N,) int64 to the value (N,) that the attack raises."""

    function: Callable[..., torch.Tensor]
    """Of logits, labels, and targets if there are any."""
    targets: torch.Tensor | None = None
    """(N,) int64: the class that each example is to be taken for."""
    eot: int = 1
    """Passes over which its gradient is averaged."""

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the value (N,)."""
        return self.function(logits, labels, *(() if self.targets is None else (self.targets,)))

    def passes(self, ended: torch.Tensor) -> torch.Tensor:
        """Return the passes (N,) int64 of one evaluation with gradients, where the searches in the mask `ended` end."""
        return self.eot * (2 - ended.long())

    def only(self, kept: torch.Tensor) -> "Objective":
        """Return the objective of the examples that are `kept`: a mask (N,) bool, or their places (M,) int64."""
        return self if self.targets is None else replace(self, targets=self.targets[kept])


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy (N,) of each example, -log softmax(z)_y."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return max over wrong classes of z_k minus z_y (N,); positive where the example is misclassified."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - _at(logits, labels)


def dlr(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the difference of logits ratio (N,): margin / (z_(1) - z_(3)), z_(i) the i-th largest logit.

    Croce and Hein 2020. Not changed by scaling or shifting the logits. Raises AmalgamError for fewer than 3
    classes.
    """
    if logits.shape[1] < 3:
        raise AmalgamError(
            f"the DLR loss needs 3 classes, the model has {logits.shape[1]}", "attack the margin or the cross-entropy"
        )
    largest = logits.topk(3, dim=1).values
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + 1e-12)


def targeted_margin(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return z_t - z_y (N,) for target classes t (N,) int64; positive only where the example is misclassified."""
    return _at(logits, targets) - _at(logits, labels)


def targeted_dlr(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2) (N,) for target classes t (N,) int64.

    The loss of APGD-T (Croce and Hein 2020). Raises AmalgamError for fewer than 4 classes.
    """
    if logits.shape[1] < 4:
        raise AmalgamError(
            f"the targeted DLR loss needs 4 classes, the model has {logits.shape[1]}", "attack the targeted margin"
        )
    largest = logits.topk(4, dim=1).values
    spread = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return targeted_margin(logits, labels, targets) / (spread + 1e-12)


OBJECTIVES: dict[str, Callable[..., torch.Tensor]] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
TARGETED = {"margin-targeted": targeted_margin, "dlr-targeted": targeted_dlr}


def objective_of(loss: str, targets: torch.Tensor | None = None, eot: int = 1) -> Objective:
    """Return the objective named `loss`; those that are targeted need `targets` (N,), the others refuse them.

    `eot` is the number of passes over which gradients are averaged.

    Raises ValueError for other names and for targets that are missing or superfluous.
    """
    if loss not in OBJECTIVES | TARGETED:
        raise ValueError(f"unknown loss {loss!r}; there are {', '.join(OBJECTIVES | TARGETED)}")
    if (loss in TARGETED) != (targets is not None):
        raise ValueError(f"{loss} {'needs' if loss in TARGETED else 'takes no'} targets")
    return Objective((OBJECTIVES | TARGETED)[loss], targets, eot)


def evaluate_objective(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the objective (N,), its gradient at the images `x`, and which are misclassified (N,) bool.

    The gradient is the mean over `objective.eot` passes; objective and prediction are those of the last pass, as in
    AutoAttack. Gradients of parameters are not computed.
    """
    x = x.detach().requires_grad_(True)

    def once() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = model(x)
        value = objective(logits, labels)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient, logits.detach().argmax(dim=1) != labels

    with torch.enable_grad(), frozen_parameters(model):
        value, gradient, wrong = once()
        for _ in range(objective.eot - 1):
            value, another, wrong = once()
            gradient = gradient + another
    return value, gradient / objective.eot if objective.eot > 1 else gradient, wrong


def rank_wrong_classes(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return all classes but the right one (N, K - 1) int64, those of the largest logits first."""
    ranking = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return ranking[:, :-1]


def _at(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)
