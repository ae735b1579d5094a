"""The networks of the diffusion model, on diffusers' classes, behind one call.

Neither class is left to drop conditionings itself: nulls are the conditioner's (diffusers' DiT drops a label in each
block separately, so that its blocks never learn the joint null). Outputs start at zero, and in the transformer so does
what each block adds (adaLN-Zero of Peebles and Xie 2023), which diffusers leaves out.
"""

import math

import torch
import torch.nn.functional as F
from diffusers import PixArtTransformer2DModel, UNet2DConditionModel
from torch import nn

from ops.errors import AmalgamError
from ops.generate.conditioning import Conditioner, Conditions
from ops.generate.model_config import DiTConfig, UNetConfig


def build_backbone(config: UNetConfig | DiTConfig, context: int, latent: tuple[int, int, int]) -> nn.Module:
    """Return an untrained network for latents (C, H, W) from torch's generator; AmalgamError if sizes do not fit."""
    channels, height, width = latent
    if height != width:
        raise AmalgamError(f"latents of {height} x {width} are not square", "use square images")
    if isinstance(config, UNetConfig):
        return _unet(config, context, channels, height)
    return _transformer(config, context, channels, height)


def _unet(config: UNetConfig, context: int, channels: int, side: int) -> UNet2DConditionModel:
    levels, side, channels = len(config.channels), _tiled(side, config.patch), channels * config.patch**2
    if side % 2 ** (levels - 1):
        raise AmalgamError(
            f"{levels} levels halve a side of {side} latents {levels - 1} times",
            "diffusion.backbone.channels: name fewer levels",
        )
    unet = UNet2DConditionModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(config.channels),
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * (levels - 1)),
        up_block_types=(*["CrossAttnUpBlock2D"] * (levels - 1), "UpBlock2D"),
        layers_per_block=config.layers,
        cross_attention_dim=context,
        # diffusers calls the number of heads so, for the sake of old checkpoints
        attention_head_dim=tuple(max(1, each // config.head_width) for each in config.channels),
        norm_num_groups=8,
        class_embed_type="identity",
    )
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def _transformer(config: DiTConfig, context: int, channels: int, side: int) -> PixArtTransformer2DModel:
    _tiled(side, config.patch)
    model = PixArtTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=channels,
        out_channels=channels,
        num_layers=config.depth,
        norm_num_groups=1,
        cross_attention_dim=config.width,
        sample_size=side,
        patch_size=config.patch,
        caption_channels=context,
        use_additional_conditions=False,
    )
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    gates = model.adaln_single.linear  # shift, scale, gate of attention and of the MLP, in six parts
    with torch.no_grad():
        gates.weight.zero_()
        gates.bias.zero_()
        for block in model.transformer_blocks:
            block.scale_shift_table[2].zero_()
            block.scale_shift_table[5].zero_()
            block.attn2.to_out[0].weight.zero_()
            block.attn2.to_out[0].bias.zero_()
    return model


def _tiled(side: int, patch: int) -> int:
    """Return how many patches a side has; raises AmalgamError if they do not tile it."""
    if side % patch:
        raise AmalgamError(
            f"patches of {patch} do not tile a side of {side} latents", "diffusion.backbone.patch: a divisor"
        )
    return side // patch


class LatentModel(nn.Module):
    """Network and conditioner: what an objective asks for, given latents, a time and conditions."""

    def __init__(self, backbone: nn.Module, conditioner: Conditioner) -> None:
        super().__init__()
        self.backbone = backbone
        self.conditioner = conditioner

    def forward(self, x: torch.Tensor, time: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """Return the output (B, C, H, W) for `x` (B, C, H, W) at times `time` (B,) in about [0, 1000]."""
        tokens, vector = self.conditioner(conditions)
        if isinstance(self.backbone, UNet2DConditionModel):
            # patches become channels, and channels patches again, as transformers do it with latents
            patch = math.isqrt(self.backbone.config.in_channels // x.shape[1])
            x = F.pixel_unshuffle(x, patch)
            y = self.backbone(x, time, encoder_hidden_states=tokens, class_labels=vector).sample
            return F.pixel_shuffle(y, patch)
        more = torch.cat([tokens, self.conditioner.as_token(vector)], dim=1)
        return self.backbone(x, encoder_hidden_states=more, timestep=time).sample
