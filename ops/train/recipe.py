"""A recipe says all that makes a classifier: papers differ only by recipe."""

from typing import Literal

from pydantic import Field, model_validator

from ops.attack.threat import Threat
from ops.config import Config
from ops.models.config import Architecture


class InnerAttack(Config):
    """The attack that training defends against."""

    steps: int = Field(10, ge=1, description="Ascent steps.")
    step_size: float = Field(0.25, gt=0, description="Length of a step in units of eps.")


class Augmentation(Config):
    """Random changes of the training images."""

    crop: int = Field(4, ge=0, description="Pixels of padding on each side before a random crop; 0 is none.")
    padding: Literal["zeros", "edge"] = Field(
        "zeros", description="What is padded: zeros, as in the papers, or the edge."
    )
    flip: bool = Field(True, description="Mirror half of the images.")


class Mix(Config):
    """How real and synthetic images share a batch."""

    real_fraction: float = Field(1.0, ge=0, le=1, description="Share of real images (alpha of Gowal et al. 2021).")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing, on synthetic rows only.")


class Schedule(Config):
    """How long and how fast."""

    epochs: float = Field(gt=0, description="Epochs, counted in real images whatever the mix.")
    batch: int = Field(128, ge=2, description="Images in a batch.")
    lr: float = Field(0.1, gt=0, description="Peak learning rate.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises from 0.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on the weights of convolutions and linear layers.")


class Recipe(Config):
    """Everything that makes a classifier, but the seed."""

    description: str = Field("", description="One sentence for people.")
    architecture: Architecture = Architecture()
    initialisation: str = Field("scratch", description="`scratch`, or the recipe in `classifier` to go on from.")
    threat: Threat = Threat()
    loss: Literal["trades", "pgd_at", "clean"] = Field(
        "trades", description="TRADES, PGD adversarial training, or none."
    )
    beta: float = Field(6.0, ge=0, description="TRADES: weight of the robust term.")
    attack: InnerAttack = InnerAttack()
    augmentation: Augmentation = Augmentation()
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the weight average, which is the model that is kept.")
    mix: Mix = Mix()
    schedule: Schedule
    evaluations: int = Field(3, ge=1, description="Evaluations on the validation split during training.")
    evaluation_images: int = Field(256, ge=1, description="Validation images used for them.")
    bf16: bool = Field(False, description="Compute in bfloat16 where that is safe (weights stay float32).")

    @property
    def uses_synthetic(self) -> bool:
        """Whether the recipe needs synthetic images."""
        return self.mix.real_fraction < 1

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.attack.step_size > 2:
            raise ValueError("attack.step_size is in units of eps: steps longer than 2 eps cross the whole ball")
        return self
