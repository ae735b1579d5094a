"""Groups of training images: those that agree in label, domain or attributes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ops.errors import AmalgamError


@dataclass(frozen=True)
class Groups:
    """The groups that occur among real and synthetic images, in sorted order."""

    names: tuple[str, ...]
    """Such as `label=disc, attribute:tone=1`."""
    real: np.ndarray
    """(N,) int64, the group of each real image."""
    synthetic: np.ndarray
    """(M,) int64, the group of each synthetic image: what the generator was asked for."""

    @property
    def counts(self) -> np.ndarray:
        """The images (G,) int64 of each group, real and synthetic."""
        return np.bincount(np.concatenate([self.real, self.synthetic]), minlength=len(self.names))


def group_images(by: Sequence[str], real: pd.DataFrame, synthetic: pd.DataFrame | None, setting: str) -> Groups:
    """Return the groups of images by the columns `by` of their manifests; `setting` is the key that errors name.

    Raises AmalgamError if a column is missing, if an image has no value (a value of its own, such as `unknown`, makes a
    group; a missing one does not say which), or if a column looks like free text: fewer than two images to a value.
    """
    tables = {"real": real} | ({"synthetic": synthetic} if synthetic is not None else {})
    for kind, table in tables.items():
        for key in by:
            _check(key, kind, table, setting)
    frame = pd.concat([table[list(by)] for table in tables.values()], ignore_index=True).astype(str)
    numbers, values = pd.MultiIndex.from_frame(frame).factorize(sort=True)
    names = tuple(", ".join(f"{key}={v}" for key, v in zip(by, value, strict=True)) for value in values)
    return Groups(names, numbers[: len(real)].astype(np.int64), numbers[len(real) :].astype(np.int64))


def _check(key: str, kind: str, table: pd.DataFrame, setting: str) -> None:
    if key not in table:
        known = [name for name in table if name in ("label", "domain") or str(name).startswith("attribute:")]
        raise AmalgamError(f"{setting} names {key}, which the {kind} images do not have", f"use {', '.join(known)}")
    missing = int((table[key].isna() | (table[key] == "")).sum())
    if missing:
        raise AmalgamError(
            f"{setting} names {key}, which {missing} of {len(table)} {kind} images lack",
            f"give them a value in the dataset's table, such as unknown, or take {key} out of {setting}",
        )
    values = table[key].nunique()
    if values > 1 and 2 * values > len(table):
        raise AmalgamError(
            f"{setting} names {key}, which has {values} values in {len(table)} {kind} images: free text makes no groups",
            f"take {key} out of {setting}, or sort its values into a few",
        )
