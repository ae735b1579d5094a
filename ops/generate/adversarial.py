"""An adversary of the autoencoder: a discriminator of patches, and how much its opinion counts.

The discriminator is the PatchGAN of Isola et al. 2017, its loss the hinge, and the weight of its term adapts to the
gradients, all as in VQGAN (Esser et al. 2021) and latent diffusion (Rombach et al. 2022).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ops.errors import AmalgamError
from ops.generate.config import AdversarialConfig
from ops.runtime import derive_seed


class PatchDiscriminator(nn.Sequential):
    """From images (N, 3, H, W) in [-1, 1] to one score for each of overlapping patches, (N, 1, h, w): high is real.

    4x4 convolutions with leaky ReLU; all but the last width halve the sides, all but the first are batch-normalised.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for number, (before, width) in enumerate(zip([3, *widths], widths, strict=False)):
            stride = 1 if number == len(widths) - 1 else 2
            layers.append(nn.Conv2d(before, width, 4, stride, padding=1, bias=number == 0))
            if number:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for module in self:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, mean=1.0, std=0.02)


def build_discriminator(config: AdversarialConfig, image_size: int, seed: int) -> PatchDiscriminator:
    """Return an untrained discriminator; its weights follow from `seed`. AmalgamError if images are too small for it."""
    halvings = len(config.channels) - 1
    if image_size // 2**halvings < 3:
        raise AmalgamError(
            f"images of {image_size} pixels are too small to be halved {halvings} times by the discriminator",
            "give autoencoder.adversarial.channels fewer levels",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "discriminator"))
        return PatchDiscriminator(config.channels)


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return the hinge loss of scores of real and of reconstructed images: half of max(0, 1 - real) + max(0, 1 + fake)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(error: torch.Tensor, adversarial: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """Return |d error / d last| / |d adversarial / d last|, at most 10^4, for the weights `last` of the last layer.

    Multiplied with it, the adversarial term pulls at the decoder as hard as the reconstruction error does.
    """
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (error, adversarial)]
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4)


class Adversary:
    """A discriminator that learns beside the autoencoder, with its own optimizer."""

    def __init__(self, config: AdversarialConfig, image_size: int, seed: int, device: torch.device) -> None:
        self.config = config
        self.net = build_discriminator(config, image_size, seed).to(device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=config.lr, betas=(0.5, 0.9), fused=True)

    def term(self, y: torch.Tensor, error: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Return the weighted term that makes reconstructions y (N, 3, H, W) in [-1, 1] look real to the discriminator.

        `error` is the reconstruction error of y, `last` the weights of the decoder's last layer.
        """
        term = -self.net(y).mean()
        return self.config.weight * adaptive_weight(error, term, last) * term

    def learn(self, x: torch.Tensor, y: torch.Tensor, factor: float) -> float:
        """Learn images x from reconstructions y for one step at `factor` of the peak rate, and return the loss."""
        self.optimizer.param_groups[0]["lr"] = self.config.lr * factor
        loss = discriminator_loss(self.net(x), self.net(y.detach()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
