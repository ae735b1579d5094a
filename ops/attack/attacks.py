"""Attacks as settings, and the published lists of them."""

from typing import Literal

from pydantic import Field, model_validator

from ops.attack.threat import Norm
from ops.config import Config

AttackName = Literal["pgd", "multitargeted", "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
AttackList = Literal["standard", "plus", "rand"]
Rule = Literal["steepest", "adam"]
"""Steps of fixed length in the threat's norm, or Adam's."""
TARGETED = ("multitargeted", "apgd-t", "fab-t")
RULED = ("pgd", "multitargeted")
AVERAGING = ("apgd-ce", "apgd-dlr", "apgd-t")


class Attack(Config):
    """One attack of an evaluation."""

    name: AttackName = Field(
        description="pgd (on the margin) or multitargeted (Gowal et al. 2019); apgd-ce, apgd-dlr and apgd-t (Auto-PGD, "
        "targeted), fab and fab-t (Croce and Hein 2020), square (Andriushchenko et al. 2020)."
    )
    steps: int = Field(40, ge=1, description="Steps of each restart and target; for square, queries.")
    restarts: int = Field(1, ge=1, description="Attempts; those after the first meet what still stands.")
    targets: int | None = Field(
        None,
        ge=1,
        description="Wrong classes that targeted attacks aim at, the most likely first. If not given, 9 as in AutoAttack; for "
        "multitargeted all, as in the paper.",
    )
    rule: Rule = Field(
        "steepest",
        description="How pgd and multitargeted step: steepest (signs in L-inf), or adam, at the rates of Rebuffi et al. 2021 "
        "(their PGD-40: 40 steps; not in L1).",
    )
    eot: int = Field(
        1,
        ge=1,
        description="Passes over which each gradient of Auto-PGD is averaged (expectation over transformation, Athalye et "
        "al. 2018); more than 1 is for models that draw random numbers.",
    )

    @model_validator(mode="after")
    def _used(self) -> "Attack":
        if self.name not in TARGETED and "targets" in self.model_fields_set:
            raise ValueError(f"{self.name} aims at no class; targets belongs to {', '.join(TARGETED)}")
        if self.name not in RULED and "rule" in self.model_fields_set:
            raise ValueError(f"{self.name} has steps of its own; rule belongs to {', '.join(RULED)}")
        if self.name not in AVERAGING and "eot" in self.model_fields_set:
            raise ValueError(f"{self.name} averages no gradients; eot belongs to {', '.join(AVERAGING)}")
        if self.name in ("apgd-t", "square") and self.restarts > 1:
            raise ValueError(
                f"{self.name} knows no restarts; give it more {'targets' if self.name == 'apgd-t' else 'steps'}"
            )
        return self


def published(name: AttackList, norm: Norm) -> list[Attack]:
    """Return the attacks of AutoAttack (Croce and Hein 2020), version `standard`, `plus` or `rand`, in its order and budgets.

    L1 has five restarts of APGD-CE and five targets of APGD-T (Croce and Hein 2021). With fewer classes than targets, all
    wrong classes are aimed at. `rand`, for models that draw random numbers, averages gradients over 20 passes.

    A deviation: APGD for L1 always comes from larger balls (`shrinking_apgd`). AutoAttack has them in `standard` only; it
    says itself that `plus` is for L-inf and L2.
    """
    if name == "rand":
        return [Attack(name=loss, steps=100, eot=20) for loss in ("apgd-ce", "apgd-dlr")]
    few = norm == "l1"
    targeted = Attack(name="apgd-t", steps=100, targets=5 if few else 9)
    nearest = Attack(name="fab-t", steps=100, targets=9)
    square = Attack(name="square", steps=5000)
    if name == "standard":
        return [Attack(name="apgd-ce", steps=100, restarts=5 if few else 1), targeted, nearest, square]
    return [
        Attack(name="apgd-ce", steps=100, restarts=5),
        Attack(name="apgd-dlr", steps=100, restarts=5),
        Attack(name="fab", steps=100, restarts=5),
        square,
        Attack(name="apgd-t", steps=100, targets=9),
        nearest,
    ]
