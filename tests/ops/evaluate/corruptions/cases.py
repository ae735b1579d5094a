"""Models whose answers to corrupted images are known, and what is read of a run."""

import math
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import torch
from torch import nn

from ops.evaluate.corruption_config import CorruptionsConfig

CPU = torch.device("cpu")
NAMES = ["gaussian_noise", "contrast", "saturate"]
ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)
"""What `brightness` adds at each severity (make_cifar_c.py)."""


def config(**changes) -> CorruptionsConfig:
    base = {"splits": ["test"], "corruptions": NAMES, "severities": [2, 5], "images": 20, "batch": 8, "replicates": 200}
    return CorruptionsConfig.model_validate(base | changes)


class Threshold(nn.Module):
    """Sees class 1 where the mean of the pixels is above `level`."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = level

    def forward(self, x):
        mean = x.mean(dim=(1, 2, 3)) - self.level
        return torch.stack([-mean, mean], dim=1)


class Linear(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3 * 32 * 32, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x):
        score = (x.flatten(1) - 0.5) @ self.w
        return torch.stack([-score, score], dim=1)


MODELS = {
    "classifier/real/seed-0": Linear(0),
    "classifier/real/seed-1": Linear(1),
    "soup/seed-0": Linear(2),
}


def folder_of(name: str, model: nn.Module, home: Path) -> Path:
    """Return a folder whose content is that of the model: what the evaluation knows it by."""
    folder = home / name.replace("/", "-")
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_bytes(b"".join(w.numpy().tobytes() for w in model.state_dict().values()))
    (folder / "settings").write_text(str(getattr(model, "level", "")))
    return folder


def predictions_of(out) -> pd.DataFrame:
    return pq.read_table(out / "predictions.parquet").to_pandas()


def files_of(out) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def wilson_by_hand(value: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half
