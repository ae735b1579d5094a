"""Is a difference real? Tests and intervals for paired outcomes, with seeds as a random effect.

Two questions are kept apart. *These weights* on new images: McNemar's test, and the bootstrap over images. *This method*,
trained again with another seed, on new images: then seeds are a sample too, as readers are in studies of diagnostic
imaging, and what they add to the error counts (Obuchowski and Rockette 1995; Hillis 2007).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom, t

from ops.evaluate.intervals import Interval, bootstrap

Counted = Literal["images and seeds", "images only"]


@dataclass(frozen=True)
class Effect:
    """A difference with its 95 % t interval and two-sided p-value."""

    effect: float
    low: float
    high: float
    p: float
    df: float
    """Satterthwaite's degrees of freedom; infinite where nothing varies."""
    counted: Counted
    """What varies in the interval. With one seed nothing is known of other seeds, and only images can be counted."""


@dataclass(frozen=True)
class MeanSquares:
    """Of a two-way table (images, seeds) without replication."""

    images: float
    seeds: float
    """0 for a single seed."""
    both: float
    """Of the interaction, which holds the residual too; 0 for a single seed."""


def mcnemar(gained: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Return exact two-sided p-values of McNemar's test (1947) for counts (...) of discordant pairs.

    `gained` are images that only the first model has right, `lost` those that only the second has. Without a difference
    gained ~ Binomial(gained + lost, 1/2), which is symmetric: p = min(1, 2 P(X <= min(gained, lost))). 1 without any.
    """
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(gained, lost), np.add(gained, lost), 0.5))


def bootstrap_mean(differences: np.ndarray, replicates: int, seed: int) -> Interval:
    """Return the mean of differences (images, seeds) with its paired bootstrap interval over images only."""
    by_image = differences.mean(axis=1)  # of the seeds at hand: a resampled image brings all of them
    effect, low, high = bootstrap(lambda v: v.mean(axis=1), by_image, np.zeros(len(by_image)), replicates, seed)
    return effect, min(low, effect), max(high, effect)


def mean_squares(differences: np.ndarray) -> MeanSquares:
    """Return the mean squares of d (N images, S seeds): MS_I = S sum_i (d_i. - d)^2 / (N - 1), and so on.

    Raises ValueError for fewer than two images.
    """
    n, s = differences.shape
    if n < 2:
        raise ValueError("one image says nothing of how images vary; two are the least")
    mean = differences.mean()
    image, seed = differences.mean(axis=1), differences.mean(axis=0)
    images = s * ((image - mean) ** 2).sum() / (n - 1)
    if s == 1:
        return MeanSquares(float(images), 0.0, 0.0)
    residual = differences - image[:, None] - seed + mean
    return MeanSquares(
        images=float(images),
        seeds=float(n * ((seed - mean) ** 2).sum() / (s - 1)),
        both=float((residual**2).sum() / ((n - 1) * (s - 1))),
    )


def mean_effect(differences: np.ndarray) -> Effect:
    """Return the mean of paired differences d (N images, S seeds), images and seeds both random.

    d_is = mu + I_i + S_s + (IS)_is, the two-way crossed random-effects model, in which

        Var(mean) = (E MS_I + E MS_S - E MS_IS) / (N S),

    with (sum of MS)^2 / (MS_I^2 / (N - 1) + MS_S^2 / (S - 1) + MS_IS^2 / ((N - 1)(S - 1))) degrees of freedom
    (Satterthwaite 1946), at least S - 1. The sum is at least max(MS_I, MS_S): a component of variance is not negative, so
    that the interval is never that of fewer sources. Where nothing varies it is a point, and p is 1 for no effect, 0 for
    any.

    Few seeds tell their variance badly: with two or three, intervals hold the truth less often than they should where seeds
    matter most, and those over images only far less (`benchmarks.coverage` measures both). With one seed the interval is
    over images only, and `counted` says so.

    Raises ValueError for fewer than two images.
    """
    n, s = differences.shape
    square = mean_squares(differences)
    total = square.images + square.seeds - min(square.both, square.images, square.seeds)
    spread = square.images**2 / (n - 1)
    if s > 1:
        spread += square.seeds**2 / (s - 1) + square.both**2 / ((n - 1) * (s - 1))
    df = max(_ratio(total**2, spread), s - 1.0)  # the subtracted term could bring it below that of the seeds
    return _t_interval(float(differences.mean()), total / (n * s), df, s)


def statistic_effect(effect: float, by_seed: np.ndarray, replicates: np.ndarray, images: int) -> Effect:
    """Return a statistic that is no mean over images (a difference of gaps), images and seeds both random.

    Var = variance of the bootstrap over images + sample variance of the seeds' effects / S. Both hold what an image does
    under one seed only, which therefore counts twice: the interval is conservative. Degrees of freedom by Satterthwaite
    (1946), as in `mean_effect`; with one seed over images only.

    Args:
        effect: the mean over seeds.
        by_seed: the statistic of each seed (S,).
        replicates: bootstrap replicates (R,) of the mean over seeds, images resampled with all seeds.
        images: how many there are; at least two.
    """
    if images < 2:
        raise ValueError("one image says nothing of how images vary; two are the least")
    s = len(by_seed)
    of_images = float(np.var(replicates, ddof=1))
    of_seeds = float(np.var(by_seed, ddof=1)) / s if s > 1 else 0.0
    spread = of_images**2 / (images - 1) + (of_seeds**2 / (s - 1) if s > 1 else 0.0)
    variance = of_images + of_seeds
    return _t_interval(effect, variance, _ratio(variance**2, spread), s)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values (m,) adjusted for m comparisons by Holm's step-down procedure (1979).

    The k-th smallest becomes the largest (m - j + 1) p_(j) of j <= k, at most 1. To call those at most 5 % significant is
    wrong anywhere in the family in at most 5 % of cases, however the comparisons depend on each other.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("inf")


def _t_interval(effect: float, variance: float, df: float, seeds: int) -> Effect:
    """Return effect -+ t_{0.975, df} sqrt(variance), and P(|T| > |effect| / sqrt(variance))."""
    counted: Counted = "images and seeds" if seeds > 1 else "images only"
    if variance <= 0:
        return Effect(effect, effect, effect, 0.0 if effect else 1.0, df, counted)
    half = float(t.ppf(0.975, df)) * variance**0.5
    p = 2 * float(t.sf(abs(effect) / variance**0.5, df))
    return Effect(effect, effect - half, effect + half, p, df, counted)
