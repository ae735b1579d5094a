"""The average of a training run: exponential (EMA), stochastic (SWA), or none."""

from torch import nn

from ops.train.averaging import move_average, update_average
from ops.train.recipe import Averaging


class Averager:
    """The average of a run, a function of (recipe, step): there is no state but the averaged weights themselves."""

    def __init__(self, config: Averaging, steps: int, steps_per_epoch: float) -> None:
        self.config = config
        self.begin = round(config.start * steps)
        self.period = max(1, round(config.every * steps_per_epoch))

    def update(self, average: nn.Module, model: nn.Module, step: int) -> None:
        """Take the weights after optimizer step `step` (from 0) into account.

        EMA: the ramp counts from the first averaged step. SWA: (n theta' + theta) / (n + 1) for the n-th snapshot; until
        the first one the average follows the live model.
        """
        config, since = self.config, step - self.begin
        if config.method == "none" or since < 0:
            move_average(average, model, 1.0, "live")
        elif config.method == "ema":
            update_average(average, model, config.decay, since, config.statistics)
        elif since < self.period - 1:
            move_average(average, model, 1.0, "live")
        elif (since + 1) % self.period == 0:
            taken = (since + 1) // self.period - 1
            move_average(average, model, 1 / (taken + 1), config.statistics)
