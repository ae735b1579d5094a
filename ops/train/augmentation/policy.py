"""RandAugment (Cubuk et al. 2020) and AutoAugment (Cubuk et al. 2019): random operations for each image.

An operation has a strength in [-1, 1], of which some use only the size. The images of a batch are grouped by what was
drawn for them, so a batch costs one call for each kind of operation.

The ranges at strength 1 are 0.3 (shear), 10/32 of the side (translation, as in the released CIFAR code), 30 degrees,
factors 1 +- 0.9 (colour, contrast, brightness, sharpness), threshold 0 (solarize) and 4 bits (posterize). Factors grow
or shrink at random, as in the public PyTorch versions; the released TensorFlow code uses 0.1 + 1.8 M / 10 instead, with
which the middle of the scale does nothing.
"""

from collections.abc import Callable, Mapping

import torch

from ops.train.augmentation import colour, moves
from ops.train.augmentation.config import Policy

Operation = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]  # images (n, 3, H, W), strength (n,), fill

SHEAR, TRANSLATION, DEGREES, FACTOR, DROPPED_BITS = 0.3, 10 / 32, 30.0, 0.9, 4

OPERATIONS: Mapping[str, Operation] = {
    "identity": lambda x, s, fill: x,
    "autocontrast": lambda x, s, fill: colour.autocontrast(x),
    "equalize": lambda x, s, fill: colour.equalize(x),
    "rotate": lambda x, s, fill: moves.rotate(x, DEGREES * s, fill),
    "solarize": lambda x, s, fill: colour.solarize(x, 1 - s.abs()),
    "color": lambda x, s, fill: colour.saturation(x, 1 + FACTOR * s),
    "posterize": lambda x, s, fill: colour.posterize(x, 8 - (DROPPED_BITS * s.abs()).round()),
    "contrast": lambda x, s, fill: colour.contrast(x, 1 + FACTOR * s),
    "brightness": lambda x, s, fill: colour.brightness(x, 1 + FACTOR * s),
    "sharpness": lambda x, s, fill: colour.sharpness(x, 1 + FACTOR * s),
    "shear_x": lambda x, s, fill: moves.shear_x(x, SHEAR * s, fill),
    "shear_y": lambda x, s, fill: moves.shear_y(x, SHEAR * s, fill),
    "translate_x": lambda x, s, fill: moves.translate_x(x, TRANSLATION * s, fill),
    "translate_y": lambda x, s, fill: moves.translate_y(x, TRANSLATION * s, fill),
    "invert": lambda x, s, fill: colour.invert(x),  # in AutoAugment only
}
RANDAUGMENT = [name for name in OPERATIONS if name != "invert"]  # the fourteen of the paper

# The policy found on CIFAR-10 (AutoAugment, appendix): a line is two operations, each `name probability magnitude`, with
# magnitudes 0 ... 9 on the ranges above; operations without a strength have none.
CIFAR10_POLICY = """
invert 0.1 -        contrast 0.2 6
rotate 0.7 2        translate_x 0.3 9
sharpness 0.8 1     sharpness 0.9 3
shear_y 0.5 8       translate_y 0.7 9
autocontrast 0.5 -  equalize 0.9 -
shear_y 0.2 7       posterize 0.3 7
color 0.4 3         brightness 0.6 7
sharpness 0.3 9     brightness 0.7 9
equalize 0.6 -      equalize 0.5 -
contrast 0.6 7      sharpness 0.6 5
color 0.7 7         translate_x 0.5 8
equalize 0.3 -      autocontrast 0.4 -
translate_y 0.4 3   sharpness 0.2 6
brightness 0.9 6    color 0.2 8
solarize 0.5 2      invert 0.0 -
equalize 0.2 -      autocontrast 0.6 -
equalize 0.2 -      equalize 0.6 -
color 0.9 9         equalize 0.6 -
autocontrast 0.8 -  solarize 0.2 8
brightness 0.1 3    color 0.7 0
solarize 0.4 5      autocontrast 0.9 -
translate_y 0.9 9   translate_y 0.7 9
autocontrast 0.9 -  solarize 0.8 3
equalize 0.8 -      invert 0.1 -
translate_y 0.7 9   autocontrast 0.9 -
"""


def apply_policy(x: torch.Tensor, config: Policy, fill: float, rng: torch.Generator) -> torch.Tensor:
    """Return images (N, 3, H, W) float32 in [0, 1] changed by the policy of `config`; moves leave `fill` behind."""
    if config.name == "none":
        return x
    if config.name == "randaugment":
        return randaugment(x, config.num_ops, config.magnitude, fill, rng)
    return autoaugment(x, fill, rng)


def randaugment(x: torch.Tensor, num_ops: int, magnitude: int, fill: float, rng: torch.Generator) -> torch.Tensor:
    """Return images changed by `num_ops` operations each, uniform over the fourteen, all of strength magnitude / 30."""
    for _ in range(num_ops):
        chosen = torch.randint(0, len(RANDAUGMENT), (len(x),), generator=rng)
        x = apply_operations(x, RANDAUGMENT, chosen, magnitude / 30 * _signs(len(x), rng), fill)
    return x


def autoaugment(x: torch.Tensor, fill: float, rng: torch.Generator) -> torch.Tensor:
    """Return images changed by one sub-policy each, uniform over the 25 found on CIFAR-10."""
    names = list(OPERATIONS)
    operations, probabilities, strengths = cifar10_policy()
    chosen = torch.randint(0, len(operations), (len(x),), generator=rng)
    for position in range(2):
        happens = torch.rand(len(x), generator=rng) < probabilities[chosen, position]
        operation = torch.where(happens, operations[chosen, position], names.index("identity"))
        x = apply_operations(x, names, operation, strengths[chosen, position] * _signs(len(x), rng), fill)
    return x


def cifar10_policy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return operation numbers in `OPERATIONS` (25, 2), probabilities (25, 2) and strengths (25, 2) in [0, 1]."""
    names = list(OPERATIONS)
    words = [line.split() for line in CIFAR10_POLICY.strip().splitlines()]
    operations = torch.tensor([[names.index(w[0]), names.index(w[3])] for w in words])
    probabilities = torch.tensor([[float(w[1]), float(w[4])] for w in words])
    strengths = torch.tensor([[float(w[k].replace("-", "0")) / 9 for k in (2, 5)] for w in words])
    return operations, probabilities, strengths


def apply_operations(
    x: torch.Tensor, names: list[str], chosen: torch.Tensor, strength: torch.Tensor, fill: float
) -> torch.Tensor:
    """Return images (N, 3, H, W), each changed by the operation names[chosen] (N,) with its strength (N,)."""
    changed = x.clone()
    for number, name in enumerate(names):
        mine = (chosen == number).nonzero()[:, 0]
        if len(mine) and name != "identity":
            rows = mine.to(x.device)
            result = OPERATIONS[name](x.index_select(0, rows), strength[mine].to(x.device), fill)
            changed.index_copy_(0, rows, result)
    return changed


def _signs(count: int, rng: torch.Generator) -> torch.Tensor:
    """Return -1 or 1 with equal probability, (count,) float32."""
    return torch.randint(0, 2, (count,), generator=rng) * 2.0 - 1.0
