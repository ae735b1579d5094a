"""Who may update BatchNorm's running statistics.

The papers' protocol: the attack and the clean pass normalise with the statistics of their own batch and leave the
running statistics alone; only the pass over adversarial images updates them. Evaluation uses the running statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
