"""Brightness to spatter against pixel-by-pixel twins, PIL and scipy."""

import colorsys
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from ops.evaluate.corruptions import digital, edges, elastic, resampling
from ops.evaluate.corruptions.apply import corrupt
from ops.evaluate.corruptions.draws import make_generators, to_bytes, to_unit
from ops.evaluate.corruptions.tables import SEVERITIES, parameters
from tests.ops.evaluate.test_corruptions import IMAGES, SEEDS, TABLES

PALETTE = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
PALETTE[0, 0, :6] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0], [0, 0, 3], [7, 255, 255]]


def by_hsv(image, rule):
    """Apply `rule` to (h, s, v) of each pixel."""
    pixels = [colorsys.hsv_to_rgb(*rule(*colorsys.rgb_to_hsv(*pixel))) for pixel in to_unit(image).reshape(-1, 3)]
    return np.floor(np.array(pixels).reshape(image.shape) * 255 + 1e-6).astype(np.uint8)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_saturation_and_contrast_pixel_by_pixel(severity, table):
    (amount,) = parameters("brightness", severity, table)
    factor, summand = parameters("saturate", severity, table)
    (share,) = parameters("contrast", severity, table)
    brighter = by_hsv(PALETTE, lambda h, s, v: (h, s, min(v + amount, 1)))
    np.testing.assert_array_equal(corrupt(PALETTE, "brightness", severity, SEEDS[:1], table), brighter)
    saturated = by_hsv(PALETTE, lambda h, s, v: (h, min(s * factor + (summand if v else 0), 1), v))
    np.testing.assert_array_equal(corrupt(PALETTE, "saturate", severity, SEEDS[:1], table), saturated)
    means = [[sum(int(p) for p in PALETTE[0, ..., c].ravel()) / 256] for c in range(3)]
    flat = np.stack([(PALETTE[..., c] - means[c][0]) * share + means[c][0] for c in range(3)], axis=-1)
    np.testing.assert_array_equal(
        corrupt(PALETTE, "contrast", severity, SEEDS[:1], table), np.floor(flat + 1e-6).clip(0, 255)
    )


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_pixelate_averages_boxes(share):
    """Where boxes are whole pixels it is their mean, rounded along rows and then along columns."""
    side = int(1 / share)
    rows = np.floor(IMAGES.reshape(-1, 32, 32 // side, side, 3).mean(axis=3) + 0.5)
    means = np.floor(rows.reshape(-1, 32 // side, side, 32 // side, 3).mean(axis=2) + 0.5)
    expected = means.repeat(side, axis=1).repeat(side, axis=2)
    np.testing.assert_array_equal(to_bytes(digital.pixelate(to_unit(IMAGES), share)), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 45), st.integers(16, 45), st.floats(0.25, 1))
def test_pixelate_leaves_as_many_colours_as_pixels(height, width, share):
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    found = to_bytes(digital.pixelate(to_unit(image), share))[0]
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= int(height * share) * int(width * share)
    assert abs(found.mean() - image.mean()) < 25


@pytest.mark.parametrize("table", TABLES)
def test_jpeg_is_pil(table):
    for severity in SEVERITIES:
        found = corrupt(IMAGES, "jpeg_compression", severity, SEEDS, table)
        for image, other in zip(IMAGES, found, strict=True):
            file = BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=int(parameters("jpeg_compression", severity, table)[0]))
            np.testing.assert_array_equal(np.asarray(Image.open(file)), other)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["mirror", "reflect", "nearest"]), st.integers(0, 99), st.floats(0.1, 60))
def test_bilinear_is_scipys(border, seed, reach):
    rng = np.random.default_rng(seed)
    values = rng.random((2, 16, 19, 3))
    rows, columns = rng.uniform(-reach, 16 + reach, (2, 16, 19)), rng.uniform(-reach, 19 + reach, (2, 16, 19))
    found = resampling.bilinear(values, rows, columns, border)
    for n in range(2):
        for c in range(3):
            expected = ndimage.map_coordinates(values[n, ..., c], [rows[n], columns[n]], order=1, mode=border)
            np.testing.assert_allclose(found[n, ..., c], expected, atol=1e-9)


def test_the_affine_map_takes_points_where_they_moved():
    """A shift moves the picture by itself; without movement it stays."""
    rows, columns = elastic._affine_places(20, 30, np.broadcast_to([3.0, -2.0], (1, 3, 2)))
    np.testing.assert_allclose(columns[0], np.broadcast_to(np.arange(30) - 3, (20, 30)), atol=1e-9)
    np.testing.assert_allclose(rows[0], np.broadcast_to(np.arange(20)[:, None] + 2, (20, 30)), atol=1e-9)
    still = elastic.elastic_transform(to_unit(IMAGES), make_generators(SEEDS, "e", 1), 0, 0, 0)
    np.testing.assert_array_equal(to_bytes(still), IMAGES)


def test_edges_of_a_square_are_its_outline():
    levels = np.zeros((3, 24, 24), np.uint8)
    levels[0, 6:16, 5:19] = 200
    levels[1, 6:16, 5:19] = 20  # too faint: gradients of 80 start no edge
    found = edges.canny(levels, 50, 150)
    assert not found[1:].any()
    inside = np.zeros((24, 24), bool)
    inside[6:16, 5:19] = True
    ring = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
    assert not (found[0] & ~ring).any()
    filled = ndimage.binary_fill_holes(found[0])
    assert filled[7:15, 6:18].all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.1))
def test_distances_by_brute_force(seed, density):
    marked = np.random.default_rng(seed).random((3, 16, 18)) < density
    marked[2] = False
    i, j = np.mgrid[:16, :18]
    for found, mine in zip(edges.distance(marked, 6), marked, strict=True):
        expected = np.full((16, 18), 6.0)
        for a, b in np.argwhere(mine):
            expected = np.minimum(expected, np.hypot(i - a, j - b))
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_equalising_flattens_and_leaves_one_level_alone():
    levels = np.stack(
        [np.repeat(np.arange(4, dtype=np.uint8) * 10, 64).reshape(16, 16), np.full((16, 16), 9, np.uint8)]
    )
    found = edges.equalise(levels)
    np.testing.assert_array_equal(np.unique(found[0]), [0, 85, 170, 255])
    np.testing.assert_array_equal(found[1], levels[1])


def test_spatter_adds_water_and_covers_with_mud():
    images = np.full((8, 32, 32, 3), 100, np.uint8)
    wet = corrupt(images, "spatter", 3, np.arange(8), "cifar").astype(int) - 100
    assert wet.min() == 0
    np.testing.assert_allclose(wet[..., 0].max(axis=(1, 2)), 0.5 * 175, atol=1)  # thickest at the published strength
    muddy = corrupt(images, "spatter", 5, np.arange(8), "cifar")
    assert 0.02 < (muddy != 100).any(axis=-1).mean() < 0.3
    assert (muddy[..., 0].min(), muddy[..., 2].min()) == (63, 20)
