"""Other class priors: weights against drawing again, EM against known priors and the likelihood, adaptation against Bayes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.stats import norm

from ops.errors import AmalgamError
from ops.evaluate.shift.adaptation import adapt, estimate_priors
from ops.evaluate.shift.config import LabelShiftConfig
from ops.evaluate.shift.label_shift import label_shift_rows, source_prior
from ops.evaluate.shift.priors import Prior, image_weights, target_priors
from ops.evaluate.shift.simulate import bootstrap_sums, simulate

CLASSES = ("a", "b", "c")
SOURCE = np.array([0.6, 0.3, 0.1])
TARGET = np.array([0.1, 0.2, 0.7])
MEANS = np.array([-1.5, 0.0, 1.5])


def world(prior: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return exact posteriors under SOURCE, and labels, of images (here: numbers) that are normal in each class."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=prior)
    x = MEANS[labels] + rng.normal(size=count)
    joint = norm.pdf(x[:, None] - MEANS) * SOURCE
    return joint / joint.sum(axis=1, keepdims=True), labels


def test_adapted_posteriors_are_bayes_under_the_target():
    posteriors, _ = world(SOURCE, 50, 0)
    density = posteriors / SOURCE  # p(x | y) up to a factor of x
    joint = density * TARGET
    assert adapt(posteriors, SOURCE, TARGET) == pytest.approx(joint / joint.sum(axis=1, keepdims=True))
    assert adapt(posteriors, SOURCE, SOURCE) == pytest.approx(posteriors)


def test_em_finds_the_priors_of_unlabelled_images():
    posteriors, labels = world(TARGET, 40000, 1)
    found = estimate_priors(posteriors, SOURCE, np.ones((1, 40000)), 1e-7)
    assert found[0] == pytest.approx(TARGET, abs=0.02)
    assert np.abs(found[0] - np.bincount(labels) / 40000).max() < np.abs(SOURCE - TARGET).max() / 10


def test_em_stands_where_the_likelihood_is_highest():
    """Against a general optimiser on sum_n log sum_y t(y) p(y | x_n) / s(y), and the plain loop of the paper."""
    posteriors, _ = world(TARGET, 300, 2)
    counts = np.random.default_rng(0).multinomial(500, np.full(300, 1 / 300), 2)
    found = estimate_priors(posteriors, SOURCE, counts, 1e-9, 100_000)
    for mine, weights in zip(found, counts, strict=True):
        loss = lambda z, w=weights: -(w @ np.log((posteriors / SOURCE) @ (np.exp(z) / np.exp(z).sum()))) / 500  # noqa: E731
        best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
        assert mine == pytest.approx(np.exp(best) / np.exp(best).sum(), abs=1e-4)
        images = np.repeat(posteriors, weights, axis=0)
        prior = SOURCE
        for _ in range(2000):
            prior = adapt(images, SOURCE, prior).mean(axis=0)
        assert mine == pytest.approx(prior, abs=1e-6)


def test_em_stays_where_nothing_is_shifted_and_gives_no_class_what_it_has_not():
    posteriors, _ = world(SOURCE, 40000, 3)
    assert estimate_priors(posteriors, SOURCE, np.ones((1, 40000)))[0] == pytest.approx(SOURCE, abs=0.02)
    certain = np.eye(3)[[0, 0, 1]]
    assert estimate_priors(certain, SOURCE, np.ones((1, 3)))[0] == pytest.approx([2 / 3, 1 / 3, 0])


def test_weights_are_what_drawing_again_gives():
    """The weighted accuracy is that of 400,000 images drawn with the target's classes, within four standard errors."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 500, p=SOURCE)
    right = rng.random(500) < np.array([0.9, 0.6, 0.2])[labels]
    weighted = float(image_weights(labels, TARGET) @ right)
    members = [np.flatnonzero(labels == k) for k in range(3)]
    classes = rng.choice(3, 400_000, p=TARGET)
    drawn = np.concatenate([rng.choice(members[k], int((classes == k).sum())) for k in range(3)])
    assert weighted == pytest.approx(right[drawn].mean(), abs=4 * 0.5 / np.sqrt(400_000))
    assert weighted == pytest.approx(sum(TARGET[k] * right[labels == k].mean() for k in range(3)))
    assert image_weights(labels, np.bincount(labels) / 500) == pytest.approx(np.full(500, 1 / 500))
    with pytest.raises(ValueError, match="no image has"):
        image_weights(np.array([0, 1]), TARGET)


def test_unlabelled_images_come_as_the_prior_has_them():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    priors = [Prior("one", "one", TARGET), Prior("two", "two", np.array([0.5, 0.5, 0]))]
    found = simulate(labels, priors, 2000, 30, 100, 0)
    assert found.unlabelled.shape == (2, 30, 100)
    assert (found.unlabelled.sum(axis=2) == 2000).all()
    for prior, counts in zip(priors, found.unlabelled, strict=True):
        share = [counts[:, labels == k].sum() / counts.sum() for k in range(3)]
        assert share == pytest.approx(prior.share, abs=0.01)
    again = simulate(labels, priors[1:], 2000, 30, 100, 0)
    assert (again.unlabelled[0] == found.unlabelled[1]).all(), "a prior's images do not depend on other priors"
    assert (simulate(labels, priors, 2000, 30, 100, 1).unlabelled != found.unlabelled).any()


def test_bootstrap_sums_draw_within_classes():
    labels = np.repeat([0, 1], [30, 5])
    values = np.stack([np.ones(35), labels, np.arange(35) / 35], axis=1)
    found = bootstrap_sums(values, labels, 450, 0)
    assert found.shape == (450, 3)
    assert (found[:, 0] == 35).all()
    assert (found[:, 1] == 5).all(), "a class keeps its images"
    spread = np.sqrt(30 * values[:30, 2].var() + 5 * values[30:, 2].var())
    assert found[:, 2].mean() == pytest.approx(values[:, 2].sum(), abs=4 * spread / np.sqrt(450))
    assert found[:, 2].std() == pytest.approx(spread, rel=0.15)


def test_the_families_are_those_of_lipton():
    settings = {"tables": {"clinic": {"a": 0.25, "c": 0.75}}, "tweak_one": {"probabilities": [0.7]}}
    config = LabelShiftConfig.model_validate(settings | {"dirichlet": {"alphas": [0.1, 100], "draws": 3}})
    found = {p.name: p for p in target_priors(config, CLASSES, np.array([6, 3, 1]), 0)}
    assert list(found) == [
        *("unshifted", "balanced", "clinic"),
        *(f"tweak-one 0.7 of {c}" for c in CLASSES),
        *(f"dirichlet {alpha} no. {n}" for alpha in ("0.1", "100") for n in (1, 2, 3)),
    ]
    assert found["unshifted"].share == pytest.approx([0.6, 0.3, 0.1])
    assert found["clinic"].share == pytest.approx([0.25, 0, 0.75])
    assert found["tweak-one 0.7 of b"].share == pytest.approx([0.15, 0.7, 0.15])
    assert {p.family for n, p in found.items() if n.startswith("tweak")} == {"tweak-one 0.7"}
    assert all(p.share.sum() == pytest.approx(1) for p in found.values())
    assert np.abs(found["dirichlet 100 no. 1"].share - 1 / 3).max() < 0.15, "a large alpha is nearly balanced"
    assert found["dirichlet 0.1 no. 1"].share.max() > 0.6
    assert not np.allclose(found["dirichlet 0.1 no. 1"].share, found["dirichlet 0.1 no. 2"].share)


def test_classes_that_the_split_has_not_get_nothing():
    config = LabelShiftConfig.model_validate({"tweak_one": {}, "dirichlet": {"draws": 2}})
    found = target_priors(config, CLASSES, np.array([5, 0, 2]), 0)
    assert all(p.share[1] == 0 for p in found)
    assert {p.name for p in found if p.family == "tweak-one 0.7"} == {f"tweak-one 0.7 of {c}" for c in "ac"}


@pytest.mark.parametrize(
    ("settings", "present", "message", "remedy"),
    [
        ({"tables": {"t": {"a": 0.5, "z": 0.5}}}, [5, 5, 5], r"tables\.t names 'z', which is no class", "a, b, c"),
        ({"tables": {"t": {"a": 0.5, "b": 0.5}}}, [5, 0, 5], "'b', of which the split has no image", "a, c"),
        ({"tweak_one": {"classes": ["dog"]}}, [5, 5, 5], r"tweak_one\.classes names 'dog'", "a, b, c"),
        ({}, [5, 0, 0], "two classes", "shift.images"),
    ],
)
def test_priors_that_cannot_be(settings, present, message, remedy):
    with pytest.raises(AmalgamError, match=message) as error:
        target_priors(LabelShiftConfig.model_validate(settings), CLASSES, np.array(present), 0)
    assert remedy in error.value.remedy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tables": {"t": {"a": 0.5, "b": 0.4}}}, "sum to 0.9; they must sum to 1"),
        ({"tables": {"t": {"a": 1.5, "b": -0.5}}}, "greater than or equal to 0"),
        ({"tables": {"balanced": {"a": 1.0}}}, "choose another name"),
        ({"tweak_one": {"probabilities": [1.0]}}, "less than 1"),
        ({"dirichlet": {"alphas": [0]}}, "greater than 0"),
    ],
)
def test_mistakes_in_the_settings_are_named(settings, message):
    with pytest.raises(ValidationError, match=message):
        LabelShiftConfig.model_validate(settings)


def test_a_class_without_images_is_named():
    with pytest.raises(AmalgamError, match="the split train has no image of b"):
        source_prior(np.array([0, 0, 2]), CLASSES, "train")
    assert source_prior(np.array([0, 0, 2, 1]), CLASSES, "train").share == pytest.approx([0.5, 0.25, 0.25])


def measured(posteriors, labels, priors, **sizes):
    sizes = {"unlabelled": 500, "samples": 10, "replicates": 400, "seed": 0} | sizes
    found = label_shift_rows("m/seed-0", posteriors, posteriors, SOURCE, simulate(labels, priors, **sizes), "d", "test")
    return {(r["group"], r["metric"]): r for r in found}


def test_adapting_calibrated_posteriors_gains_what_bayes_promises():
    """Known and estimated priors come to the accuracy of the best classifier under the target, in closed form."""
    posteriors, labels = world(SOURCE, 20000, 4)
    found = measured(posteriors, labels, [Prior("t", "t", TARGET)], replicates=200)
    grid = np.linspace(-12, 12, 200_001)
    joint = norm.pdf(grid[:, None] - MEANS) * TARGET
    best = float(joint.max(axis=1).sum() * (grid[1] - grid[0]))
    rule = (norm.pdf(grid[:, None] - MEANS) * SOURCE).argmax(axis=1)
    plain = float(joint[np.arange(len(grid)), rule].sum() * (grid[1] - grid[0]))
    assert found["prior=t", "accuracy under label shift"]["value"] == pytest.approx(plain, abs=0.02)
    assert found["prior=t", "accuracy under label shift, priors known"]["value"] == pytest.approx(best, abs=0.02)
    assert found["prior=t", "accuracy under label shift, priors estimated"]["value"] == pytest.approx(best, abs=0.02)
    gain = found["prior=t", "gain of estimated priors"]
    assert gain["low"] > 0.1
    assert gain["value"] == pytest.approx(best - plain, abs=0.03)
    assert found["prior=t", "error of estimated priors"]["value"] < 0.06
    assert found["prior=t", "error of estimated priors"]["n"] == 500


def test_families_are_the_mean_and_the_worst_of_their_members():
    posteriors, labels = world(SOURCE, 400, 5)
    config = LabelShiftConfig.model_validate({"tweak_one": {"probabilities": [0.8]}})
    priors = target_priors(config, CLASSES, np.bincount(labels), 0)
    found = measured(posteriors, labels, priors)
    members = [found[f"prior=tweak-one 0.8 of {c}", "accuracy under label shift"]["value"] for c in CLASSES]
    mean = found["prior=tweak-one 0.8", "accuracy under label shift"]["value"]
    assert mean == pytest.approx(np.mean(members))
    assert mean == pytest.approx(found["prior=balanced", "accuracy under label shift"]["value"]), "their mean prior"
    assert found["prior=tweak-one 0.8", "worst accuracy under label shift"]["value"] == pytest.approx(min(members))
    right = posteriors.argmax(axis=1) == labels
    assert found["prior=unshifted", "accuracy under label shift"]["value"] == pytest.approx(right.mean())


def test_the_interval_is_that_of_the_weighted_images():
    """Half a width is 1.96 standard errors of sum_y t(y) r_y, whose variance is sum_y t(y)^2 r_y (1 - r_y) / n_y."""
    posteriors, labels = world(SOURCE, 600, 6)
    row = measured(posteriors, labels, [Prior("t", "t", TARGET)], replicates=4000)[
        "prior=t", "accuracy under label shift"
    ]
    right, counts = posteriors.argmax(axis=1) == labels, np.bincount(labels)
    recall = np.array([right[labels == k].mean() for k in range(3)])
    error = np.sqrt((TARGET**2 * recall * (1 - recall) / counts).sum())
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.08)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_priors_are_distributions_and_em_never_leaves_them(classes, seed):
    rng = np.random.default_rng(seed)
    posteriors = rng.dirichlet(np.full(classes, 0.2), 40)
    source = rng.dirichlet(np.full(classes, 5.0))
    counts = rng.multinomial(60, np.full(40, 1 / 40), 3)
    found = estimate_priors(posteriors, source, counts)
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(3))

    def likelihood(prior, weights):
        return weights @ np.log((posteriors / source) @ prior)

    for mine, weights in zip(found, counts, strict=True):
        assert likelihood(mine, weights) >= likelihood(source, weights) - 1e-9, "EM never falls"


def test_the_interval_with_estimated_priors_is_for_other_samples_too():
    """With many images and few unlabelled ones, it reaches as far as the accuracies by sample, each adapted by hand."""
    posteriors, labels = world(SOURCE, 6000, 7)
    priors = [Prior("t", "t", TARGET)]
    found = measured(posteriors, labels, priors, unlabelled=8, samples=12, replicates=600)
    row = found["prior=t", "accuracy under label shift, priors estimated"]
    weights = image_weights(labels, TARGET)
    counts = simulate(labels, priors, 8, 12, 600, 0).unlabelled[0]
    by_sample = [
        float(weights @ (adapt(posteriors, SOURCE, estimate).argmax(axis=1) == labels))
        for estimate in estimate_priors(posteriors, SOURCE, counts)
    ]
    assert row["value"] == pytest.approx(np.mean(by_sample))
    assert np.ptp(by_sample) > 0.05
    assert row["low"] == pytest.approx(min(by_sample), abs=0.02)
    assert row["high"] == pytest.approx(max(by_sample), abs=0.02)
