"""Settings of classifier architectures."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ops.config import Config

Count = Annotated[int, Field(ge=1)]


class Architecture(Config):
    """A network, from images of any size to classes; each family reads the fields that name it.

    The PreActResNet-18 of the papers is `family: preact_resnet, widths: [64, 128, 256, 512], blocks: [2, 2, 2, 2],
    stem_stride: 1`; their WideResNet-28-10 is `family: wide_resnet, depth: 28, width: 10`; a ViT-B/16 is
    `family: vit, image_size: 224, patch: 16, dim: 768, layers: 12, heads: 12`.
    """

    family: Literal["preact_resnet", "wide_resnet", "resnet9", "vit"] = Field(
        "preact_resnet", description="Which kind of network."
    )
    activation: Literal["silu", "relu"] = Field(
        "silu", description="All but vit (GELU): silu, as in the papers, or relu."
    )
    widths: list[Count] = Field(
        [32, 64, 128],
        min_length=1,
        description="preact_resnet: channels of each stage. resnet9: channels of the stem, then of each stage.",
    )
    blocks: list[Count] = Field([1, 1, 1], description="preact_resnet: blocks of each stage; all but the first halve.")
    stem_stride: int = Field(2, ge=1, description="preact_resnet: stride of the first convolution (1 in the papers).")
    grid: int = Field(
        1,
        ge=1,
        description="preact_resnet, wide_resnet: features are means of grid x grid parts of the last stage. 1, the mean "
        "of all pixels as in the papers, forgets where things are, which small networks on digits need to know.",
    )
    depth: int = Field(28, ge=10, description="wide_resnet: depth 6n + 4.")
    width: int = Field(10, ge=1, description="wide_resnet: widening factor.")
    image_size: int = Field(
        32,
        ge=1,
        description="vit: side of the images in pixels that positions are learned for; others interpolate them.",
    )
    patch: int = Field(4, ge=1, description="vit: side of a patch in pixels.")
    dim: int = Field(64, ge=1, description="vit: channels of a token.")
    layers: int = Field(4, ge=1, description="vit: transformer blocks.")
    heads: int = Field(4, ge=1, description="vit: attention heads of a block.")
    mlp_ratio: float = Field(4.0, gt=0, description="vit: hidden units of a block's perceptron in units of dim.")

    @model_validator(mode="after")
    def _fits_together(self) -> "Architecture":
        if problem := _CHECKS[self.family](self):
            raise ValueError(problem)
        return self


def _preact_problem(a: Architecture) -> str | None:
    if len(a.widths) == len(a.blocks):
        return None
    return (
        f"widths and blocks of a preact_resnet need one number for each stage, "
        f"but widths has {len(a.widths)} and blocks has {len(a.blocks)}"
    )


def _wide_problem(a: Architecture) -> str | None:
    if a.depth % 6 == 4:
        return None
    nearest = 6 * max(1, round((a.depth - 4) / 6)) + 4
    return f"depth of a wide_resnet must be 6n + 4 (10, 16, 22, 28, 34, ...), not {a.depth}: try {nearest}"


def _resnet9_problem(a: Architecture) -> str | None:
    if len(a.widths) >= 2:
        return None
    return "widths of a resnet9 need at least two numbers: the channels of the stem and of one stage"


def _vit_problem(a: Architecture) -> str | None:
    if a.dim % a.heads:
        return (
            f"heads of a vit must divide dim, but dim is {a.dim} and heads is {a.heads}: "
            f"try heads {_divisor(a.dim, a.heads)}"
        )
    if a.image_size % a.patch:
        return (
            f"patch of a vit must divide image_size, but image_size is {a.image_size} and patch is {a.patch}: "
            f"try patch {_divisor(a.image_size, a.patch)}"
        )
    if round(a.dim * a.mlp_ratio) < 1:
        return f"mlp_ratio {a.mlp_ratio} of a vit leaves no hidden unit for dim {a.dim}"
    return None


_CHECKS = {
    "preact_resnet": _preact_problem,
    "wide_resnet": _wide_problem,
    "resnet9": _resnet9_problem,
    "vit": _vit_problem,
}


def _divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number` nearest to `wanted`."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: abs(d - wanted))
