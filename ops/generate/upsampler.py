"""The network of a cascade's second stage, which enlarges images (Ho et al. 2022, Cascaded Diffusion Models).

A U-Net in pixel space sees the noisy large image beside the enlarged small one. Small images are corrupted with Gaussian
noise of a random level ("conditioning augmentation") that the U-Net is told, as in Imagen (Saharia et al. 2022): at
sampling time some noise hides what distinguishes a generated small image from a real one.

The enlarged small image a already is a good guess, and the network only learns what is missing. If the large image were
z ~ N(a, d^2 I), then of x_t = (1 - t) z + t e the velocity e - z would be expected to be

    -a + (t - (1 - t) d^2) / D (x_t - (1 - t) a),   D = (1 - t)^2 d^2 + t^2,

with variance d^2 / D. The network sees (x_t - (1 - t) a) / sqrt(D) and a, and its output, times d / sqrt(D), is added:
the preconditioning of Karras et al. 2022 for the path of rectified flow, around a instead of 0.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin

from ops.errors import AmalgamError
from ops.generate.conditioning import Conditioner, Conditions
from ops.generate.objectives import EMBEDDED, column
from ops.generate.upsampler_config import UpsamplerConfig
from ops.runtime import derive_seed

PARTS = ("unet", "conditioner", "level")


class Level(ModelMixin, ConfigMixin):
    """The level of the noise on the small image: how it is embedded, and how far off the enlarged image is."""

    @register_to_config
    def __init__(self, channels: int, embedding: int, clean: float, noisy: float) -> None:
        super().__init__()
        self.waves = Timesteps(channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed = TimestepEmbedding(channels, embedding)

    def forward(self, level: torch.Tensor) -> torch.Tensor:
        """Return (B, embedding) for levels (B,) in [0, 1]."""
        return self.embed(self.waves(level * EMBEDDED))

    def deviation(self, level: torch.Tensor) -> torch.Tensor:
        """Return d (B,), the deviation of large images from enlarged small ones: d^2 = clean^2 + s^2 noisy^2."""
        return (self.config["clean"] ** 2 + level**2 * self.config["noisy"] ** 2).sqrt()


class UpsamplingModel(torch.nn.Module):
    """U-Net, conditioner and level: the velocity of large images, given small ones."""

    def __init__(self, unet: UNet2DConditionModel, conditioner: Conditioner, level: Level) -> None:
        super().__init__()
        self.unet = unet
        self.conditioner = conditioner
        self.level = level

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, small: torch.Tensor, level: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Return the velocity (B, 3, H, W) of images `x` at times `t` (B,).

        `small` (B, 3, H / factor, W / factor) are the small images in [-1, 1], corrupted at `level` (B,) in [0, 1].
        """
        tokens, vector = self.conditioner(conditions)
        guess = enlarge(small, x.shape[2])
        time, d = column(t, x), column(self.level.deviation(level), x)
        spread = (1 - time) ** 2 * d**2 + time**2
        rest = x - (1 - time) * guess
        output = self.unet(
            torch.cat([rest / spread.sqrt(), guess], dim=1),
            t * EMBEDDED,
            encoder_hidden_states=tokens,
            class_labels=vector + self.level(level),
        ).sample
        return -guess + (time - (1 - time) * d**2) / spread * rest + d / spread.sqrt() * output

    def weight(self, t: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return the weight D / d^2 (B,) of squared errors of the velocity, with which the network's own count as 1."""
        d = self.level.deviation(level)
        return ((1 - t) ** 2 * d**2 + t**2) / d**2


def build_upsampler(
    config: UpsamplerConfig,
    size: int,
    vocabularies: Mapping[str, Sequence[str]],
    width: int,
    clean: float,
    noisy: float,
) -> UpsamplingModel:
    """Return an untrained model for images of `size` pixels and caption tokens of `width`; weights follow from the seed.

    `clean` and `noisy` are those of `deviations`. Untrained, it draws the enlarged image with noise of deviation d.

    Raises AmalgamError if the factor, or the levels of the U-Net, do not divide the size.
    """
    levels = len(config.channels)
    if size % config.factor:
        raise AmalgamError(
            f"images of {size} pixels are no multiple of {config.factor}",
            "set upsampler.factor to a divisor, or raw_images.image_size to a multiple",
        )
    if size % 2 ** (levels - 1):
        raise AmalgamError(
            f"images of {size} pixels cannot be halved {levels - 1} times", "name fewer levels in upsampler.channels"
        )
    embedding = 4 * config.channels[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "upsampler"))
        unet = UNet2DConditionModel(
            sample_size=size,
            in_channels=6,
            out_channels=3,
            block_out_channels=tuple(config.channels),
            down_block_types=(*["DownBlock2D"] * (levels - 1), "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", *["UpBlock2D"] * (levels - 1)),
            layers_per_block=1,
            cross_attention_dim=config.context,
            attention_head_dim=4,
            norm_num_groups=8,
            class_embed_type="identity",
        )
        names, values = list(vocabularies), [list(each) for each in vocabularies.values()]
        conditioner = Conditioner(names, values, config.context, embedding, config.max_tokens, config.encoder, width)
        level = Level(config.channels[0], embedding, clean, noisy)
        torch.nn.init.zeros_(unet.conv_out.weight)
        torch.nn.init.zeros_(unet.conv_out.bias)
    return UpsamplingModel(unet, conditioner, level)


def shrink(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Return images (B, 3, H, W) in [0, 1], each pixel the mean of factor x factor, rounded to 256 levels.

    Rounded, since that is what a base generator hands on.
    """
    return (F.avg_pool2d(x, factor) * 255).round() / 255


def enlarge(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return images (B, 3, h, w) at `size` x `size` pixels, by bicubic interpolation with Pillow's kernel.

    (Keys 1981, a = -1/2, which keeps ramps straight; torch has it where it says `antialias`.)
    """
    return F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False, antialias=True)


def deviations(x: torch.Tensor, factor: int, noise: torch.Tensor) -> tuple[float, float]:
    """Return how far enlarged small images are from large ones `x` (B, 3, H, W) in [-1, 1], per pixel and at least 0.01.

    First without corruption, the root mean square of x - A(z), where z is `x` shrunk and A enlarges; then what corruption
    adds for each unit of level, that of A(e - z) with standard normal `noise` e like z.
    """
    small = shrink((x + 1) / 2, factor) * 2 - 1
    clean = (x - enlarge(small, x.shape[2])).square().mean().sqrt()
    noisy = enlarge(noise - small, x.shape[2]).square().mean().sqrt()
    return max(float(clean), 0.01), max(float(noisy), 0.01)
