"""The order in which images are drawn: endless sequences of which any part follows from the seed, without a state."""

from collections.abc import Callable

import numpy as np

from ops.runtime import derive_seed

Draws = Callable[[int, int], np.ndarray]
"""From `start` and `count` to the images (count,) int64 at places start ... start + count of an endless sequence."""


def shuffled(start: int, count: int, size: int, *seed: int | str) -> np.ndarray:
    """Return entries start ... start + count of an endless sequence of shuffled epochs of 0 ... size - 1."""
    first, last = start // size, (start + count - 1) // size
    epochs = [np.random.default_rng(derive_seed(*seed, e)).permutation(size) for e in range(first, last + 1)]
    return np.concatenate(epochs)[start - first * size :][:count]


def uniform(size: int, *seed: int | str) -> Draws:
    """Return the sequence of shuffled epochs of 0 ... size - 1."""
    return lambda start, count: shuffled(start, count, size, *seed)


def balanced(groups: np.ndarray, *seed: int | str) -> Draws:
    """Return a sequence in which all groups are equally frequent and each goes through its images in shuffled epochs.

    `groups` (N,) int64 are numbers 0 ... G - 1, none of them empty. Groups take turns in an order that is drawn once: any
    part of the sequence has them equally often within one, and so do the parts of a batch. (Drawing a group for each row,
    as is usual, is balanced on average only.)
    """
    sizes = np.bincount(groups)
    members, ends = np.argsort(groups, kind="stable"), np.cumsum(sizes)
    turns = np.random.default_rng(derive_seed(*seed, "turns")).permutation(len(sizes))

    def draw(start: int, count: int) -> np.ndarray:
        chosen = np.empty(count, np.int64)
        for offset in range(min(len(turns), count)):
            taken, turn = divmod(start + offset, len(turns))
            group, places = int(turns[turn]), chosen[offset :: len(turns)]
            own = shuffled(taken, len(places), int(sizes[group]), *seed, group)
            places[:] = members[ends[group] - sizes[group] + own]
        return chosen

    return draw


def repeated(size: int, errors: np.ndarray, times: int, *seed: int | str) -> Draws:
    """Return shuffled epochs in which the images `errors` (E,) int64 are `times` times and all others once.

    The upsampled dataset of JTT (Liu et al. 2021), which is not written out: entries from `size` on stand for the
    extra copies. Without errors, or for `times` 1, it is `uniform`.
    """
    total = size + (times - 1) * len(errors)

    def draw(start: int, count: int) -> np.ndarray:
        entries = shuffled(start, count, total, *seed)
        extra = entries >= size
        entries[extra] = errors[(entries[extra] - size) % max(1, len(errors))]
        return entries

    return draw
