"""Settings of the diffusion model: its network, its objective, its training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ops.config import Config


class UNetConfig(Config):
    """A U-Net with attention to the caption's tokens."""

    kind: Literal["unet"] = Field("unet", description="The kind of network.")
    patch: int = Field(1, ge=1, description="Side of a patch in latents that becomes one position; divides their side.")
    channels: list[int] = Field([48, 96], min_length=2, description="Channels by level; all but the first attend.")
    layers: int = Field(1, ge=1, description="Residual blocks of a level.")
    head_width: int = Field(24, ge=1, description="Channels of an attention head; divides all channels but the first.")

    @property
    def embedding(self) -> int:
        """The width of the vector that is added to the embedding of the time."""
        return 4 * self.channels[0]

    @model_validator(mode="after")
    def _divides(self) -> "UNetConfig":
        odd = [width for width in self.channels if width % 8]
        if odd:
            raise ValueError(f"channels are normalised in 8 groups: {odd[0]} is no multiple of 8")
        uneven = [width for width in self.channels[1:] if width % self.head_width]
        if uneven:
            raise ValueError(f"head_width {self.head_width} does not divide {uneven[0]} channels")
        return self


class DiTConfig(Config):
    """A diffusion transformer that attends to the caption's tokens (PixArt's block with one shared adaLN)."""

    kind: Literal["dit"] = Field("dit", description="The kind of network.")
    patch: int = Field(2, ge=1, description="Side of a patch in latents; divides the latents' side.")
    depth: int = Field(6, ge=1, description="Blocks.")
    heads: int = Field(4, ge=1, description="Attention heads.")
    width: int = Field(128, ge=8, description="Width of a token; a multiple of the number of heads.")

    @property
    def embedding(self) -> int:
        """The width of the vector that becomes one more token."""
        return self.width

    @model_validator(mode="after")
    def _divides(self) -> "DiTConfig":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of twice the {self.heads} heads")
        return self


Backbone = Annotated[UNetConfig | DiTConfig, Field(discriminator="kind")]


class FlowConfig(Config):
    """Rectified flow (Liu et al. 2023) with the times of Esser et al. 2024."""

    kind: Literal["flow"] = Field("flow", description="The kind of objective.")
    times: Literal["logit_normal", "uniform"] = Field("logit_normal", description="Distribution of training times.")
    mean: float = Field(0.0, description="Mean of the logit of the time; above 0 is more noise.")
    std: float = Field(1.0, gt=0, description="Standard deviation of the logit of the time.")


class EDMConfig(Config):
    """The preconditioned denoiser of Karras et al. 2022; levels are in units of a data deviation of 0.5, as there."""

    kind: Literal["edm"] = Field("edm", description="The kind of objective.")
    mean: float = Field(-1.2, description="Mean of the logarithm of a training level.")
    std: float = Field(1.2, gt=0, description="Standard deviation of the logarithm of a training level.")
    smallest: float = Field(0.002, gt=0, description="Last level of the sampler but zero.")
    largest: float = Field(80.0, gt=0, description="First level of the sampler.")
    rho: float = Field(7.0, gt=0, description="Curvature of the sampler's levels.")

    @model_validator(mode="after")
    def _ordered(self) -> "EDMConfig":
        if self.smallest >= self.largest:
            raise ValueError(f"smallest ({self.smallest}) is not below largest ({self.largest})")
        return self


class DDPMConfig(Config):
    """A thousand levels on the cosine schedule (Nichol and Dhariwal 2021)."""

    kind: Literal["ddpm"] = Field("ddpm", description="The kind of objective.")
    prediction: Literal["v", "epsilon"] = Field("v", description="What the network predicts.")
    min_snr: float | None = Field(5.0, gt=0, description="Gamma of the min-SNR weights; null is no weights.")
    zero_terminal_snr: bool = Field(False, description="Rescale so that the last level is pure noise (needs v).")

    @model_validator(mode="after")
    def _predictable(self) -> "DDPMConfig":
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError("with zero_terminal_snr the noise says nothing at the last level: set prediction to v")
        return self


ObjectiveConfig = Annotated[FlowConfig | EDMConfig | DDPMConfig, Field(discriminator="kind")]


class DiffusionConfig(Config):
    """The latent diffusion model."""

    backbone: Backbone = Field(UNetConfig(), description="The network.")
    objective: ObjectiveConfig = Field(FlowConfig(), description="What it learns.")
    context: int = Field(96, ge=8, description="Width of the tokens that the network attends to.")
    encoder: str = Field("minilm", description="Text encoder: minilm, or a folder of a transformers encoder in data/.")
    max_tokens: int = Field(20, ge=4, description="Word pieces of a caption that are kept.")
    steps: int = Field(600, ge=1, description="Optimizer steps from scratch.")
    finetune_steps: int = Field(0, ge=0, description="Optimizer steps where training starts from `start`.")
    start: str | None = Field(None, description="Folder of a trained generator in data/, used if its data are ours.")
    batch: int = Field(64, ge=1, description="Images in a batch.")
    unlabelled: bool = Field(
        True, description="Learn from the split unlabelled too, where there is one, told what is known of its images."
    )
    lr: float = Field(1e-3, gt=0, description="Peak learning rate (AdamW, warm-up and cosine).")
    drop: float = Field(
        0.1, ge=0, lt=1, description="Probability with which each conditioning is dropped, independently."
    )
    drop_all: float = Field(0.1, ge=0, lt=1, description="Probability with which all are dropped together.")
    ema: float = Field(0.995, ge=0, lt=1, description="Decay of the weight average that samples.")
    flip: bool = Field(False, description="Mirror half of the images; not where left and right mean something.")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="What the network computes in.")
    compile: bool = Field(False, description="Compile the network first; pays in long runs.")
    seed: int = Field(0, description="Seed of initialisation, batches, times and noise.")
