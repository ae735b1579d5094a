"""Settings of the evaluation."""

from typing import Annotated

from pydantic import Field, PositiveFloat, field_validator, model_validator

from ops.attack.attacks import Attack, AttackList, published
from ops.attack.threat import Norm, Threat
from ops.config import Config


class HonestyConfig(Config):
    """How a model is probed for signs that its robustness is not real; the first split and threat are probed."""

    images: int = Field(48, ge=1, description="Images, out of those that are attacked.")
    steps: int = Field(20, ge=1, description="Steps of PGD at each radius.")
    multiples: list[PositiveFloat] = Field([0.5, 1, 2, 4], min_length=1, description="Radii in units of eps.")


class RobustnessConfig(Config):
    """What is attacked, and how."""

    splits: list[str] = Field(min_length=1, description="Splits to evaluate.")
    threats: list[Threat] = Field(min_length=1, description="Threat models; every model meets all of them.")
    attacks: Annotated[list[Attack], Field(min_length=1)] | AttackList = Field(
        description="Attacks in their order, or standard, plus or rand for those of AutoAttack; each meets only examples that "
        "still stand, and an example is robust if it survives all."
    )
    attacked: list[str] | None = Field(
        None, min_length=1, description="Splits that are attacked, out of `splits`; all of them if not given."
    )
    images: int = Field(
        256,
        ge=1,
        description="Images of each such split that are attacked, classes and groups as they come; clean accuracy is of all.",
    )
    batch: int = Field(
        256, ge=1, description="Images in a batch (does not change results, but for models that draw random numbers)."
    )
    draws: int | None = Field(
        None,
        ge=1,
        description="Passes in which an image is classified; the class that most of them give counts. If not given, as many "
        "as attacks average gradients over (`eot`): 1, or 20 with rand.",
    )
    examples: int = Field(
        8, ge=0, le=24, description="Worst examples of each model and threat that are stored and drawn; 0: none."
    )
    temperature_split: str = Field("validation", description="Split whose images set the temperature of each model.")
    seed: int = Field(0, description="Seed of the choice of images and of the attacks.")
    honesty: HonestyConfig = HonestyConfig()

    @field_validator("attacks")
    @classmethod
    def _different(cls, attacks: list[Attack] | AttackList) -> list[Attack] | AttackList:
        names = [] if isinstance(attacks, str) else [attack.name for attack in attacks]
        if len(set(names)) < len(names):
            raise ValueError("an attack is named twice; give it more restarts or steps instead")
        return attacks

    @model_validator(mode="after")
    def _evaluated(self) -> "RobustnessConfig":
        unknown = set(self.attacked or []) - set(self.splits)
        if unknown:
            raise ValueError(f"attacked names {', '.join(sorted(unknown))}, which splits does not")
        return self

    def attacked_splits(self) -> list[str]:
        """Return the splits that are attacked; pictures and probes are of the first."""
        return self.splits if self.attacked is None else self.attacked

    def attacks_in(self, norm: Norm) -> list[Attack]:
        """Return the attacks for threats of this norm."""
        return published(self.attacks, norm) if isinstance(self.attacks, str) else self.attacks

    def passes(self) -> int:
        """Return in how many passes an image is classified."""
        return self.draws or max(attack.eot for attack in self.attacks_in(self.threats[0].norm))

    def expects_randomness(self) -> bool:
        """Return whether every attack averages gradients: random models are then no surprise."""
        return all(attack.eot > 1 for attack in self.attacks_in(self.threats[0].norm))

    def attack_names(self) -> list[str]:
        """Return the names of the attacks, in their order; they are the same for all norms."""
        return [attack.name for attack in self.attacks_in(self.threats[0].norm)]
