"""One optimizer step of any recipe: data, augmentation, attack, loss, update, average."""

import copy
import math

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ops.errors import AmalgamError
from ops.models.base import Classifier
from ops.models.checkpoint import place
from ops.runtime import generator
from ops.train.augmentation.apply import augment
from ops.train.averager import Averager
from ops.train.batchnorm import ramp_statistics
from ops.train.free import FreePerturbation
from ops.train.group_dro import GroupWeights
from ops.train.inner import starting_point
from ops.train.mixing import Batches
from ops.train.objective import Objective
from ops.train.rates import rate_factor
from ops.train.recipe import Recipe, step_count
from ops.train.schedule import has_precision
from ops.train.start import make_optimizer
from ops.train.workers import Workers


class Engine:
    """A training in progress; everything a step does follows from (seed, name, step) and the state below."""

    def __init__(
        self,
        recipe: Recipe,
        name: str,
        model: Classifier,
        batches: Batches,
        seed: int,
        device: torch.device,
        workers: Workers,
    ) -> None:
        schedule = recipe.schedule
        workers.check(schedule.batch, schedule.accumulate)
        self.recipe, self.name, self.batches, self.seed, self.device = recipe, name, batches, seed, device
        self.workers = workers
        self.steps = step_count(recipe, len(batches.real))
        self.model = place(model, device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = make_optimizer(self.model, schedule)
        self.averager = Averager(recipe.averaging, self.steps, len(batches.real) / schedule.batch)
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=recipe.precision == "float16" and has_precision(device, "float16")
        )
        self.free = FreePerturbation(recipe, batches, workers).to(device) if recipe.loss == "free" else None
        self.weights = self._group_weights() if recipe.loss == "group_dro" else None
        network = torch.compile(self.model) if recipe.compile else self.model
        objective = Objective(network, recipe, self.weights)  # type: ignore[arg-type]
        self.objective: nn.Module = DistributedDataParallel(objective) if workers.count > 1 else objective

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a resumed run needs back, beside the optimizer."""
        free: dict[str, nn.Module] = {"free": self.free} if self.free else {}
        weights: dict[str, nn.Module] = {"weights": self.weights} if self.weights else {}
        return {"model": self.model, "average": self.average, **free, **weights}

    def _group_weights(self) -> GroupWeights:
        """Return the weights of Group DRO at their start; raises AmalgamError if nobody has grouped the images."""
        recipe, groups = self.recipe, self.batches.groups
        if groups is None:
            raise AmalgamError(f"recipe {self.name} needs groups of images, but has none", "set its loss to clean")
        weights = GroupWeights(groups.counts, recipe.group_step, recipe.group_adjustment, self.workers)
        return weights.to(self.device)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return this process's images (b, 3, H, W), attack starts and targets (b, K) of `step`, on the device.

        All that is random is drawn by a CPU generator for the whole batch, so that a step is the same on every device and
        for every number of processes.
        """
        number = self.recipe.batch_number(step)
        rng = generator(self.seed, self.name, "step", number)
        pixels, labels = self.batches.at(number)
        x, targets = pixels.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        x, targets = augment(x, targets, self.recipe.augmentation, rng)
        start = starting_point(x, self.recipe.threat, self.recipe.attack, rng) if self.recipe.attacks else x
        x, start, targets = (self.workers.rows(part) for part in (x, start, targets))
        layout = torch.channels_last
        return x.contiguous(memory_format=layout), start.contiguous(memory_format=layout), targets

    def groups(self, step: int) -> torch.Tensor | None:
        """Return the groups (b,) int64 of the rows of `batch(step)`; None for losses that know no groups."""
        groups = self.batches.groups_at(self.recipe.batch_number(step))
        return None if groups is None else self.workers.rows(groups.to(self.device, non_blocking=True))

    def rate(self, step: int) -> float:
        """Return the learning rate of `step`."""
        return self.recipe.schedule.lr * rate_factor(self.recipe.schedule, step, self.steps)

    def step(self, step: int) -> tuple[float, dict[str, torch.Tensor]]:
        """Take the optimizer step `step` (from 0) and return its loss and figures.

        Raises AmalgamError, before any weight changes, if the loss is not a number.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        ramp_statistics(self.model, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss, figures = self._gradients(step)
        value = float(self.workers.mean(loss))  # of the whole batch: all processes go on, or all stop
        if not math.isfinite(value):
            raise AmalgamError(
                f"the loss of recipe {self.name} is {value} at step {step}",
                f"lower its schedule.lr ({self.recipe.schedule.lr:g}), or set precision to float32",
            )
        self.scaler.unscale_(self.optimizer)
        if self.recipe.schedule.clip:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.schedule.clip, foreach=True)
            figures["gradient norm"] = norm.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.averager.update(self.average, self.model, step)
        return value, figures

    def _gradients(self, step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Put the gradients of the batch in place and return the mean loss and the figures of its last part."""
        parts = self.recipe.schedule.accumulate
        x, start, targets = self.batch(step)
        groups = self.groups(step)  # of the whole batch: recipes that have some do not accumulate
        if self.free is not None:
            start = self.free.begin(x, step)
        total = torch.zeros((), device=self.device)
        figures: dict[str, torch.Tensor] = {}
        scale = float(self.scaler.get_scale()) if self.scaler.is_enabled() else 1.0
        for number, part in enumerate(zip(x.chunk(parts), start.chunk(parts), targets.chunk(parts), strict=True)):
            loss, figures = self._loss(*part, groups, scale=scale, last=number == parts - 1)
            total += loss.detach() / parts
            self.scaler.scale(loss / parts).backward()
        if self.free is not None:
            self.free.advance(start)
        return total, figures

    def _loss(
        self,
        x: torch.Tensor,
        start: torch.Tensor,
        targets: torch.Tensor,
        groups: torch.Tensor | None,
        *,
        scale: float,
        last: bool,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return loss and figures of one part; processes exchange gradients after the last part only."""
        if isinstance(self.objective, DistributedDataParallel):
            self.objective.require_backward_grad_sync = last
        return self.objective(x, start, targets, scale, groups)
