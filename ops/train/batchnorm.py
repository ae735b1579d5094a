"""Who may update BatchNorm's running statistics.

The papers' protocol: the attack and the clean pass normalise with the statistics of their own batch and leave the
running statistics alone; only the pass over adversarial images updates them. Evaluation uses the running statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ops.models.resnet import BN_MOMENTUM
from ops.train.averaging import ramped_decay


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let a model in training mode use batch statistics without updating its running statistics."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def ramp_statistics(model: nn.Module, step: int) -> None:
    """Let running statistics forget faster in the first steps: decay min(0.99, (1 + step) / (10 + step)).

    The papers keep the decay at 0.99 throughout, which is the same after the first 900 steps. A run of 200 steps would
    end with an eighth of its statistics still at their initial 0 and 1, and lose accuracy that its weights have.
    """
    momentum = 1 - ramped_decay(1 - BN_MOMENTUM, step)
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = momentum
