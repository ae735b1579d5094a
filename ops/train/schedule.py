"""Learning-rate schedules and precision, for every training loop."""

import math
from contextlib import AbstractContextManager

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def warmup_cosine(step: int, steps: int, warmup: float = 0.05) -> float:
    """Return the factor of the learning rate at `step` (from 0): a linear rise, then a half cosine to 0."""
    rise = max(1, round(steps * warmup)) if warmup else 0
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which a model computes: in `precision` where the hardware has it, or as it is."""
    usable = precision != "float32" and has_precision(device, precision)
    return torch.autocast(device.type, DTYPES[precision] if usable else torch.bfloat16, enabled=usable)


def has_bf16(device: torch.device) -> bool:
    """Say whether `device` computes bfloat16 natively; emulation would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def has_precision(device: torch.device, name: str) -> bool:
    """Say whether `device` computes `name` natively; half precision needs an accelerator."""
    if name == "bfloat16":
        return has_bf16(device)
    return name == "float32" or device.type in ("cuda", "mps")
