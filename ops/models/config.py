"""Settings of classifier architectures."""

from typing import Literal

from pydantic import Field

from ops.config import Config


class Architecture(Config):
    """A pre-activation residual network."""

    family: Literal["preact_resnet", "wide_resnet"] = Field("preact_resnet", description="Which residual network.")
    widths: list[int] = Field([32, 64, 128], description="preact_resnet: channels of each stage.")
    blocks: list[int] = Field([1, 1, 1], description="preact_resnet: blocks of each stage; all but the first halve.")
    stem_stride: int = Field(2, ge=1, description="preact_resnet: stride of the first convolution (1 in the papers).")
    depth: int = Field(28, ge=10, description="wide_resnet: depth 6n + 4.")
    width: int = Field(10, ge=1, description="wide_resnet: widening factor.")
