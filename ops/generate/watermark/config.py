"""Settings of the watermark."""

from pydantic import Field, model_validator

from ops.config import Config


class WatermarkConfig(Config):
    """How images are marked. Marking and detecting need the same `low`, `high` and `scale`; exports record them."""

    psnr: float = Field(40.0, gt=0, description="Least peak signal-to-noise ratio of a marked image, in dB.")
    low: float = Field(
        1 / 8, gt=0, lt=1, description="Where the band of frequencies begins, as a share of the highest frequency."
    )
    high: float = Field(1 / 2, gt=0, le=1, description="Where it ends; JPEG and resizing destroy what is above.")
    margin: float = Field(
        7.0, gt=0, description="How far marked coefficients are moved past zero, in grey levels; more survives more."
    )
    scale: float = Field(
        6.0, gt=0, description="Coefficients count less beyond this size, in grey levels: edges are larger than marks."
    )
    search: int = Field(
        0,
        ge=0,
        le=4,
        description="Pixels by which detection tries to shift images in both axes; more views need a higher score.",
    )
    false_positives: float = Field(1e-3, gt=0, lt=1, description="Share of unmarked images that may pass as marked.")

    @model_validator(mode="after")
    def _has_a_band(self) -> "WatermarkConfig":
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self
