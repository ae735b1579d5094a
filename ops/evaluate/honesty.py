"""Signs that a robustness figure cannot be trusted: masked gradients, and outputs that mislead attacks.

After Athalye et al. 2018 (Obfuscated gradients give a false sense of security), Carlini et al. 2019 (On evaluating
adversarial robustness) and the flags of AutoAttack (Croce and Hein 2020). A sign that is raised proves nothing; it says
that the figure is an upper bound that a better attack may lower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ops.attack.objectives import cross_entropy
from ops.attack.projections import ascent_direction, project, random_start
from ops.attack.threat import Threat
from ops.evaluate.config import HonestyConfig
from ops.evaluate.gradient_calls import gradient_calls
from ops.evaluate.radii import Reached, are_right, highest_rise, outputs_of, plateau, reach
from ops.models.frozen import frozen_parameters

RANDOM = "difference of outputs for one input"
"""Not looked for where all attacks average gradients over draws, as AutoAttack's version `rand` does not."""
PROBABILITIES = "outputs that look like probabilities"
ASKING = "gradients asked for while predicting"
MISSING = "images without a gradient"
NO_NUMBER = "images whose gradient is no number"
MISLEADING = "images where a random step is worse than the gradient's"
BROKEN_OFF = "radii at which the attack breaks off"
UNBOUNDED = "accuracy under an unbounded attack"
RISE = "rise of accuracy with eps"
PLATEAU = "accuracy that does not fall with eps"
BATCH = "images whose answer depends on the batch"
BLACK_BOX_ONLY = "images that only the black-box attack turns"
LIMITS = {
    PROBABILITIES: 0.0,
    RANDOM: 1e-4,
    ASKING: 0.0,
    MISSING: 0.0,
    NO_NUMBER: 0.0,
    MISLEADING: 0.25,
    BROKEN_OFF: 0.0,
    UNBOUNDED: 0.05,
    RISE: 0.02,
    PLATEAU: 0.0,
    BATCH: 0.0,
    BLACK_BOX_ONLY: 0.002,
}
"""Each sign with the value above which it is raised. Those of random outputs, of gradients that are asked for and of the
black-box attack are AutoAttack's."""
MEANINGS = {
    PROBABILITIES: "the model ends in a softmax: its gradients vanish; evaluate its logits",
    RANDOM: "the model draws random numbers: evaluate it with attacks: rand",
    ASKING: "the model optimises while it predicts: attacks that do not know of that are too weak",
    MISSING: "nothing for an attack to follow: rounding, saturation or a step function on the way",
    NO_NUMBER: "NaN or infinity, such as a root of 0 or an overflow on the way: no attack can follow it",
    MISLEADING: "the gradient does not point to higher loss",
    BROKEN_OFF: "it meets logits or gradients that are no numbers: what is lost there is not known",
    UNBOUNDED: "an attack that may do anything fails: it does not work on this model",
    RISE: "a larger ball holds the smaller one: the attack gets lost",
    PLATEAU: "a larger ball brings images no nearer to another class: the attack makes no headway",
    BATCH: "asked again beside other images it says something else: no figure of single images holds",
    BLACK_BOX_ONLY: "attacks by gradient should be the stronger ones",
}
ASKED = 4
"""Images of the pass in which calls for gradients are counted."""


@dataclass(frozen=True)
class Sign:
    """One reason for distrust, looked for in one model."""

    name: str
    value: float

    @property
    def limit(self) -> float:
        """The value above which it is raised."""
        return LIMITS[self.name]

    @property
    def raised(self) -> bool:
        """Whether the model shows it; values that are no number do."""
        return not self.value <= self.limit

    @property
    def meaning(self) -> str:
        """What it would mean, and what to do."""
        return MEANINGS[self.name]


@dataclass(frozen=True)
class Probe:
    """What probing one model gave."""

    signs: list[Sign]
    survivors: dict[float, np.ndarray]
    """For each multiple of eps which images (N,) bool survive PGD; 0 is no attack, infinity the unbounded one.

    Radii at which the attack breaks off are left out."""


def probe_model(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    config: HonestyConfig,
    example_seeds: torch.Tensor,
) -> Probe:
    """Return the signs of a model, and its accuracy against eps, from a few images (N, C, H, W) with labels (N,).

    Where logits or gradients are no numbers attacks cannot run. That is a sign of its own, and signs that rest on what
    attacks find are then left out. An image to which the model gives no number counts as wrong.
    """
    logits = outputs_of(model, images)
    standing = are_right(logits, labels)
    gradient = _gradient(model, images, labels)
    sound = logits.isfinite().all(dim=1) & gradient.flatten(1).isfinite().all(dim=1)
    x, y, seeds = images[standing], labels[standing], example_seeds[standing.cpu()]
    # an attack on a batch breaks off at the first gradient that is no number
    reached = reach(model, x, y, threat, config, seeds) if sound[standing].all() else {}
    survivors = {0.0: standing.cpu().numpy()}
    for radius, found in reached.items():
        survivors[radius] = survivors[0.0].copy()
        survivors[radius][survivors[0.0]] = found.survived.cpu().numpy()
    signs = [
        Sign(PROBABILITIES, float(look_like_probabilities(logits))),
        Sign(RANDOM, _difference(model, images, logits)),
        Sign(NO_NUMBER, float((~sound).float().mean())),
        *_gradient_signs(model, x, y, gradient[standing], threat, seeds),
        Sign(BROKEN_OFF, 1 - len(reached) / len({*config.multiples, float("inf")})),
        *_curve_signs(survivors, reached, labels),
        Sign(ASKING, float(gradient_calls(model, images[:ASKED]))),
    ]
    return Probe(signs, survivors)


def warnings(signs: Mapping[str, Sequence[Sign]]) -> list[str]:
    """Return a sentence for each sign that is raised, by model."""
    return [
        f"{model}: {sign.name} {sign.value:.3g} (limit {sign.limit:g}): {sign.meaning}"
        for model, found in signs.items()
        for sign in found
        if sign.raised
    ]


def _gradient(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the cross-entropy at the images, as it is: `evaluate_objective` may refuse what is no number."""
    x = images.detach().requires_grad_(True)
    with torch.enable_grad(), frozen_parameters(model):
        (gradient,) = torch.autograd.grad(cross_entropy(model(x), labels).sum(), x)
    return gradient


def look_like_probabilities(logits: torch.Tensor) -> bool:
    """Say whether all rows of `logits` (N, K) are in [0, 1] and sum to 1."""
    sums = bool(((logits.sum(dim=1) - 1).abs() < 1e-5).all())
    return sums and float(logits.min()) > -1e-5 and float(logits.max()) < 1 + 1e-5


def _difference(model: nn.Module, images: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the largest distance between normalised outputs of the same images, as AutoAttack measures it.

    Images whose outputs are no numbers tell nothing.
    """
    again = outputs_of(model, images)
    distances = (F.normalize(again, dim=1, eps=1e-10) - F.normalize(logits, dim=1, eps=1e-10)).norm(dim=1)
    return float(torch.where(distances.isfinite(), distances, 0).max())


def _gradient_signs(
    model: nn.Module,
    x: torch.Tensor,
    labels: torch.Tensor,
    gradient: torch.Tensor,
    threat: Threat,
    seeds: torch.Tensor,
) -> list[Sign]:
    """Return whether right examples have a gradient of the cross-entropy, and whether it points to higher loss.

    The second is looked for where the gradient is made of numbers.
    """
    missing = gradient.flatten(1).abs().amax(dim=1) == 0
    sound = gradient.flatten(1).isfinite().all(dim=1)
    x, labels, gradient, seeds = x[sound], labels[sound], gradient[sound], seeds[sound.cpu()]
    if not len(x):
        return [Sign(MISSING, _share(missing)), Sign(MISLEADING, 0.0)]
    step = project(x + threat.eps * ascent_direction(gradient, threat, x), x, threat)
    chance = random_start(x, threat, seeds)
    if threat.norm == "linf":
        chance = project(x + threat.eps * (chance - x).sign(), x, threat)
    up, by_chance = (F.cross_entropy(outputs_of(model, p), labels, reduction="none") for p in (step, chance))
    # rising as little as by chance, or to no number, is no better than chance
    return [Sign(MISSING, _share(missing)), Sign(MISLEADING, _share(~(up > by_chance)))]


def _share(found: torch.Tensor) -> float:
    """Return the share of true values in (N,) bool; 0 of none."""
    return float(found.float().mean()) if len(found) else 0.0


def _curve_signs(
    survivors: Mapping[float, np.ndarray], reached: Mapping[float, Reached], labels: torch.Tensor
) -> list[Sign]:
    """Return the signs in accuracy against eps, as far as attacks came."""
    if not reached:
        return []
    unbounded = [Sign(UNBOUNDED, float(survivors[radius].mean())) for radius in reached if radius == float("inf")]
    return [
        *unbounded,
        Sign(RISE, highest_rise([float(each.mean()) for each in survivors.values()])),
        Sign(PLATEAU, plateau(reached, labels)),
    ]
