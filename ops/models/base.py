"""What all classifiers have in common: pixels in, logits out, normalisation inside."""

from abc import ABC, abstractmethod

import torch
from torch import nn


class Classifier(nn.Module, ABC):
    """From images (N, 3, H, W), floating point in [0, 1], to logits (N, K).

    The channels' mean and standard deviation are buffers of the model, so that attacks and their budgets see pixels.
    The last layer starts at zero: a new model gives every class the same probability.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))
        self.head = nn.Linear(channels, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Return images in [0, 1] with the mean of each channel taken off and its deviation divided out."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or x.device.type != "cpu":
            return (x - self.mean) / self.std
        if not x.is_contiguous(memory_format=torch.channels_last):
            return (x - self.mean) / self.std
        # by rows of pixels: where channels are last, torch goes through memory three numbers at a time
        width, channels = x.shape[3], x.shape[1]
        mean, std = self.mean.flatten().repeat(width), self.std.flatten().repeat(width)
        rows = (x.permute(0, 2, 3, 1).flatten(2) - mean) / std
        return rows.unflatten(2, (width, channels)).permute(0, 3, 1, 2)

    @abstractmethod
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (N, C) before the last layer, of images (N, 3, H, W) in [0, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        return self.head(self.features(x))
