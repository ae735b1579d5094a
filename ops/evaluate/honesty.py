"""Signs that a robustness figure cannot be trusted: masked gradients, and outputs that mislead attacks.

After Athalye et al. 2018 (Obfuscated gradients give a false sense of security), Carlini et al. 2019 (On evaluating
adversarial robustness) and the flags of AutoAttack (Croce and Hein 2020). A sign that is raised proves nothing; it says
that the figure is an upper bound that a better attack may lower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ops.attack.objectives import Objective, cross_entropy, evaluate_objective
from ops.attack.pgd import pgd
from ops.attack.projections import ascent_direction, project, random_start
from ops.attack.threat import Threat
from ops.evaluate.config import HonestyConfig

BLACK_BOX = "square"
RANDOM = "difference of outputs for one input"
"""Not looked for where all attacks average gradients over draws, as AutoAttack's version `rand` does not."""
LIMITS = {
    "outputs that look like probabilities": 0.0,
    RANDOM: 1e-4,
    "images without a gradient": 0.0,
    "images where a random step is worse than the gradient's": 0.25,
    "accuracy under an unbounded attack": 0.05,
    "rise of accuracy with eps": 0.02,
    "images that only the black-box attack turns": 0.002,
}
"""Each sign with the value above which it is raised. The second and the last limit are AutoAttack's."""
MEANINGS = {
    "outputs that look like probabilities": "the model ends in a softmax: its gradients vanish; evaluate its logits",
    RANDOM: "the model draws random numbers: evaluate it with attacks: rand",
    "images without a gradient": "nothing for an attack to follow: rounding, saturation or a step function on the way",
    "images where a random step is worse than the gradient's": "the gradient does not point to higher loss",
    "accuracy under an unbounded attack": "an attack that may do anything fails: it does not work on this model",
    "rise of accuracy with eps": "a larger ball holds the smaller one: the attack gets lost",
    "images that only the black-box attack turns": "attacks by gradient should be the stronger ones",
}
ROOM = 0.5
"""The radius of the unbounded attack, for each pixel: in L-inf every image can become plain grey."""


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
    """For each multiple of eps which images (N,) bool survive PGD; 0 is no attack, infinity the unbounded one."""


def probe_model(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    threat: Threat,
    config: HonestyConfig,
    example_seeds: torch.Tensor,
) -> Probe:
    """Return the signs of a model, and its accuracy against eps, from a few images (N, C, H, W) with labels (N,)."""
    logits = _outputs(model, images)
    standing = logits.argmax(dim=1) == labels
    survivors = {0.0: standing.cpu().numpy()}
    x, y, seeds = images[standing], labels[standing], example_seeds[standing.cpu()]
    wide = threat.model_copy(update={"eps": _everything(threat, images)})
    for multiple, ball in [
        *((m, threat.model_copy(update={"eps": m * threat.eps})) for m in sorted(config.multiples)),
        (float("inf"), wide),
    ]:
        found = pgd(model, x, y, ball, steps=config.steps, loss="margin", example_seeds=seeds) if len(x) else x
        survived = survivors[0.0].copy()
        if len(x):
            survived[survived] = (_outputs(model, found).argmax(dim=1) == y).cpu().numpy()
        survivors[multiple] = survived
    signs = [
        Sign("outputs that look like probabilities", float(look_like_probabilities(logits))),
        Sign(RANDOM, _difference(model, images, logits)),
        *_gradients(model, x, y, threat, seeds),
        Sign("accuracy under an unbounded attack", float(survivors[float("inf")].mean())),
        Sign("rise of accuracy with eps", _rise([s.mean() for s in survivors.values()])),
    ]
    return Probe(signs, survivors)


def black_box_sign(outcomes: pd.DataFrame, attacks: Sequence[str]) -> Sign | None:
    """Return how many images (share) only Square turns, after all the attacks before it; None if it was not run.

    `outcomes` has a column of survivals for each attack, in the order in which they ran.
    """
    if BLACK_BOX not in attacks or attacks.index(BLACK_BOX) == 0:
        return None
    before = attacks[attacks.index(BLACK_BOX) - 1]
    return Sign("images that only the black-box attack turns", float((outcomes[before] & ~outcomes[BLACK_BOX]).mean()))


def warnings(signs: Mapping[str, Sequence[Sign]]) -> list[str]:
    """Return a sentence for each sign that is raised, by model."""
    return [
        f"{model}: {sign.name} {sign.value:.3g} (limit {sign.limit:g}): {sign.meaning}"
        for model, found in signs.items()
        for sign in found
        if sign.raised
    ]


@torch.no_grad()
def _outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x)


def _everything(threat: Threat, images: torch.Tensor) -> float:
    pixels = images[0].numel()
    return ROOM * {"linf": 1.0, "l2": pixels**0.5, "l1": float(pixels)}[threat.norm]


def look_like_probabilities(logits: torch.Tensor) -> bool:
    """Say whether all rows of `logits` (N, K) are in [0, 1] and sum to 1."""
    sums = bool(((logits.sum(dim=1) - 1).abs() < 1e-5).all())
    return sums and float(logits.min()) > -1e-5 and float(logits.max()) < 1 + 1e-5


def _difference(model: nn.Module, images: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the largest distance between normalised outputs of the same images, as AutoAttack measures it."""
    again = _outputs(model, images)
    return float((F.normalize(again, dim=1, eps=1e-10) - F.normalize(logits, dim=1, eps=1e-10)).norm(dim=1).max())


def _gradients(
    model: nn.Module, x: torch.Tensor, labels: torch.Tensor, threat: Threat, seeds: torch.Tensor
) -> list[Sign]:
    """Return whether right examples have a gradient of the cross-entropy, and whether it points to higher loss."""
    names = ("images without a gradient", "images where a random step is worse than the gradient's")
    if not len(x):
        return [Sign(name, 0.0) for name in names]
    _, gradient, _ = evaluate_objective(model, x, labels, Objective(cross_entropy))
    missing = gradient.flatten(1).abs().amax(dim=1) == 0
    step = project(x + threat.eps * ascent_direction(gradient, threat, x), x, threat)
    chance = random_start(x, threat, seeds)
    if threat.norm == "linf":
        chance = project(x + threat.eps * (chance - x).sign(), x, threat)
    up, by_chance = (F.cross_entropy(_outputs(model, p), labels, reduction="none") for p in (step, chance))
    # rising as little as by chance is no better than chance
    return [Sign(names[0], float(missing.float().mean())), Sign(names[1], float((up <= by_chance).float().mean()))]


def _rise(accuracies: Sequence[float]) -> float:
    """Return by how much accuracy rises at most from one radius to a larger one; 0 if it never does."""
    lowest, rise = float("inf"), 0.0
    for accuracy in accuracies:
        rise = max(rise, float(accuracy) - lowest)
        lowest = min(lowest, float(accuracy))
    return rise
