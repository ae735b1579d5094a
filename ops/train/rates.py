"""The course of the learning rate."""

from ops.train.recipe import Schedule
from ops.train.schedule import warmup_cosine


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Return the factor of the peak rate at `step` (from 0) of `steps`.

    `cosine` falls to 0 along a half cosine; `piecewise` is multiplied by `drop_factor` after each share in `drops`;
    `one_cycle` falls linearly to 0 (Smith 2018, with the rise as warm-up); `constant` stays. All rise linearly first.
    """
    if schedule.shape == "cosine":
        return warmup_cosine(step, steps, schedule.warmup)
    rise = max(1, round(steps * schedule.warmup)) if schedule.warmup else 0
    if step < rise:
        return (step + 1) / rise
    if schedule.shape == "one_cycle":
        return 1 - (step - rise) / max(1, steps - rise)
    if schedule.shape == "piecewise":
        return schedule.drop_factor ** sum(step >= round(share * steps) for share in schedule.drops)
    return 1.0
