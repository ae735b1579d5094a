"""Weights from elsewhere: safetensors whose names may carry a prefix."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ops.errors import AmalgamError
from ops.models.external.config import check_format, conversion

Tensors = dict[str, torch.Tensor]


def read_weights(path: Path) -> Tensors:
    """Return the tensors in a safetensors file; raises AmalgamError where it is missing or anything else."""
    check_format(path.name, "the file of weights")
    if not path.exists():
        raise AmalgamError(f"the weights {path.name} are not in {path.parent.name}", "put them there, and dvc add data")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise AmalgamError(f"{path.name} is no safetensors file: {str(error)[:200]}", conversion(path.name)) from None


def strip_prefix(tensors: Tensors, names: set[str]) -> Tensors:
    """Return `tensors` without the prefix that all have in common, if that makes their names exactly `names`.

    Checkpoints of parallel training start with `module.`, wrapped ones with `model.` and the like. Where no prefix does,
    they are returned as they are.
    """
    first = next(iter(tensors), "")
    parts = first.split(".")
    for count in range(1, len(parts)):
        prefix = ".".join(parts[:count]) + "."
        if all(name.startswith(prefix) for name in tensors):
            short = {name.removeprefix(prefix): value for name, value in tensors.items()}
            if set(short) == names and set(tensors) != names:
                return short
    return tensors


def check_fit(tensors: Tensors, state: Tensors, file: str, made_by: str) -> None:
    """Raise AmalgamError that says which tensors of `file` and of the module's `state` have no partner or another shape."""
    missing, unknown = sorted(set(state) - set(tensors)), sorted(set(tensors) - set(state))
    if missing or unknown:
        parts = [
            f"{len(found)} {what}, such as {found[0]}"
            for found, what in ((missing, "are missing in the file"), (unknown, "are unknown to the module"))
            if found
        ]
        raise AmalgamError(
            f"the names of the tensors in {file} are not those of {made_by}: {'; '.join(parts)}",
            "correct the arguments or rename the tensors; constants such as the mean that normalises are no weights: "
            "register_buffer(..., persistent=False)",
        )
    for name, value in sorted(tensors.items()):
        if value.shape != state[name].shape:
            raise AmalgamError(
                f"{name} is {tuple(value.shape)} in {file} and {tuple(state[name].shape)} in {made_by}",
                "correct the arguments, such as depth, width and number of classes",
            )
