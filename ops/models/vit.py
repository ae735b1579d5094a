"""The vision transformer of "An Image is Worth 16x16 Words" (Dosovitskiy et al. 2021)."""

import torch
import torch.nn.functional as F
from torch import nn

from ops.errors import AmalgamError
from ops.models.base import Classifier
from ops.models.config import Architecture

EPS = 1e-6
"""What LayerNorm adds to the variance."""


class Attention(nn.Module):
    """Self-attention of several heads over tokens (N, T, C)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        for weight in (*self.qkv.weight.chunk(3), self.out.weight):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return, for each token, softmax(q k' / sqrt(C / heads)) v of all heads, mixed by a linear layer: (N, T, C)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a perceptron with GELU, each on normalised tokens and added to what came in (pre-norm)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=EPS), nn.LayerNorm(dim, eps=EPS)
        self.attention = Attention(dim, heads)
        self.rise, self.fall = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        for layer in (self.rise, self.fall):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens (N, T, C) after this block."""
        x = x + self.attention(self.norm1(x))
        return x + self.fall(F.gelu(self.rise(self.norm2(x))))


class VisionTransformer(Classifier):
    """Patches become tokens; a class token gathers what the last layer reads.

    The class token is a parameter of its own, so that a model can have several of them: `features` takes another one.
    It has no position, which would only be a second constant added to it; that is the one difference from the paper's
    parameters. Positions are learned for images of `image_size`; for other sizes they are interpolated (section 3.2).
    """

    def __init__(self, architecture: Architecture, classes: int) -> None:
        dim, patch = architecture.dim, architecture.patch
        super().__init__(dim, classes)
        self.patch, self.grid = patch, architecture.image_size // patch
        self.embed = nn.Conv2d(3, dim, patch, patch)
        nn.init.xavier_uniform_(self.embed.weight.view(dim, -1))
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, self.grid**2, dim), std=0.02))
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        hidden = round(dim * architecture.mlp_ratio)
        self.blocks = nn.Sequential(*(Block(dim, architecture.heads, hidden) for _ in range(architecture.layers)))
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def features(self, x: torch.Tensor, class_token: torch.Tensor | None = None) -> torch.Tensor:
        """Return the class token (N, C) after all blocks, of images (N, 3, H, W) in [0, 1].

        `class_token` (1, 1, C), or (N, 1, C) for one of each image, takes the place of the model's own. Raises
        AmalgamError if the patches do not divide the images.
        """
        token = self.class_token if class_token is None else class_token
        patches = self.embed_patches(x)
        tokens = torch.cat([token.expand(patches.shape[0], -1, -1).to(patches.dtype), patches], dim=1)
        return self.norm(self.blocks(tokens)[:, 0])

    def embed_patches(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens (N, H W / patch^2, C) of images (N, 3, H, W) in [0, 1], with their positions."""
        height, width = x.shape[2], x.shape[3]
        if height % self.patch or width % self.patch:
            raise AmalgamError(
                f"patches of {self.patch} x {self.patch} pixels do not divide images of {height} x {width}",
                "set architecture.patch to a divisor of the image size",
            )
        patches = self.embed(self.normalise(x)).flatten(2).transpose(1, 2)
        return patches + self._positions_for(height // self.patch, width // self.patch)

    def _positions_for(self, rows: int, columns: int) -> torch.Tensor:
        """Return the positions (1, rows columns, C), interpolated where the grid is not the learned one."""
        if rows == columns == self.grid:
            return self.positions
        grid = self.positions.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        grid = F.interpolate(grid, (rows, columns), mode="bilinear", align_corners=False)
        return grid.flatten(2).transpose(1, 2)
