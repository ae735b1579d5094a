"""Training state that survives a kill: one safetensors file, replaced whole.

Optimizer moments, weight averages and generator states are tensors; counters are JSON in the file's header. Nothing is
pickled. A state is written to a temporary file and renamed, so that whatever is on disk is complete.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ops.files import replacing


def save_state(path: Path, tensors: Mapping[str, torch.Tensor], counters: Mapping[str, Any]) -> None:
    """Write `tensors` (any dtype, moved to the CPU) and JSON-able `counters` to `path` atomically."""
    ready = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(ready, temporary, metadata={"counters": json.dumps(dict(counters), sort_keys=True)})


def load_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return the tensors and counters saved at `path`, or None if there is no state yet."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, json.loads(metadata["counters"])


def pack(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put `prefix/` before every name."""
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def unpack(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose name starts with `prefix/`, without it."""
    start = f"{prefix}/"
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the per-parameter state of `optimizer` as flat tensors named `<parameter index>.<slot>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{slot}": torch.as_tensor(value)
        for index, slots in state.items()
        for slot, value in slots.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put tensors made by `optimizer_tensors` back; learning rates are the caller's (they follow from the step).

    Each gets the memory layout of its parameter again: fused optimizers walk through both side by side.
    """
    whole = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, slot = name.split(".", 1)
        parameter = parameters[int(index)]
        same = value.shape == parameter.shape
        ready = torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value) if same else value
        state.setdefault(int(index), {})[slot] = ready
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})


class Plain(Protocol):
    """A part whose state is numbers that JSON can hold, such as a loss scaler."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""


class Checkpoint:
    """Saves a training run as it goes, and brings it back after a kill.

    All randomness of a loop must follow from (seed, step): then weights, averages, optimizer and step are all there is.
    Saves come often at first, then every `LONGEST` seconds, and never take more than a twentieth of the time. Several
    optimizers have names, which are none of the modules'.
    """

    LONGEST = 15.0

    def __init__(
        self,
        folder: Path,
        modules: Mapping[str, torch.nn.Module],
        optimizer: torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer] | None = None,
        plain: Mapping[str, Plain] | None = None,
    ) -> None:
        self.path = folder / "state.safetensors"
        self.modules = modules
        self.optimizers = {"optimizer": optimizer} if isinstance(optimizer, torch.optim.Optimizer) else optimizer or {}
        self.plain = plain or {}
        self.history: list[dict[str, Any]] = []
        self._begun = self._saved = time.monotonic()
        self._cost = 0.0

    def restore(self) -> int:
        """Load the saved state, if there is one, and return the number of steps that are done."""
        state = load_state(self.path)
        if state is None:
            return 0
        tensors, counters = state
        for name, module in self.modules.items():
            module.load_state_dict(unpack(name, tensors))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, unpack(name, tensors))
        for name, part in self.plain.items():
            part.load_state_dict(counters["plain"][name])
        self.history = counters["history"]
        return int(counters["step"])

    def step(self, done: int) -> None:
        """Save if it is time to; `done` is the number of steps that are finished."""
        now = time.monotonic()
        wait = max(20 * self._cost, min(self.LONGEST, 0.5 + 0.1 * (now - self._begun)))
        if now - self._saved >= wait:
            self.save(done)

    def save(self, done: int) -> None:
        """Save now."""
        start = time.monotonic()
        tensors: dict[str, torch.Tensor] = {}
        for name, module in self.modules.items():
            tensors |= pack(name, module.state_dict())
        for name, optimizer in self.optimizers.items():
            tensors |= pack(name, optimizer_tensors(optimizer))
        plain = {name: part.state_dict() for name, part in self.plain.items()}
        save_state(self.path, tensors, {"step": done, "history": self.history, "plain": plain})
        self._saved = time.monotonic()
        self._cost = self._saved - start
