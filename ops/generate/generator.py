"""A trained generator, ready to sample."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from ops.generate.backbones import LatentModel
from ops.generate.codec import Codec
from ops.generate.objectives import Objective
from ops.models.checkpoint import weights_digest


@dataclass(frozen=True)
class Generator:
    """Network, space and objective; what else sampling needs are settings."""

    model: LatentModel
    codec: Codec
    objective: Objective

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the weights of network and conditioner and of the codec's identity."""
        return hashlib.sha256(f"{weights_digest(self.model)} {self.codec.identity}".encode()).hexdigest()
