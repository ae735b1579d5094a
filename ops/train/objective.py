"""What a training step minimises: one module from a batch to its loss, so that DDP sees one forward pass."""

import torch
from torch import nn

from ops.train.batchnorm import frozen_statistics
from ops.train.group_dro import GroupWeights
from ops.train.inner import inner_attack
from ops.train.losses import focal, mart, soft_cross_entropy, trades
from ops.train.recipe import Recipe
from ops.train.schedule import autocast


class Objective(nn.Module):
    """The loss of a recipe around a network.

    BatchNorm, as in the papers' reference implementation: the attack and the clean pass normalise with the statistics
    of their own batch and leave the running statistics alone; only the pass over adversarial images (without an attack,
    the only pass) updates them.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, weights: GroupWeights | None = None) -> None:
        """`weights` are those of Group DRO, which no other loss has."""
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.weights = weights

    def forward(
        self,
        x: torch.Tensor,
        start: torch.Tensor,
        targets: torch.Tensor,
        scale: float = 1.0,
        groups: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the mean loss of a batch and figures about it (detached).

        `x` (B, 3, H, W) are images in [0, 1], `start` (B, 3, H, W) is where the attack begins, `targets` (B, K) are
        probabilities, `scale` is the loss scale of half precision, `groups` (B,) int64 are for Group DRO. Figures: share
        of targets met on clean and adversarial images, how far the attack raises the cross-entropy, and what
        `GroupWeights` tells.
        """
        self.model.train()
        with autocast(x.device, self.recipe.precision):
            if self.weights is not None and groups is not None:
                return _group_dro(self.model, x, targets, groups, self.weights)
            return _LOSSES[self.recipe.loss](self.model, x, start, targets, self.recipe, scale)


Result = tuple[torch.Tensor, dict[str, torch.Tensor]]


def _clean(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> Result:
    logits = model(x).float()
    return soft_cross_entropy(logits, targets).mean(), {"train clean accuracy": _agreement(logits, targets)}


def _focal(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> Result:
    logits = model(x).float()
    return focal(logits, targets, recipe.gamma).mean(), {"train clean accuracy": _agreement(logits, targets)}


def _group_dro(
    model: nn.Module, x: torch.Tensor, targets: torch.Tensor, groups: torch.Tensor, weights: GroupWeights
) -> Result:
    logits = model(x).float()
    loss, figures = weights(soft_cross_entropy(logits, targets), groups)
    return loss, {"train clean accuracy": _agreement(logits, targets), **figures}


def _pgd_at(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> Result:
    """Madry et al. 2018: the cross-entropy of adversarial images, found by attacking the labels."""
    adversarial = inner_attack(model, x, start, targets, recipe.threat, recipe.attack, scale)
    logits = model(adversarial).float()
    return soft_cross_entropy(logits, targets).mean(), {"train robust accuracy": _agreement(logits, targets)}


def _trades(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> Result:
    """Zhang et al. 2019; the attack aims at the clean prediction, or at the targets where those are mixed labels."""
    clean, logits = _both(model, x, start, targets, recipe, scale)
    return trades(clean, logits, targets, recipe.beta), _figures(clean, logits, targets)


def _mart(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> Result:
    """Wang et al. 2020; the attack aims at the labels, the loss knows each image's own class."""
    adversarial = inner_attack(model, x, start, targets, recipe.threat, recipe.attack, scale)
    with frozen_statistics(model):
        clean = model(x).float()
    logits = model(adversarial).float()
    return mart(clean, logits, targets.argmax(dim=1), recipe.beta), _figures(clean, logits, targets)


def _both(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return clean and adversarial logits; the clean pass is also the attack's target, as the weights stay the same."""
    with frozen_statistics(model):
        clean = model(x).float()
    aim = targets if recipe.augmentation.mixes_targets else clean.detach().softmax(dim=1)
    adversarial = inner_attack(model, x, start, aim, recipe.threat, recipe.attack, scale)
    return clean, model(adversarial).float()


def _free(
    model: nn.Module, x: torch.Tensor, start: torch.Tensor, targets: torch.Tensor, recipe: Recipe, scale: float
) -> Result:
    """Shafahi et al. 2019: the images as perturbed so far; their gradient comes from the same backward pass."""
    logits = model(start).float()
    return soft_cross_entropy(logits, targets).mean(), {"train robust accuracy": _agreement(logits, targets)}


_LOSSES = {"clean": _clean, "focal": _focal, "pgd_at": _pgd_at, "trades": _trades, "mart": _mart, "free": _free}


@torch.no_grad()
def _agreement(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean()


@torch.no_grad()
def _figures(clean: torch.Tensor, adversarial: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    rise = soft_cross_entropy(adversarial, targets) - soft_cross_entropy(clean, targets)
    return {
        "train clean accuracy": _agreement(clean, targets),
        "train robust accuracy": _agreement(adversarial, targets),
        "attack strength": rise.mean(),
    }
