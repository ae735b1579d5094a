"""Noise and blurs against their published sizes, brute force and scipy."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ops.evaluate.corruptions import apply, blur, resampling
from ops.evaluate.corruptions.draws import make_generators, to_bytes, to_unit
from ops.evaluate.corruptions.tables import SEVERITIES, parameters
from tests.ops.evaluate.test_corruptions import TABLES, photographs


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_published_size(severity, table):
    """Before clipping, where sums over 150,000 values leave a relative error of about 0.2 %."""
    grey = np.full((16, 56, 56, 3), 0.4)
    count = grey.size

    def noise(name):
        (size,) = parameters(name, severity, table)
        return apply._RANDOM[name](grey, make_generators(np.arange(16), name, severity), size) - 0.4, size

    for name, share in (("gaussian_noise", 1), ("speckle_noise", 0.4)):
        found, sigma = noise(name)
        assert found.std() == pytest.approx(share * sigma, rel=0.01)
        assert abs(found.mean()) < 5 * share * sigma / math.sqrt(count)
    found, photons = noise("shot_noise")
    assert found.var() == pytest.approx(0.4 / photons, rel=0.03)
    assert abs(found.mean()) < 5 * math.sqrt(0.4 / photons / count)
    found, amount = noise("impulse_noise")
    for value in (-0.4, 0.6):
        margin = 5 * math.sqrt(amount / 2 / count)
        assert np.isclose(found, value).mean() == pytest.approx(amount / 2, abs=margin)


def filtered(image, kernel, mode):
    """Correlate each channel with a kernel, pixel by pixel."""
    r = len(kernel) // 2
    padded = np.pad(image, ((r, r), (r, r), (0, 0)), mode=mode)
    out = np.empty_like(image)
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            out[i, j] = (padded[i : i + len(kernel), j : j + len(kernel)] * kernel[:, :, None]).sum(axis=(0, 1))
    return out


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1, 3])
def test_gaussian_blur_by_brute_force(sigma):
    line = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    bell = np.exp(-(line**2) / (2 * sigma**2))
    kernel = np.outer(bell, bell) / bell.sum() ** 2
    image = to_unit(photographs(18, 25, 2))[0]
    found = blur.gaussian_blur(image[None], sigma)[0]
    np.testing.assert_allclose(found, filtered(image, kernel, "edge"), atol=1e-12)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_by_brute_force(severity, table):
    radius, alias = parameters("defocus_blur", severity, table)
    points = np.arange(-12, 13)
    soft = np.arange(-2, 3) if radius > 8 else np.arange(-1, 2)
    bell = np.exp(-(soft**2) / (2 * alias**2))
    hard = (np.hypot(points[:, None], points) <= radius)[:, :, None].astype(float)
    kernel = filtered(hard, np.outer(bell, bell), "constant")[:, :, 0]
    image = to_unit(photographs(18, 25, 2))[0]
    found = blur.defocus_blur(image[None], radius, alias)[0]
    # at radius 8 and 10 the original smooths in an array that is as wide as the disk: its tips are cut, by 0.1 % at most
    atol = 1e-9 if radius < 8 else 4e-3
    np.testing.assert_allclose(found, filtered(image, kernel / kernel.sum(), "reflect"), atol=atol)
    assert blur.disk(radius, alias).sum() == pytest.approx(1)


def scipy_zoom(image, factor):
    """Zoom as the original does, which handles square images.

    Rounding can put scipy's last row just outside the image, where its default (not meant by the original) is 0.
    """
    side = len(image)
    crop = math.ceil(side / factor)
    top = (side - crop) // 2
    big = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1, mode="nearest")
    trim = (len(big) - side) // 2
    return big[trim : trim + side, trim : trim + side]


@pytest.mark.parametrize(("table", "side"), [("cifar", 32), ("cifar", 28), ("imagenet", 50)])
def test_zoom_blur_is_scipys_zoom_averaged(table, side):
    image = to_unit(photographs(side, side, 2))[0]
    for severity in SEVERITIES:
        last, step = parameters("zoom_blur", severity, table)
        zooms = [scipy_zoom(image, factor) for factor in np.arange(1, last + step / 2, step)]
        assert len(zooms) == round((last - 1) / step) + 1
        expected = (image + sum(zooms)) / (len(zooms) + 1)
        np.testing.assert_allclose(blur.zoom_blur(image[None], last, step)[0], expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 40), st.floats(1, 4.5))
@example(39, 1.78125)
def test_zooming_is_scipys(side, factor):
    image = np.random.default_rng(side).random((side, side, 1))
    np.testing.assert_allclose(resampling.zoom_in(image[None], factor)[0], scipy_zoom(image, factor), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.integers(16, 22), st.integers(16, 22))
def test_glass_blur_is_the_loop_over_pixels(seed, reach, passes, height, width):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = blur.glass_blur(to_unit(image[None]), [np.random.default_rng(seed)], 0.05, reach, passes)  # no blur
    rows, columns = range(reach + 1, height - reach + 1), range(reach + 1, width - reach + 1)
    moves = np.random.default_rng(seed).integers(-reach, reach, (passes, 2, len(rows), len(columns)))
    for move in moves:
        for i in reversed(rows):
            for j in reversed(columns):
                across, down = move[:, i - reach - 1, j - reach - 1]
                image[i, j] = image[i + down, j + across]
    np.testing.assert_array_equal(to_bytes(found[0]), image)


@pytest.mark.parametrize("degrees", [0, 45, -30, 90, 217.3])
def test_a_streak_is_a_gaussian_along_its_line(degrees):
    image = np.random.default_rng(0).random((16, 21, 3))
    weights = np.exp(-(np.arange(13) ** 2) / 8)
    expected = np.zeros_like(image)
    for i in range(16):
        for j in range(21):
            for step in range(13):
                row = i + math.ceil(step * math.sin(math.radians(degrees)) - 0.5)
                column = j + math.ceil(step * math.cos(math.radians(degrees)) - 0.5)
                expected[i, j] += weights[step] * image[min(max(row, 0), 15), min(max(column, 0), 20)]
    found = resampling.streak(image[None], 6, 2, np.array([degrees]))[0]
    np.testing.assert_allclose(found, expected / weights.sum(), atol=1e-12)
