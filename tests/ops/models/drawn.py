"""Networks that look trained, and images, of random numbers."""

import torch
from torch import nn

from ops.models.build import build_classifier
from ops.models.config import Architecture


def network(architecture: Architecture) -> nn.Module:
    model = build_classifier(architecture, 4, [0.5] * 3, [0.25] * 3, 0).to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.3 * torch.randn(module.running_mean.shape, generator=rng)
            module.running_var = torch.rand(module.running_var.shape, generator=rng) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=rng)
            nn.init.normal_(module.bias, std=0.3, generator=rng)
    nn.init.normal_(model.head.weight, generator=rng)
    return model.eval()


def photographs(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    x = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)
