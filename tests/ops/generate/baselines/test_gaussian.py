"""Draws have the moments of the fit, which are those of scikit-learn's estimator."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf, empirical_covariance

from ops.errors import AmalgamError
from ops.generate.baselines.config import BaselinesConfig, GaussianConfig
from ops.generate.baselines.writing import fit_baseline
from ops.progress import Silent

ROUNDING = 1 / 12
"""The variance that rounding to whole grey levels adds (Sheppard 1898)."""
PLAIN = BaselinesConfig(attribute="", gaussian=GaussianConfig(shrinkage="none"))


def draw(config, images, dataset, rows):
    return fit_baseline("gaussian", config, images, dataset).draw(rows, Silent()).reshape(len(rows), -1).astype(float)


def assert_moments(x, mean, covariance):
    """Each mean and covariance is within 5.5 of its standard errors: for a Gaussian, var(S_ij) = (S_ii S_jj + S_ij^2) / n."""
    n, variance = len(x), np.diag(covariance)
    assert (np.abs(x.mean(0) - mean) < 5.5 * np.sqrt(variance / n)).all()
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    assert (np.abs(np.cov(x.T, bias=True) - covariance) < 5.5 * error).all()


def test_draws_have_the_moments_of_ledoit_and_wolf(images_of, mid_grey, dataset, plan_rows):
    """30 images of 48 numbers: the empirical covariance is singular, the shrunk one is not."""
    pixels = mid_grey(30)
    flat = pixels.reshape(30, -1).astype(float)
    reference = LedoitWolf().fit(flat)
    assert 0.01 < reference.shrinkage_ < 0.99
    config = BaselinesConfig(attribute="")
    source = fit_baseline("gaussian", config, images_of(pixels), dataset)
    assert source.fits[0]["shrinkage"] == pytest.approx(reference.shrinkage_, abs=1e-4)
    x = draw(config, images_of(pixels), dataset, plan_rows(range(12_000)))
    assert_moments(x, flat.mean(0), reference.covariance_ + ROUNDING * np.eye(48))


def test_without_shrinkage_draws_have_the_empirical_moments(images_of, mid_grey, dataset, plan_rows):
    pixels = mid_grey(200)
    flat = pixels.reshape(200, -1).astype(float)
    x = draw(PLAIN, images_of(pixels), dataset, plan_rows(range(12_000)))
    assert_moments(x, flat.mean(0), empirical_covariance(flat) + ROUNDING * np.eye(48))


def test_a_weight_of_two_is_an_image_twice(images_of, mid_grey, dataset, plan_rows):
    pixels = mid_grey(20)
    weights = np.repeat([2.0, 1.0], 10)
    twice = np.concatenate([pixels, pixels[:10]]).reshape(30, -1).astype(float)
    x = draw(PLAIN, images_of(pixels, weights=weights), dataset, plan_rows(range(12_000)))
    assert_moments(x, twice.mean(0), empirical_covariance(twice) + ROUNDING * np.eye(48))


def test_shrinkage_keeps_the_total_variance_of_weighted_images(images_of, mid_grey, dataset, plan_rows):
    """tr((1 - d) S + d v I) = tr(S), whatever d is; here images of large weight differ less."""
    pixels = np.concatenate([mid_grey(10, spread=3), mid_grey(10, spread=20)])
    weights = np.repeat([9.0, 1.0], 10)
    flat, share = pixels.reshape(20, -1).astype(float), weights / weights.sum()
    total = share @ np.square(flat - share @ flat).sum(1)
    source = fit_baseline("gaussian", BaselinesConfig(attribute=""), images_of(pixels, weights=weights), dataset)
    assert source.fits[0]["shrinkage"] > 0.05
    x = source.draw(plan_rows(range(4000)), Silent()).reshape(4000, -1).astype(float)
    assert x.var(0).sum() == pytest.approx(total + 48 * ROUNDING, rel=0.05)


def test_without_shrinkage_draws_stay_in_the_span_of_the_images(images_of, mid_grey, dataset, plan_rows):
    """Three images span a plane; what is left of a draw outside of it is rounding."""
    pixels = mid_grey(3)
    flat = pixels.reshape(3, -1).astype(float)
    x = draw(PLAIN, images_of(pixels), dataset, plan_rows(range(50))) - flat.mean(0)
    plane = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2]
    outside = x - x @ plane.T @ plane
    assert np.abs(x).max() > 10
    assert np.square(outside).mean() == pytest.approx(ROUNDING * 46 / 48, rel=0.1)


def test_values_beyond_black_and_white_are_clipped(images_of, dataset, plan_rows):
    pixels = np.random.default_rng(0).choice([0, 255], (20, 4, 4, 3)).astype(np.uint8)
    x = draw(BaselinesConfig(attribute=""), images_of(pixels), dataset, plan_rows(range(200)))
    assert (x == 0).mean() > 0.1
    assert (x == 255).mean() > 0.1


def test_equal_images_are_drawn_as_they_are(images_of, dataset, plan_rows):
    pixels = np.full((5, 4, 4, 3), 90, np.uint8)
    assert (draw(BaselinesConfig(attribute=""), images_of(pixels), dataset, plan_rows(range(9))) == 90).all()


def test_a_fit_uses_no_more_images_than_it_may(images_of, mid_grey, dataset):
    config = BaselinesConfig(attribute="", fit_images=11)
    assert fit_baseline("gaussian", config, images_of(mid_grey(40)), dataset).fits[0]["images"] == 11


@pytest.mark.parametrize("kind", ["gaussian", "mixture"])
def test_a_class_with_a_single_image_is_refused(kind, images_of, mid_grey, dataset):
    images = images_of(mid_grey(4), labels=[0, 0, 0, 1])
    with pytest.raises(AmalgamError, match="'disc' has one training image"):
        fit_baseline(kind, BaselinesConfig(attribute=""), images, dataset)
