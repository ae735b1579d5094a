"""Held-out likelihood against scikit-learn, moments of draws against the closed form."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from ops.errors import AmalgamError
from ops.generate.baselines import mixture
from ops.generate.baselines.config import BaselinesConfig, MixtureConfig
from ops.generate.baselines.mixture import held_out_likelihood
from ops.generate.baselines.writing import fit_baseline
from ops.progress import Silent


@pytest.mark.parametrize("rows", [7, 512])
def test_held_out_likelihood_is_that_of_scikit_learn(rows, monkeypatch):
    """One density for each group that is left out, with the weights of the others."""
    monkeypatch.setattr(mixture, "ROWS", rows)
    rng = np.random.default_rng(0)
    codes, groups = rng.normal(size=(40, 5)), rng.integers(0, 6, 40)
    share = rng.uniform(0.2, 1, 40)
    share /= share.sum()
    expected = []
    for h in (0.3, 0.9):
        total = 0.0
        for g in range(6):
            inside = groups == g
            density = KernelDensity(bandwidth=h, rtol=0, atol=0).fit(codes[~inside], sample_weight=share[~inside])
            total += share[inside] @ density.score_samples(codes[inside])
        expected.append(total)
    np.testing.assert_allclose(held_out_likelihood(codes, share, groups, [0.3, 0.9]), expected, rtol=1e-9)


def test_draws_have_the_moments_of_the_density(images_of, mid_grey, dataset, plan_rows):
    """Mean sum_i w_i u_i; covariance that of the centres plus h^2 I, in whitened components: closed form of a mixture."""
    pixels = mid_grey(60)
    weights = np.where(np.arange(60) < 20, 3.0, 1.0)
    config = BaselinesConfig(attribute="", mixture=MixtureConfig(components=8, bandwidths=[0.7]))
    source = fit_baseline("mixture", config, images_of(pixels, weights=weights), dataset)
    x = source.draw(plan_rows(range(12_000)), Silent()).reshape(12_000, -1).astype(float)
    flat = pixels.reshape(60, -1).astype(float)
    pca = PCA(8, svd_solver="full").fit(flat)
    factor = pca.components_ * np.sqrt(pca.explained_variance_)[:, None]
    codes = pca.transform(flat) / np.sqrt(pca.explained_variance_)
    share = weights / weights.sum()
    centre = share @ codes
    spread = (codes - centre).T @ ((codes - centre) * share[:, None]) + 0.7**2 * np.eye(8)
    mean, covariance = pca.mean_ + centre @ factor, factor.T @ spread @ factor + np.eye(48) / 12
    assert (np.abs(x.mean(0) - mean) < 5.5 * np.sqrt(np.diag(covariance) / len(x))).all()
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert (np.abs(np.cov(x.T, bias=True) - covariance) < 0.08 * scale).all()


def test_leaving_whole_concepts_out_asks_for_more_noise_than_leaving_images_out(images_of, mid_grey, dataset):
    """Ten concepts of six near-duplicates each: a neighbour on the other side would ask for hardly any noise."""
    rng = np.random.default_rng(0)
    pixels = np.repeat(mid_grey(10, spread=20), 6, axis=0).astype(int) + rng.integers(-1, 2, (60, 4, 4, 3))
    concepts = [f"concept-{i // 6}" for i in range(60)]
    config = BaselinesConfig(attribute="", mixture=MixtureConfig(components=6))
    by_concept = fit_baseline("mixture", config, images_of(pixels, concepts=concepts), dataset)
    by_image = fit_baseline("mixture", config, images_of(pixels), dataset)
    assert by_concept.fits[0]["concepts"] == 10
    assert by_concept.fits[0]["bandwidth"] >= 3 * by_image.fits[0]["bandwidth"]


def test_a_single_concept_leaves_images_out_instead(images_of, mid_grey, dataset):
    config = BaselinesConfig(attribute="")
    one = fit_baseline("mixture", config, images_of(mid_grey(20), concepts=["same"] * 20), dataset)
    many = fit_baseline("mixture", config, images_of(mid_grey(20)), dataset)
    assert one.fits[0]["concepts"] == 1
    assert one.fits[0]["bandwidth"] == many.fits[0]["bandwidth"]


def test_there_are_no_more_components_than_the_images_span(images_of, mid_grey, dataset):
    source = fit_baseline("mixture", BaselinesConfig(attribute=""), images_of(mid_grey(5)), dataset)
    assert source.sampler["components"] == 4


def test_equal_images_are_refused(images_of, dataset):
    with pytest.raises(AmalgamError, match="all training images are equal"):
        fit_baseline("mixture", BaselinesConfig(attribute=""), images_of(np.full((9, 4, 4, 3), 7)), dataset)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bandwidth_is_a_positive_number(bad):
    with pytest.raises(ValidationError, match="positive"):
        MixtureConfig(bandwidths=[0.5, bad])
