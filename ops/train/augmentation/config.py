"""What may happen to training images; the defaults are the base recipe of the papers, pad, crop and mirror."""

from typing import Literal

from pydantic import Field, model_validator

from ops.config import Config


def refuse_unused(config: Config, keys: tuple[str, ...], reason: str, meant: str) -> None:
    """Raise ValueError if one of `keys` differs from its default though `reason` makes it idle."""
    for key in keys:
        if getattr(config, key) != type(config).model_fields[key].default:
            raise ValueError(f"{key} is set but has no effect, because {reason}: was `{meant}` meant?")


class Geometry(Config):
    """Heuristic changes of shape: each image is turned, scaled and sheared about its middle, uniformly in the ranges."""

    rotation: float = Field(0.0, ge=0, le=180, description="Largest angle in degrees, either way; 0 is none.")
    scale: float = Field(0.0, ge=0, lt=1, description="Largest change s of the size, by factors 1 - s to 1 + s.")
    shear: float = Field(0.0, ge=0, le=60, description="Largest angle in degrees by which columns lean, either way.")


class Colour(Config):
    """Colour jitter: factors are uniform in 1 - s to 1 + s for strengths s, the hue moves by at most its strength."""

    brightness: float = Field(0.0, ge=0, le=1, description="Strength: images are blended with black.")
    contrast: float = Field(0.0, ge=0, le=1, description="Strength: images are blended with their mean grey.")
    saturation: float = Field(0.0, ge=0, le=1, description="Strength: images are blended with their grey copies.")
    hue: float = Field(0.0, ge=0, le=0.5, description="Largest turn of the hue, in turns of the colour circle.")


class Policy(Config):
    """Colour and shape operations drawn for each image."""

    name: Literal["none", "randaugment", "autoaugment"] = Field(
        "none", description="RandAugment, AutoAugment (the published CIFAR-10 policy), or none."
    )
    num_ops: int = Field(2, ge=1, description="RandAugment: operations in a row (N).")
    magnitude: int = Field(9, ge=0, le=30, description="RandAugment: strength of all operations (M).")

    @model_validator(mode="after")
    def _used(self) -> "Policy":
        if self.name != "randaugment":
            refuse_unused(self, ("num_ops", "magnitude"), f"policy.name is {self.name}", "name: randaugment")
        return self


class Mixing(Config):
    """How images of a batch, and with them their targets, are mixed with each other."""

    method: Literal["none", "cutmix", "mixup", "ricap", "smoothmix"] = Field(
        "none", description="CutMix, MixUp, RICAP, a soft circular composition as in SmoothMix, or none."
    )
    alpha: float = Field(
        1.0, gt=0, description="Parameter of Beta(alpha, alpha) for CutMix of size beta, MixUp and RICAP."
    )
    size: Literal["beta", "window"] = Field("beta", description="CutMix: a random area, or always the same window.")
    window: int = Field(20, ge=1, description="CutMix of size window: side of the window in pixels.")
    draw: Literal["batch", "image"] = Field(
        "batch", description="One box (or lambda) for each sub-batch, as in the released code, or one for each image."
    )
    splits: int = Field(1, ge=1, description="Sub-batches mixed separately (the released code emulates 4 workers).")

    @model_validator(mode="after")
    def _used(self) -> "Mixing":
        reason = f"mixing.method is {self.method}"
        if self.method == "none":
            refuse_unused(self, ("alpha", "size", "window", "draw", "splits"), reason, "method: cutmix")
        if self.method != "cutmix":
            refuse_unused(self, ("size", "window"), reason, "method: cutmix")
        if self.method == "smoothmix":
            refuse_unused(self, ("alpha",), reason, "method: mixup")
        if self.method == "cutmix" and self.size == "beta":
            refuse_unused(self, ("window",), "mixing.size is beta", "size: window")
        if self.method == "cutmix" and self.size == "window":
            refuse_unused(self, ("alpha",), "mixing.size is window", "size: beta")
        return self


class Augmentation(Config):
    """Random changes of the training images, in this order: crop, flip, geometry, colour, policy, Cutout, mixing."""

    crop: int = Field(4, ge=0, description="Pixels of padding on each side before a random crop; 0 is none.")
    padding: Literal["zeros", "edge"] = Field(
        "zeros", description="What is beyond the image, for crop and geometry: zeros, as in the papers, or the edge."
    )
    flip: bool = Field(True, description="Mirror half of the images.")
    geometry: Geometry = Geometry()
    colour: Colour = Colour()
    policy: Policy = Policy()
    cutout: int = Field(0, ge=0, description="Side of the Cutout window in pixels; 0 is none.")
    fill: float = Field(
        0.5, ge=0, le=1, description="What Cutout and the policy's moves leave behind: grey (0.5) or black (0)."
    )
    mixing: Mixing = Mixing()

    @property
    def mixes_targets(self) -> bool:
        """Whether targets come out mixed; the inner attack then aims at them instead of the clean prediction."""
        return self.mixing.method != "none"
