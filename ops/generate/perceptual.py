"""How different two images look to the project's own classifiers (after Zhang et al. 2018, LPIPS).

The published distance compares activations of a network that was trained on ImageNet, stage by stage, with weights of
the channels that were fitted to judgements of people. Here the network is a classifier of the data at hand and all
channels weigh the same: neither foreign weights nor judgements of such images are at hand.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ops.errors import AmalgamError
from ops.models.base import Classifier
from ops.models.checkpoint import load_classifier
from ops.models.resnet import PreActBlock, ResNet, WideBlock
from ops.models.resnet9 import ResNet9
from ops.models.vit import VisionTransformer


def perceptual_distance(model: Classifier, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the distance (N,) in [0, 4] of images x and y (N, 3, H, W) in [0, 1], in the eyes of `model`.

    d = mean over stages and pixels of |f(x) - f(y)|^2, where f are activations of unit length over the channels. Only `y`
    gets a gradient. The published distance adds the stages up; the mean keeps the scale where networks differ in depth.
    """
    with torch.no_grad():
        wanted = activations(model, x)
    parts = [
        (a - b).square().sum(dim=1).flatten(1).mean(dim=1) for a, b in zip(wanted, activations(model, y), strict=True)
    ]
    return torch.stack(parts).mean(dim=0)


def activations(model: Classifier, x: torch.Tensor) -> list[torch.Tensor]:
    """Return for each stage of `model` what it makes of images (N, 3, H, W) in [0, 1], of length 1 over dimension 1."""
    found: list[torch.Tensor] = []
    handles = [m.register_forward_hook(lambda _module, _given, made: found.append(made)) for m in stages(model)]
    try:
        model.features(x.contiguous(memory_format=torch.channels_last))
    finally:
        for handle in handles:
            handle.remove()
    maps = [made if made.ndim == 4 else made[:, 1:].transpose(1, 2) for made in found]  # tokens without the class token
    return [F.normalize(m, dim=1) for m in maps]


def stages(model: Classifier) -> Sequence[nn.Module]:
    """Return the modules whose outputs are compared; raises AmalgamError for networks whose stages are not known.

    Of a residual network, the activated maps before each stride and at the end; of a transformer, four of its blocks.
    """
    if isinstance(model, ResNet):
        blocks = [b for b in list(model.blocks)[1:] if isinstance(b, PreActBlock | WideBlock)]
        return [*(b.norm1 for b in blocks if b.conv1.stride != (1, 1)), model.norm]
    if isinstance(model, ResNet9):
        return [model.stem, *model.stages]
    if isinstance(model, VisionTransformer):
        depth = len(model.blocks)
        return [model.blocks[i] for i in sorted({-(-depth * part // 4) - 1 for part in (1, 2, 3, 4)})]
    raise AmalgamError(
        f"the stages of a {type(model).__name__} are not known, so it cannot judge how similar images look",
        "let a classifier of this project judge, or set autoencoder.perceptual_weight to 0",
    )


def load_judges(folders: Mapping[str, Path], device: torch.device) -> list[Classifier]:
    """Return the frozen classifiers in `folders`, by name; raises AmalgamError if one cannot be read or cannot judge."""
    judges = [load_classifier(folder, device)[0].requires_grad_(False) for _, folder in sorted(folders.items())]
    for judge in judges:
        stages(judge)
    return judges
