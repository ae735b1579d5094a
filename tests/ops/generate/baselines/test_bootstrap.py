"""Only training images of the asked condition are drawn, as often as their weights say."""

import numpy as np
import pytest
from scipy.stats import chisquare

from ops.errors import AmalgamError
from ops.generate.baselines.config import BaselinesConfig, BootstrapConfig
from ops.generate.baselines.writing import fit_baseline
from ops.progress import Silent


@pytest.fixture
def numbered(images_of):
    """Return a function that makes images whose first pixel is their number, so that draws can be told apart."""

    def make(count, **known):
        pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
        pixels[:, 0, 0, 0] = np.arange(count)
        return images_of(pixels, **known)

    return make


def test_draws_are_training_images_of_the_cell(numbered, dataset, plan_rows):
    labels, tones = np.repeat([0, 1], 20), np.tile(["0", "0", "0", "1"], 10)
    images = numbered(40, labels=labels, tones=tones)
    source = fit_baseline("bootstrap", BaselinesConfig(), images, dataset)
    drawn = source.draw(plan_rows(range(300), "disc", "1"), Silent())
    numbers = drawn[:, 0, 0, 0]
    assert np.array_equal(drawn, images.images[numbers])
    assert set(numbers.tolist()) == set(np.flatnonzero((labels == 1) & (tones == "1")).tolist())


def test_one_image_is_enough_for_a_condition(numbered, dataset, plan_rows):
    images = numbered(30, tones=["1"] + ["0"] * 29)
    source = fit_baseline("bootstrap", BaselinesConfig(min_images=10), images, dataset)
    assert set(source.draw(plan_rows(range(20), "bar", "1"), Silent())[:, 0, 0, 0].tolist()) == {0}


def test_draws_follow_the_weights_of_the_manifest(numbered, dataset, plan_rows):
    weights = np.array([1.0, 0.25, 0.0, 0.5, 3.0])
    source = fit_baseline("bootstrap", BaselinesConfig(attribute=""), numbered(5, weights=weights), dataset)
    counts = np.bincount(source.draw(plan_rows(range(8000)), Silent())[:, 0, 0, 0], minlength=5)
    assert counts[2] == 0
    kept = weights > 0
    assert chisquare(counts[kept], 8000 * weights[kept] / weights.sum()).pvalue > 1e-3


def test_a_mirrored_image_is_a_mirrored_training_image(numbered, dataset, plan_rows):
    images = numbered(8)
    config = BaselinesConfig(attribute="", bootstrap=BootstrapConfig(flip=True))
    drawn = fit_baseline("bootstrap", config, images, dataset).draw(plan_rows(range(400)), Silent())
    plain = (drawn[:, None] == images.images[None]).all((2, 3, 4)).any(1)
    mirrored = (drawn[:, None] == images.images[None, :, :, ::-1]).all((2, 3, 4)).any(1)
    assert (plain ^ mirrored).all()
    assert 0.4 < plain.mean() < 0.6


def test_a_shifted_image_is_a_crop_of_the_image_padded_with_its_edge(numbered, dataset, plan_rows):
    images = numbered(3)
    config = BaselinesConfig(attribute="", bootstrap=BootstrapConfig(crop=2))
    drawn = fit_baseline("bootstrap", config, images, dataset).draw(plan_rows(range(600)), Silent())
    padded = np.pad(images.images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    windows = {padded[i, y : y + 6, x : x + 6].tobytes() for i in range(3) for y in range(5) for x in range(5)}
    assert {image.tobytes() for image in drawn} == windows


def test_a_shift_beyond_the_image_is_refused(numbered, dataset):
    config = BaselinesConfig(attribute="", bootstrap=BootstrapConfig(crop=7))
    with pytest.raises(AmalgamError, match="7 pixels, but the images have 6"):
        fit_baseline("bootstrap", config, numbered(3), dataset)
