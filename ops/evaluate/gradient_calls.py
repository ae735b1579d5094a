"""Whether a network asks for gradients while it predicts."""

import sys
from types import FrameType
from typing import Any

import torch
from torch import nn

ASKING = frozenset({torch.autograd.grad.__code__, torch.autograd.backward.__code__})
"""What `Tensor.backward`, `torch.func.grad` and `torch.autograd.functional` call in the end."""


def gradient_calls(model: nn.Module, x: torch.Tensor) -> int:
    """Return how many times the network asks for gradients while it predicts the images `x` (N, C, H, W) once.

    AutoAttack's check for dynamic defences (Croce and Hein 2020), which traces one pass, too; it looks for functions named
    `grad` or `backward` in any module, this for torch's own two by their code, under whatever name they were imported.
    What a scripted network (TorchScript) asks for is not seen.
    """
    count = 0

    def look(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code in ASKING

    before = sys.getprofile()
    with torch.enable_grad():
        sys.setprofile(look)
        try:
            model(x)
        finally:
            sys.setprofile(before)
    return count
