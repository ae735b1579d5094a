"""What a model says of the images of a part, as the measures need it: positives, what was found, and scores."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from ops.errors import AmalgamError
from ops.evaluate.fairness.answers import Answers, said_of
from ops.evaluate.fairness.config import OperatingPoint
from ops.evaluate.fairness.counting import Targets
from ops.evaluate.fairness.groups import Part
from ops.evaluate.probabilities import read_probabilities


@dataclass(frozen=True)
class Evidence:
    """One model on n images, with T targets (classes, or the positive ones together)."""

    right: np.ndarray
    """(n,) bool."""
    confidence: np.ndarray
    """(n,) float64."""
    scaled_confidence: np.ndarray
    """(n,) float64."""
    positive: np.ndarray
    """(n, T) bool: the image is of the target."""
    chosen: np.ndarray
    """(n, T) bool: the model says so, at its operating point."""
    scores: np.ndarray
    """(n, T): log-probability of the target."""
    risky: np.ndarray
    """(n,) bool: the image is of a high-risk class."""
    alarmed: np.ndarray
    """(n,) bool: the model says that it is of some high-risk class."""

    def among(self, places: np.ndarray) -> "Evidence":
        """Return the evidence on some images."""
        return Evidence(**{name: value[places] for name, value in vars(self).items()})

    def about(self, targets: slice) -> "Evidence":
        """Return the evidence on some targets."""
        names = ("positive", "chosen", "scores")
        return replace(self, **{name: getattr(self, name)[:, targets] for name in names})


@dataclass(frozen=True)
class Thresholds:
    """Log-probabilities above which a model calls an image positive."""

    targets: np.ndarray
    """(T,)."""
    risky: float
    """Of the high-risk classes together."""


def target_scores(log_probabilities: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the log-probability (n, T) of targets, given that of classes (n, K) and the classes of targets (T, K) bool."""
    if (members.sum(axis=1) == 1).all():
        return log_probabilities[:, members.argmax(axis=1)]
    return np.stack([logsumexp(log_probabilities[:, mine], axis=1) for mine in members], axis=1)


def threshold(scores: np.ndarray, specificity: float) -> float:
    """Return the lowest threshold that at least a share `specificity` of these scores (n,) of negatives does not exceed."""
    needed = int(np.ceil(specificity * len(scores) - 1e-9))
    return float(np.partition(scores, needed - 1)[needed - 1])


def fit_thresholds(
    point: OperatingPoint, robustness: Path, answers: Answers, classes: list[str], targets: Targets, least: int
) -> Thresholds:
    """Return the thresholds of a model, one for each target; raises AmalgamError for too few negatives."""
    _, labels, said = read_probabilities(robustness, answers.model, answers.seed, point.split)
    known = pd.Categorical(labels, classes).codes
    members = np.concatenate([targets.members, targets.risky[None]]) if targets.risky.any() else targets.members
    positive, scores = members.T[known], target_scores(said, members)
    fewest = int((~positive).sum(axis=0).min())
    if fewest < least:
        raise AmalgamError(
            f"{point.split} has {fewest} negatives of some class, too few to set a threshold",
            "set it on another split (fairness.operating_point.split), or lower fairness.min_count",
        )
    found = np.array([threshold(scores[~positive[:, t], t], point.specificity) for t in range(len(members))])
    return Thresholds(found[: len(targets.names)], float(found[-1]))


def gather(
    robustness: Path,
    answers: Answers,
    images: pd.DataFrame,
    part: Part,
    labels: np.ndarray,
    targets: Targets,
    thresholds: Thresholds | None,
) -> Evidence:
    """Return the evidence of a model on the images of a part; `images` and `labels` (N,) are of all evaluated images.

    Without thresholds a target is chosen where the prediction is one of its classes.
    """
    places = part.places
    said = said_of(robustness, answers, images.iloc[places])
    scores, predicted = target_scores(said, targets.members), answers.predicted[places]
    if thresholds is None:
        chosen, alarmed = targets.members.T[predicted], targets.risky[predicted]
    else:
        chosen = scores > thresholds.targets
        alarmed = np.zeros(len(places), bool)
        if targets.risky.any():
            alarmed = target_scores(said, targets.risky[None])[:, 0] > thresholds.risky
    return Evidence(
        right=answers.right[places],
        confidence=answers.confidence[places],
        scaled_confidence=answers.scaled_confidence[places],
        positive=targets.members.T[labels[places]],
        chosen=chosen,
        scores=scores,
        risky=targets.risky[labels[places]],
        alarmed=alarmed,
    )
