"""A small residual network for training on a CPU."""

import torch
import torch.nn.functional as F
from torch import nn

from ops.models.base import Classifier
from ops.models.config import Architecture
from ops.models.resnet import Conv, NormAct


class PooledStage(nn.Module):
    """A convolution, a 2x2 maximum, norm and activation; then, if `residual`, x + two layers of x."""

    def __init__(self, channels: int, out: int, residual: bool, activation: str) -> None:
        super().__init__()
        self.conv, self.norm = Conv(channels, out), NormAct(out, activation)
        layers = [Conv(out, out), NormAct(out, activation), Conv(out, out), NormAct(out, activation)]
        self.residual = nn.Sequential(*layers) if residual else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stage's output (N, out, floor(H / 2), floor(W / 2))."""
        # pooled first, so that norm and activation see a quarter of the pixels
        y = self.norm(F.max_pool2d(self.conv(x), 2))
        return y if self.residual is None else y + self.residual(y)


class ResNet9(Classifier):
    """After the ResNet-9 that is popular in training-speed contests (D. Page, "How to train your ResNet", 2018).

    A stem without a stride, then one stage for each further width; the first and the last stage have a residual block,
    so `widths: [64, 128, 256, 512]` gives the contests' eight convolutions and a linear layer. It is *like* that network,
    not the same: activations are SiLU by default and come after the pooling, the last pooling is the mean over all
    pixels, the linear layer starts at zero and its logits are not scaled. No paper on robustness reports results for it.
    """

    def __init__(self, architecture: Architecture, classes: int) -> None:
        widths, activation = architecture.widths, architecture.activation
        super().__init__(widths[-1], classes)
        self.stem = nn.Sequential(Conv(3, widths[0]), NormAct(widths[0], activation))
        ends = (1, len(widths) - 1)
        self.stages = nn.Sequential(
            *(PooledStage(widths[i - 1], widths[i], i in ends, activation) for i in range(1, len(widths)))
        )

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (N, C), averaged over all pixels, of images (N, 3, H, W) in [0, 1]."""
        return self.stages(self.stem(self.normalise(x))).mean(dim=(2, 3))
