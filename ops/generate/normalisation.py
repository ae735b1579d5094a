"""Latents of mean 0 and variance 1, made by the autoencoder itself.

diffusers knows three conventions for scaling latents (`scaling_factor`; with `shift_factor`; `latents_mean` and
`latents_std`), and each of its pipelines reads another one. Here the 1x1 convolutions at the two ends of the latent take
the shift and the scale of each channel into their weights, so that every reader of the folder gets the same latents.
"""

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKL


@torch.no_grad()
def latent_statistics(model: AutoencoderKL, batches: Iterable[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation (C,) float64 of each channel of the posterior means.

    `batches` are images (N, 3, H, W) in [-1, 1] on the model's device; one is in memory at a time.
    """
    count = 0
    total = square = torch.zeros((), dtype=torch.float64)
    for x in batches:
        z = model.encode(x).latent_dist.mean.double().cpu()
        count += z.numel() // z.shape[1]
        total = total + z.sum(dim=(0, 2, 3))
        square = square + z.square().sum(dim=(0, 2, 3))
    mean = total / count
    return mean, (square / count - mean.square()).clamp_min(1e-12).sqrt()


@torch.no_grad()
def normalise_latents(model: AutoencoderKL, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Change the weights of `model` so that its latents become (z - mean) / std and its reconstructions stay.

    `mean` and `std` are (C,). The posterior's standard deviation is divided by `std` too; `scaling_factor` becomes 1.
    """
    encode, decode = model.quant_conv, model.post_quant_conv
    mean, std = mean.to(encode.weight), std.to(encode.weight)
    channels = len(mean)
    decode.bias += (decode.weight[:, :, 0, 0] @ mean[:, None])[:, 0]
    decode.weight *= std.view(1, -1, 1, 1)
    encode.weight[:channels] /= std.view(-1, 1, 1, 1)
    encode.bias[:channels] = (encode.bias[:channels] - mean) / std
    encode.bias[channels:] -= 2 * std.log()  # the other half of the channels are the logarithms of variances
    model.register_to_config(scaling_factor=1.0)
