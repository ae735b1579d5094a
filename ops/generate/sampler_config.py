"""Settings of sampling."""

from typing import Literal

from pydantic import Field, model_validator

from ops.config import Config


class SamplerConfig(Config):
    """How noise becomes images."""

    steps: int = Field(8, ge=1, description="Solver steps.")
    solver: Literal["euler", "heun", "dpm++"] = Field(
        "heun",
        description="euler is DDIM where the model is a ddpm; heun evaluates the model twice in a step; dpm++ is "
        "DPM-Solver++ (2M), second order with one evaluation.",
    )
    guidance: float | dict[str, float] = Field(
        2.0,
        description="Classifier-free guidance weight; 1 is plain conditional sampling. Or a weight for each of caption, "
        "label, domain and attributes, added one after the other in this order; those not named are added last, at 1.",
    )
    rescale: float = Field(0.0, ge=0, le=1, description="How far guided outputs get back the deviation of plain ones.")
    interval: tuple[float, float] = Field(
        (0.0, 1.0), description="Noise shares between which guidance acts; 0 is data and 1 is noise."
    )
    clip: float | None = Field(None, gt=0, description="Bound on predicted latents (in deviations); null is none.")
    batch: int = Field(128, ge=1, description="Images sampled together (does not change the images).")
    seed: int = Field(0, description="Seed of the noise.")

    @model_validator(mode="after")
    def _ordered(self) -> "SamplerConfig":
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"interval {low} to {high} is no part of 0 to 1")
        weights = self.guidance.values() if isinstance(self.guidance, dict) else [self.guidance]
        if any(weight < 0 for weight in weights):
            raise ValueError("guidance is negative")
        if self.guidance == {}:
            raise ValueError("guidance names nothing: give a number, or a weight for some of the conditions")
        return self
