"""Shares of single outcomes by group, for which no probabilities are needed: accuracy, and robust accuracy where attacked."""

import numpy as np

from ops.evaluate.fairness.groups import UNLABELLED, Axis, Part
from ops.evaluate.fairness.measured import Measured
from ops.evaluate.fairness.names import EVERYONE, group_name
from ops.evaluate.fairness.resampling import resampled_shares


def share_by_group(
    metric: str, outcomes: np.ndarray, axis: Axis, part: Part, least: int, replicates: int, seed: int
) -> tuple[Measured | None, dict[str, int]]:
    """Return the share of outcomes that are 1, by group of a part, and the groups that have fewer than `least` of them.

    `outcomes` (N,) are of all evaluated images: 0, 1, or nan for those that do not count. None where all groups are too
    small.
    """
    mine, places = outcomes[part.places], axis.places[part.places]
    known = ~np.isnan(mine) & (places != UNLABELLED)
    sizes = np.bincount(places[known], minlength=len(axis.values))
    successes = np.bincount(places[known], mine[known], len(axis.values))
    names = np.array([v if axis.name == EVERYONE else group_name(axis.name, v) for v in axis.values], object)
    some, enough = sizes > 0, sizes >= least
    small = dict(zip(names[some & ~enough].tolist(), sizes[some & ~enough].tolist(), strict=True))
    if not enough.any():
        return None, small
    values = resampled_shares(successes[enough], sizes[enough], replicates, seed)
    return Measured(metric, names[enough].tolist(), values, sizes[enough], share=True), small
