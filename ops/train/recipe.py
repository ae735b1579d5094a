"""A recipe says all that makes a classifier: papers differ only by recipe."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ops.attack.threat import Threat
from ops.config import Config
from ops.models.config import Architecture
from ops.train.augmentation.config import Augmentation, refuse_unused
from ops.train.sampling_config import GroupKeys, Sampling

Precision = Literal["float32", "bfloat16", "float16"]


class InnerAttack(Config):
    """The attack that training defends against.

    PGD of the papers: 10 steps. The papers' reference takes Adam steps (`rule: adam`); its public ports take steepest
    steps of a quarter of eps. Cheap options: FGSM with a random start (Wong et al. 2020) is `steps: 1, step_size: 1.25`;
    N-FGSM (de Jorge et al. 2022), whose wide start and missing projection guard against catastrophic overfitting, is
    `steps: 1, step_size: 1, noise: 2, project: false`.
    """

    steps: int = Field(10, ge=1, description="Ascent steps.")
    rule: Literal["steepest", "adam"] = Field(
        "steepest", description="Sign (L-inf), normalised gradient (L2) or sparse (L1) steps; or Adam steps."
    )
    step_size: float = Field(0.25, gt=0, description="steepest: length of a step in units of eps.")
    start: Literal["uniform", "gaussian", "none"] = Field(
        "uniform", description="A random point of the ball, the image with noise of 0.001 (TRADES), or the image."
    )
    noise: float = Field(1.0, gt=0, le=4, description="Radius of the uniform start in units of eps.")
    project: bool = Field(True, description="Keep iterates in the ball (only N-FGSM does not).")


class Averaging(Config):
    """The average of the weights along training, which is the model that is kept.

    `ema`: theta' <- tau theta' + (1 - tau) theta after every step, with tau ramped as in the papers. `swa`: the equal
    average of the weights at the end of every `every` epochs from the share `start` of training on (Izmailov et al.).
    """

    method: Literal["ema", "swa", "none"] = Field("ema", description="How weights are averaged.")
    decay: float = Field(0.995, ge=0, lt=1, description="ema: tau; the papers use 0.995 to 0.999 for 20,000 steps.")
    start: float = Field(0.0, ge=0, lt=1, description="Share of the steps before which the average is the live model.")
    every: float = Field(1.0, gt=0, description="swa: epochs between two snapshots.")
    statistics: Literal["live", "averaged"] = Field(
        "live", description="BatchNorm's running statistics: the live model's, as in the papers, or averaged too."
    )


class Mix(Config):
    """How real and synthetic images share a batch."""

    real_fraction: float = Field(1.0, ge=0, le=1, description="Share of real images (alpha of Gowal et al. 2021).")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Label smoothing, on synthetic rows only.")
    source: str = Field(
        "filtered_synthetic",
        description="filtered_synthetic, synthetic_shards, or a folder of shards below data/.",
    )


class Schedule(Config):
    """How long and how fast."""

    epochs: float = Field(gt=0, description="Epochs, counted in real images whatever the mix.")
    batch: int = Field(128, ge=2, description="Images in a batch, over all processes.")
    accumulate: int = Field(1, ge=1, description="Parts of a batch that are computed one after the other.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="Nesterov SGD, as in the papers, or AdamW.")
    lr: float = Field(0.1, gt=0, description="Peak learning rate.")
    shape: Literal["cosine", "piecewise", "one_cycle", "constant"] = Field(
        "cosine", description="Course of the rate after the warm-up."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises from 0.")
    drops: list[float] = Field([2 / 3], description="piecewise: shares of training after which the rate drops.")
    drop_factor: float = Field(0.1, gt=0, le=1, description="piecewise: factor of each drop.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum, or AdamW's first beta.")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty on the weights of convolutions and linear layers.")
    clip: float = Field(0.0, ge=0, description="Largest norm of the gradient; 0 is no clipping.")


class Reviews(Config):
    """The evaluations during training: robust accuracy of averaged and live weights under PGD."""

    count: int = Field(3, ge=1, description="Evaluations, evenly spaced; the last is at the end.")
    images: int = Field(256, ge=1, description="Images of each split.")
    steps: int = Field(10, ge=1, description="PGD steps.")
    live: bool = Field(True, description="Evaluate the live weights too.")
    splits: list[Literal["validation", "train", "test"]] = Field(
        ["validation"], description="Splits; the best model is chosen on validation, the others show overfitting."
    )

    @field_validator("splits")
    @classmethod
    def _chooses(cls, splits: list[str]) -> list[str]:
        if "validation" not in splits:
            raise ValueError("validation must be among them: the best model is chosen there")
        return splits


class Recipe(Config):
    """Everything that makes a classifier, but the seed."""

    description: str = Field("", description="One sentence for people.")
    architecture: Architecture = Architecture()
    initialisation: str = Field("scratch", description="`scratch`, or the recipe in `classifier` to go on from.")
    threat: Threat = Threat()
    loss: Literal["trades", "pgd_at", "mart", "free", "clean", "focal", "group_dro"] = Field(
        "trades",
        description="TRADES, PGD adversarial training, MART, free adversarial training; without an attack: cross-entropy "
        "(clean), the focal loss, or Group DRO.",
    )
    beta: float = Field(6.0, ge=0, description="TRADES, MART: weight of the robust term.")
    replays: int = Field(4, ge=1, description="free: steps on each batch (m of Shafahi et al. 2019).")
    gamma: float = Field(2.0, ge=0, description="focal: how little well-classified images count; 0 is cross-entropy.")
    group_by: GroupKeys = Field(
        [], description="group_dro: what makes a group, some of label, domain and attribute:<name>."
    )
    group_step: float = Field(0.01, gt=0, description="group_dro: step size of the weights of groups (eta_q).")
    group_adjustment: float = Field(
        0.0, ge=0, description="group_dro: C of the adjustment C / sqrt(n) by which small groups count for more."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing on real rows (none in the papers).")
    attack: InnerAttack = InnerAttack()
    augmentation: Augmentation = Augmentation()
    averaging: Averaging = Averaging()
    mix: Mix = Mix()
    sampling: Sampling = Sampling()
    schedule: Schedule
    reviews: Reviews = Reviews()
    keep: Literal["last", "best"] = Field(
        "last", description="The model that is kept: the last, or the one with the best robust validation accuracy."
    )
    precision: Precision = Field(
        "float32", description="Precision of the computation, where the hardware has it; weights stay float32."
    )
    compile: bool = Field(False, description="Compile the network; costs a minute at the start, needs a C++ compiler.")

    @property
    def uses_synthetic(self) -> bool:
        """Whether the recipe needs synthetic images."""
        return self.mix.real_fraction < 1

    @property
    def attacks(self) -> bool:
        """Whether every step runs an inner attack (free adversarial training reuses its gradients instead)."""
        return self.loss in ("trades", "pgd_at", "mart")

    @property
    def needs(self) -> list[str]:
        """The recipes of `classifier` that must be trained before this one: what it starts from, and its identifier."""
        start = [] if self.initialisation == "scratch" else [self.initialisation]
        identifier = [self.sampling.identifier] if self.sampling.identifier else []
        return list(dict.fromkeys(start + identifier))

    def batch_number(self, step: int) -> int:
        """Return the number of the batch that `step` uses: free adversarial training replays each batch."""
        return step // self.replays if self.loss == "free" else step

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.attack.step_size > 2:
            raise ValueError("attack.step_size is in units of eps: steps longer than 2 eps cross the whole ball")
        if self.attack.rule == "adam" and self.threat.norm == "l1":
            raise ValueError("Adam moves every pixel alike, which is no attack in L1: set attack.rule to steepest")
        if self.loss in ("mart", "free", "group_dro") and self.augmentation.mixes_targets:
            raise ValueError(f"{self.loss} needs labels that are not mixed: set augmentation.mixing.method to none")
        if self.schedule.batch % self.schedule.accumulate:
            raise ValueError("schedule.batch is no multiple of schedule.accumulate")
        if self.schedule.batch // self.schedule.accumulate < 2:
            raise ValueError("schedule.accumulate leaves single images: BatchNorm needs two")
        if self.loss == "free" and self.schedule.accumulate > 1:
            raise ValueError("free adversarial training keeps one perturbation per row: set schedule.accumulate to 1")
        if self.loss == "group_dro" and self.schedule.accumulate > 1:
            raise ValueError("group_dro weighs groups by their losses in the whole batch: set schedule.accumulate to 1")
        if self.loss == "group_dro" and not self.group_by:
            raise ValueError("group_dro needs groups: set group_by, such as [label, attribute:tone]")
        if self.loss != "group_dro":
            keys = ("group_by", "group_step", "group_adjustment")
            refuse_unused(self, keys, f"loss is {self.loss}", "loss: group_dro")
        if self.loss != "focal":
            refuse_unused(self, ("gamma",), f"loss is {self.loss}", "loss: focal")
        if self.mix.real_fraction == 0 and self.sampling.method != "uniform":
            raise ValueError("sampling draws real images, of which mix.real_fraction 0 leaves none")
        return self


def step_count(recipe: Recipe, real_images: int) -> int:
    """Return the number of steps: epochs are counted in real images, whatever share of a batch they are.

    This is the papers' convention: extra data change what is seen, not for how long. However images are drawn, an epoch
    is as many draws as there are real images.
    """
    return max(1, int(recipe.schedule.epochs * real_images / recipe.schedule.batch))
