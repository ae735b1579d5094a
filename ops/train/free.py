"""Adversarial training for free (Shafahi et al. 2019): perturbations that live on between steps."""

import torch
from torch import nn

from ops.attack.projections import ascent_direction, project
from ops.errors import AmalgamError
from ops.train.mixing import Batches
from ops.train.recipe import Recipe
from ops.train.workers import Workers


class FreePerturbation(nn.Module):
    """The perturbation of each row of the batch (algorithm 1).

    A batch is used `replays` times; each time the same backward pass gives the gradient of the weights and that of the
    images, which moves the perturbation by a step of eps. It is carried over to the next batch, not drawn anew.
    """

    delta: torch.Tensor

    def __init__(self, recipe: Recipe, batches: Batches, workers: Workers) -> None:
        super().__init__()
        if workers.count > 1:
            raise AmalgamError("free adversarial training runs in one process only", "set compute.processes to 1")
        side = batches.real.images.shape[1]
        self.threat = recipe.threat
        self.register_buffer("delta", torch.zeros(recipe.schedule.batch, 3, side, side))

    def begin(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Return the perturbed images (B, 3, H, W), to be differentiated."""
        self.clean = x
        return project(x + self.delta, x, self.threat).detach().requires_grad_(True)

    @torch.no_grad()
    def advance(self, perturbed: torch.Tensor) -> None:
        """Move the perturbation along the gradient that the backward pass left on `perturbed`."""
        assert perturbed.grad is not None, "the loss does not depend on the perturbed images"
        direction = ascent_direction(perturbed.grad, self.threat)
        moved = project(perturbed + self.threat.eps * direction, self.clean, self.threat)
        self.delta.copy_(moved - self.clean)
