"""Accuracy by domain, the worst domain, and what is lost against images in distribution."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.evaluate.intervals import Interval, wilson
from ops.evaluate.measurements import row
from ops.evaluate.shift.names import ACCURACY, SAME_MIX, WORST_CLASS, WORST_DOMAIN, drop_metric
from ops.evaluate.shift.shown import Shown, among
from ops.runtime import derive_seed


@dataclass(frozen=True)
class Answers:
    """Whether a model was right on the images of a split."""

    labels: np.ndarray
    """(N,) int64."""
    right: np.ndarray
    """(N,) bool."""

    def of(self, chosen: np.ndarray) -> "Answers":
        """Return those of the `chosen` images (N,) bool."""
        return Answers(self.labels[chosen], self.right[chosen])

    def by_class(self, classes: int) -> np.ndarray:
        """Return images and right answers (2, K) of each class."""
        return np.stack([np.bincount(self.labels, w, classes) for w in (None, self.right)])

    def share(self) -> Interval:
        """Return the accuracy with its Wilson interval."""
        return wilson(int(self.right.sum()), len(self.right))


def answers(given: np.ndarray, part: Shown, candidates: np.ndarray) -> Answers:
    """Return what a model that gives the probabilities `given` (N, K) says, if it may say `candidates` only."""
    return Answers(part.labels, among(given, candidates).argmax(axis=1) == part.labels)


def accuracy_rows(model: str, found: Answers, part: Shown, dataset: str) -> Iterator[dict[str, Any]]:
    """Yield accuracy (Wilson) of all images and of every domain and class, and the worst domain and class."""
    yield row(model, dataset, part.name, "all", ACCURACY, found.share(), len(found.right))
    names = np.array(part.images.classes)[part.labels]
    for kind, values, worst in (("domain", part.domains, WORST_DOMAIN), ("label", names, WORST_CLASS)):
        rows = []
        for value in np.unique(values):
            mine = found.of(values == value)
            rows.append(row(model, dataset, part.name, f"{kind}={value}", ACCURACY, mine.share(), len(mine.right)))
        yield from rows
        yield {**min(rows, key=lambda r: r["value"]), "metric": worst}


def drop_rows(
    model: str,
    found: Answers,
    part: Shown,
    reference: Answers,
    against: str,
    dataset: str,
    replicates: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield the loss of accuracy against `reference`, the images in distribution of the classes that `part` has.

    Once as it is, and once for the same class mix: each class counts as often as in the reference, so that only what the
    images look like differs. Nothing where no class is in both.

    Args:
        model: its name with the seed.
        found: what it says of `part`.
        part: the images from elsewhere.
        reference: what it says in distribution.
        against: the split of the reference.
        dataset: its name.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    classes = len(part.images.classes)
    base = reference.of(np.isin(reference.labels, part.labels)).by_class(classes)
    if not base[0].any():
        return
    groups = [("all", np.ones(len(part.labels), bool))]
    groups += [(f"domain={domain}", part.domains == domain) for domain in np.unique(part.domains)]
    for group, chosen in groups:
        mine = found.of(chosen).by_class(classes)
        salt = derive_seed(seed, "drop", part.name, group)
        whole = share_difference(base.sum(axis=1), mine.sum(axis=1), np.ones(1), replicates, salt)
        metric = drop_metric(against)
        yield row(model, dataset, part.name, group, metric, whole, int(mine[0].sum()))
        both = (base[0] > 0) & (mine[0] > 0)
        if both.any():
            mix = base[0, both] / base[0, both].sum()
            alike = share_difference(base[:, both], mine[:, both], mix, replicates, salt)
            count = int(mine[0, both].sum())
            yield row(model, dataset, part.name, group, f"{metric} ({SAME_MIX})", alike, count)


def share_difference(
    first: np.ndarray, second: np.ndarray, weights: np.ndarray, replicates: int, seed: int
) -> Interval:
    """Return sum_k weights_k (first share_k - second share_k) with its percentile bootstrap interval.

    Images are drawn with replacement within each part k of both; that makes the number of right answers among n binomial,
    and it is drawn as such.

    Args:
        first: images and right answers, (2, K) or (2,); images above 0.
        second: the same of the other images.
        weights: (K,).
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    value, drawn = 0.0, np.zeros(replicates)
    for sign, (count, right) in ((1, first.reshape(2, -1)), (-1, second.reshape(2, -1))):
        share = right / count
        value += sign * float(share @ weights)
        drawn += sign * (rng.binomial(count.astype(np.int64), share, (replicates, len(count))) / count @ weights)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value, min(float(low), value), max(float(high), value)
