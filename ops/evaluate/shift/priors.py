"""Other class priors: those of a user's tables, and the families of Lipton et al. (2018)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ops.errors import AmalgamError
from ops.evaluate.shift.config import BALANCED, UNSHIFTED, LabelShiftConfig
from ops.runtime import derive_seed


@dataclass(frozen=True)
class Prior:
    """A distribution of classes."""

    name: str
    """Such as `tweak-one 0.7 of hand`."""
    family: str
    """Such as `tweak-one 0.7`; priors of one family are also averaged."""
    share: np.ndarray
    """(K,) float64 that sums to 1."""


def target_priors(config: LabelShiftConfig, classes: Sequence[str], present: np.ndarray, seed: int) -> list[Prior]:
    """Return the priors to try: that of the split, balanced, the tables, tweak-one and Dirichlet.

    Tweak-one gives one class the probability rho and each other (1 - rho) / (K - 1); Dirichlet priors are drawn with all
    concentrations equal to alpha (Lipton, Wang and Smola 2018, Detecting and correcting for label shift with black box
    predictors, section 6). Only classes that the split has can be weighted, so that K counts these.

    Args:
        config: tables and families.
        classes: of the dataset.
        present: images (K,) of each class in the split.
        seed: of the drawn priors.

    Raises:
        AmalgamError: a class is unknown, or the split has no image of it, or fewer than two classes.
    """
    places = np.flatnonzero(present)
    if len(places) < 2:
        raise AmalgamError("label shift needs images of two classes at least", "show more images: raise shift.images")
    spread = _spread(len(classes), places, np.ones(len(places)))
    found = [Prior(UNSHIFTED, UNSHIFTED, present / present.sum()), Prior(BALANCED, BALANCED, spread)]
    for name, table in config.tables.items():
        wanted = [_place(key, classes, present, f"tables.{name}") for key, value in table.items() if value > 0]
        found.append(Prior(name, name, _spread(len(classes), wanted, [v for v in table.values() if v > 0])))
    if config.tweak_one is not None:
        names = config.tweak_one.classes
        chosen = [_place(c, classes, present, "tweak_one.classes") for c in names] if names else places.tolist()
        for rho in config.tweak_one.probabilities:
            family = f"tweak-one {rho:g}"
            for place in chosen:
                share = _spread(len(classes), places, np.where(places == place, rho, (1 - rho) / (len(places) - 1)))
                found.append(Prior(f"{family} of {classes[place]}", family, share))
    if config.dirichlet is not None:
        for alpha in config.dirichlet.alphas:
            family = f"dirichlet {alpha:g}"
            for number in range(1, config.dirichlet.draws + 1):
                rng = np.random.default_rng(derive_seed(seed, family, number))
                share = _spread(len(classes), places, rng.dirichlet(np.full(len(places), alpha)))
                found.append(Prior(f"{family} no. {number}", family, share))
    return found


def image_weights(labels: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Return weights (N,) that sum to 1 under which images with `labels` (N,) have the class prior (K,).

    target(y) / source(y), over N, where source is the share of y among the labels: a mean with these weights estimates
    the mean under the target if only the class prior differs. Raises ValueError if a class of the prior has no image.
    """
    counts = np.bincount(labels, minlength=len(prior))
    if (prior[counts == 0] > 0).any():
        raise ValueError("the prior has classes that no image has")
    return np.asarray(prior[labels] / counts[labels])


def _spread(count: int, places: Sequence[int] | np.ndarray, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return (count,) with `values` at `places`, and 0 elsewhere, scaled to sum to 1."""
    share = np.zeros(count)
    share[np.asarray(places)] = values
    return share / share.sum()


def _place(name: str, classes: Sequence[str], present: np.ndarray, key: str) -> int:
    where = f"shift.label_shift.{key} names {name!r}"
    known = ", ".join(c for c, n in zip(classes, present, strict=True) if n)
    if name not in classes:
        raise AmalgamError(f"{where}, which is no class of the dataset", f"use some of: {known}")
    place = list(classes).index(name)
    if not present[place]:
        raise AmalgamError(f"{where}, of which the split has no image", f"use some of: {known}, or raise shift.images")
    return place
