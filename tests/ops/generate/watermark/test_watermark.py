"""The mark: invisible, found with its key only, through edits, and rarely where it is not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import peak_signal_noise_ratio

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.measurements import write_measurements
from ops.generate.watermark.config import WatermarkConfig
from ops.generate.watermark.detection import decoy_scores, detect, detect_pooled, threshold, view_count, views_of
from ops.generate.watermark.edits import blurred, cropped, edits, jpeg, noisy, resized, shifted
from ops.generate.watermark.evaluation import detections, false_alarms, watermark_rows
from ops.generate.watermark.keys import key_id, pattern
from ops.generate.watermark.marking import LUMA, band, coefficients, mark, psnr
from ops.progress import Silent

KEY, OTHER = b"the key of a test", b"the key of others"
CONFIG = WatermarkConfig()


@pytest.fixture(scope="module")
def images(shards, tmp_path_factory) -> np.ndarray:
    """Return 176 drawings (N, 32, 32, 3) uint8 with white ground, edges and noise."""
    return np.array(open_images(shards, ["train", "validation", "test"], tmp_path_factory.mktemp("cache")).images)


@pytest.fixture(scope="module")
def marked(images) -> np.ndarray:
    return mark(images, KEY)


def test_coefficients_are_sums_of_cosines(images):
    """By the definition of the transform, one coefficient after the other; the band is the one of the docstring."""
    chosen = band(CONFIG, 32, 32)
    grey = images[0].astype(np.float64) @ LUMA
    place = np.arange(32)
    expected, inside = [], 0
    for u in range(32):
        for v in range(32):
            if 1 / 8 <= np.hypot(u / 32, v / 32) < 1 / 2:
                assert chosen[u, v]
                inside += 1
                rows = np.cos(np.pi * (2 * place + 1) * u / 64) * np.sqrt((1 if u == 0 else 2) / 32)
                columns = np.cos(np.pi * (2 * place + 1) * v / 64) * np.sqrt((1 if v == 0 else 2) / 32)
                expected.append(rows @ grey @ columns)
    assert chosen.sum() == inside
    assert coefficients(images[:1], chosen)[0] == pytest.approx(np.array(expected))


def test_no_image_falls_below_the_psnr_and_colours_stay(images, marked):
    for least in (36.0, 40.0, 46.0):
        changed = mark(images[:20], KEY, WatermarkConfig(psnr=least))
        for one, other in zip(images[:20], changed, strict=True):
            measured = peak_signal_noise_ratio(
                torch.tensor(other).double(), torch.tensor(one).double(), data_range=255.0
            )
            assert least <= float(measured) < least + 0.5, "as strong as allowed, and not stronger"
    assert psnr(images[:1], images[:1])[0] == np.inf
    difference = marked.astype(int) - images
    free = (marked > 0).all(axis=3) & (marked < 255).all(axis=3)
    assert np.ptp(difference[free], axis=1).max() == 0


def test_only_the_key_finds_the_mark(images, marked):
    limit = threshold(CONFIG)
    assert (detect(marked, KEY) >= limit).mean() > 0.95
    assert detect_pooled(marked, KEY) > 2 * limit
    assert (detect(marked, OTHER) >= limit).mean() < 0.02
    assert (detect(images, KEY) >= limit).mean() < 0.02
    assert detect_pooled(marked, OTHER) < limit
    assert detect_pooled(images, KEY) < limit
    assert detect(images[:0], KEY).shape == (0,)


def test_keys_have_unrelated_patterns():
    count = 400
    patterns = np.stack([pattern(bytes([i]) * 16, count, 32, 32) for i in range(60)])
    assert set(np.unique(patterns)) == {-1.0, 1.0}
    products = (patterns @ patterns.T)[np.triu_indices(60, 1)] / np.sqrt(count)
    assert abs(products.mean()) < 0.1, "0 for fair coins, with a deviation of 1 / sqrt(1770) = 0.024"
    assert products.std() == pytest.approx(1, abs=0.1)
    assert (pattern(KEY, count, 32, 32) != pattern(KEY, count, 64, 64)).mean() > 0.3, "sizes do not share a pattern"
    assert (pattern(KEY, 99, 32, 32) == pattern(KEY, count, 32, 32)[:99]).all()
    assert key_id(KEY) != key_id(OTHER)
    assert KEY.hex()[:16] not in key_id(KEY)


def hard_cases(images) -> np.ndarray:
    """Return images that a sloppy bound would fail on: of one kind, blank, black and white, noise, a single edge."""
    blank = np.full((1, 32, 32, 3), 255, np.uint8)
    edge = blank.copy()
    edge[:, 16:] = 0
    stripes = blank.copy()
    stripes[:, ::4] = 0
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return np.concatenate([images[:20], blank, edge, stripes, noise])


@pytest.mark.parametrize("search", [0, 1])
def test_unmarked_images_pass_no_more_often_than_the_bound_says(images, search):
    """Whatever the image: the bound is over keys. At 2 % there is something to count."""
    config = WatermarkConfig(false_positives=0.02, search=search)
    hard = hard_cases(images)
    scores = decoy_scores(hard, 1000, config, 0)
    passed = (scores >= threshold(config)).mean(axis=1)
    assert passed.max() <= 0.02 + 3 * np.sqrt(0.02 * 0.98 / 1000)
    assert 0 < passed.mean() <= 0.02
    if not search:
        assert threshold(config) == pytest.approx(np.sqrt(2 * np.log(2 / 0.02)))


def test_scores_have_mean_zero_and_variance_one_over_keys(images):
    """Of one view; the score is the better one of two, so that the plain score is taken from a single view."""
    chosen = band(CONFIG, 32, 32)
    c = coefficients(images[:30], chosen)
    weights = c / (1 + (c / CONFIG.scale) ** 2)
    signs = np.stack([pattern(i.to_bytes(16, "big"), int(chosen.sum()), 32, 32) for i in range(2000)], axis=1)
    plain = weights @ signs / np.linalg.norm(weights, axis=1, keepdims=True)
    assert np.abs(plain.mean(axis=1)).max() < 5 / np.sqrt(2000)
    assert plain.var(axis=1) == pytest.approx(1, abs=0.2)
    upper = np.maximum(plain, 0)  # what `detect` returns is never below the score of the view as it is
    for number in range(3):
        found = detect(images[:30], number.to_bytes(16, "big"))
        assert (found >= upper[:, number] - 1e-9)[upper[:, number] > 0].all()


def test_what_unmarked_images_share_is_no_mark(images):
    """A hundred times the same image says no more than once; a sum of z-scores would say ten times as much."""
    for number in range(5):
        same = np.repeat(images[number : number + 1], 100, axis=0)
        key = number.to_bytes(16, "big")
        assert detect_pooled(same, key) == pytest.approx(detect(same[:1], key)[0])


def test_marks_survive_edits(marked):
    limit, rng = threshold(CONFIG), np.random.default_rng(0)
    found = {name: float((detect(edit(marked, rng), KEY) >= limit).mean()) for name, edit in edits().items()}
    assert found["mirrored"] == found["none (PNG)"], "a mirrored image is looked at both ways"
    assert found["JPEG 90"] > 0.8
    assert found["JPEG 90"] >= found["JPEG 75"] >= found["JPEG 50"] > 0.1
    assert found["blur, sigma 0.8"] > 0.8
    assert found["shifted by 1 pixel"] < 0.2, "unless it searches"
    assert all(detect_pooled(edits()[name](marked, rng), KEY) >= limit for name in ("JPEG 50", "half size and back"))


def test_searching_finds_shifted_marks_at_a_higher_threshold(marked):
    searching = WatermarkConfig(search=1)
    moved = shifted(marked, 1)
    assert (detect(moved, KEY, searching) >= threshold(searching)).mean() > 0.5
    assert threshold(searching) > threshold(CONFIG)
    views = list(views_of(marked[:2], 1))
    assert len(views) == view_count(1) == 18
    assert (views[4] == marked[:2]).all()
    assert (views[13] == marked[:2, :, ::-1]).all()
    back = next(view for view in views_of(moved[:2], 1) if (view[:, :31, :31] == marked[:2, :31, :31]).all())
    assert back.shape == marked[:2].shape


def test_edits_do_what_they_say(images):
    some, rng = images[:4], np.random.default_rng(0)
    for name, edit in edits().items():
        edited = edit(some, rng)
        assert edited.shape == some.shape, name
        assert edited.dtype == np.uint8
        assert (edited is some) == (name == "none (PNG)")
    assert psnr(some, jpeg(some, 90)).mean() > psnr(some, jpeg(some, 50)).mean()
    assert np.abs(noisy(np.full((4, 32, 32, 3), 128, np.uint8), 8, rng).astype(float) - 128).std() > 4
    assert blurred(some, 0.8).astype(float).std() < some.astype(float).std()
    flat = np.full((1, 32, 32, 3), 77, np.uint8)
    for edit in (lambda x: resized(x, 0.5), lambda x: cropped(x, 2), lambda x: shifted(x, 3), lambda x: blurred(x, 1)):
        assert (edit(flat) == flat).all()


@settings(max_examples=15, deadline=None)
@given(height=st.integers(24, 40), width=st.integers(24, 40), seed=st.integers(0, 99), value=st.integers(0, 255))
def test_images_of_any_size_and_blank_ones(height, width, seed, value):
    rng = np.random.default_rng(seed)
    some = rng.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    some[0] = value
    changed = mark(some, KEY)
    assert psnr(some, changed).min() >= 40
    assert np.isfinite(detect(changed, KEY)).all()
    assert (changed == np.concatenate([mark(some[:1], KEY), mark(some[1:], KEY)])).all(), "an image has its own mark"


def test_images_too_small_are_refused():
    with pytest.raises(AmalgamError, match="8 x 8 pixels have only"):
        mark(np.zeros((1, 8, 8, 3), np.uint8), KEY)
    with pytest.raises(ValueError, match="low must be below high"):
        WatermarkConfig(low=0.5, high=0.2)


def test_the_study_counts_what_detection_says(images, marked, tmp_path):
    found = detections(images, KEY, 25, CONFIG, 0, Silent())
    assert [each.edit for each in found] == list(edits())
    expected = (detect(marked, KEY) >= threshold(CONFIG)).mean()
    assert found[0].single[0] == pytest.approx(expected)
    assert found[0].images == 176
    assert found[0].shards == 7
    alarms = false_alarms(images, KEY, 25, CONFIG, 40, 0)
    scores = decoy_scores(images, 40, CONFIG, 0)
    assert alarms.share == (scores >= threshold(CONFIG)).mean()
    assert (scores >= alarms.calibrated).mean() <= 2e-3
    assert alarms.calibrated < threshold(CONFIG), "the bound holds for any image, and costs a little"
    rows = watermark_rows("shapes", "train", images, marked, found, alarms)
    write_measurements(tmp_path / "measurements.parquet", rows)
    assert len(rows) == 2 * len(found) + 3
