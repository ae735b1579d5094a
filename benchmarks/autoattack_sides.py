"""What the parts of `benchmarks.autoattack` share: the reference, and a network that hides its gradient."""

import copy

import torch
from torch import nn

from ops.attack.attacks import Attack
from ops.attack.threat import Threat
from pipelines.project import STATE

HOME = STATE / "studies" / "autoattack"
"""What is measured is kept here."""
SIDES = ("reference", "ours")
LEVELS = 15
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""As the reference calls them."""


class Rounded(nn.Module):
    """A network behind a rounding of its input: gradients are 0, robustness is not what it seems."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return self.model((x * LEVELS).round() / LEVELS)


def contiguous(model: nn.Module) -> nn.Module:
    """Return the same network as users of the reference have it: contiguous tensors, parameters that want gradients."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def ask_reference(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    threat: Threat,
    batch: int,
    attack: Attack | None = None,
    steps: int | None = None,
) -> torch.Tensor:
    """Return what pyautoattack makes of images (N, 3, H, W) in [0, 1], contiguous, with labels (N,).

    Its standard version, or one `attack` with that one's budget, targets capped at the wrong classes as its users have to,
    and in L1 with its larger balls. `steps` shortens every attack of the standard version.
    """
    from pyautoattack import AutoAttack

    if attack is None:
        peer = AutoAttack(model, norm=NORMS[threat.norm], eps=threat.eps, seed=0, version="standard")
    else:
        norm = NORMS[threat.norm]
        peer = AutoAttack(model, attacks=[attack.name], norm=norm, eps=threat.eps, seed=0, version="custom")
        with torch.no_grad():
            wrong = model(x[:1]).shape[1] - 1
        peer.apgd.n_restarts = peer.fab.n_restarts = attack.restarts
        peer.apgd.use_largereps = peer.apgd_targeted.use_largereps = threat.norm == "l1"
        peer.apgd_targeted.n_target_classes = peer.fab.n_target_classes = min(attack.targets or wrong, wrong)
        steps = attack.steps
    if steps is not None:
        peer.apgd.n_iter = peer.apgd_targeted.n_iter = peer.fab.n_iter = peer.square.n_queries = steps
    adversarial: torch.Tensor = peer.run_standard_evaluation(x, y, batch_size=batch)[0]
    return adversarial
