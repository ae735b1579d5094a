"""Corruptions against closed forms, brute force and the libraries they stand in for; and their promises to callers."""

import colorsys
import math
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_image

from ops.errors import AmalgamError
from ops.evaluate.corruptions import apply, blur, digital, edges, elastic, plasma, resampling, score, weather
from ops.evaluate.corruptions.apply import corrupt
from ops.evaluate.corruptions.draws import make_generators, to_bytes, to_unit
from ops.evaluate.corruptions.tables import CORRUPTIONS, EXTRA, SEVERITIES, parameters

ALL = CORRUPTIONS + EXTRA
FIXED = {
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
}
BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur", "pixelate")
# at these a higher severity is a stronger one; the published parameters of the others do not all rise with it
MONOTONE = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "defocus_blur",
    "zoom_blur",
    "gaussian_blur",
    "fog",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
)
TABLES = ("cifar", "imagenet")


def photographs(height, width, count=12):
    """Return crops of two photographs that scikit-learn ships, shrunk so that a crop has a subject."""
    found = []
    for name in ("china.jpg", "flower.jpg"):
        small = np.asarray(Image.fromarray(load_sample_image(name)).resize((200, 133), Image.Resampling.LANCZOS))
        rng = np.random.default_rng(len(found))
        for _ in range(count // 2):
            top, left = rng.integers(133 - height), rng.integers(200 - width)
            found.append(small[top : top + height, left : left + width])
    return np.stack(found)


IMAGES = photographs(32, 32)
SEEDS = np.arange(len(IMAGES)) * 7919 + 3


def change(images, name, severity, table="cifar"):
    return np.abs(corrupt(images, name, severity, np.arange(len(images)), table).astype(float) - images).mean()


# --- promises to callers ---


def test_the_names_are_the_published_ones_in_their_order():
    assert len(CORRUPTIONS) == 15
    assert len(EXTRA) == 4
    assert CORRUPTIONS[0] == "gaussian_noise"
    assert CORRUPTIONS[-1] == "jpeg_compression"
    assert not set(CORRUPTIONS) & set(EXTRA)
    for table in TABLES:
        for name in ALL:
            assert len({parameters(name, s, table) for s in SEVERITIES}) == 5


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_corrupted_the_same_alone_and_in_any_company(name, monkeypatch):
    for table, severity in (("cifar", 1), ("cifar", 4), ("imagenet", 2)):
        whole = corrupt(IMAGES, name, severity, SEEDS, table)
        for i in (0, 5, 11):
            alone = corrupt(IMAGES[i : i + 1], name, severity, SEEDS[i : i + 1], table)
            np.testing.assert_array_equal(alone[0], whole[i])
        order = np.random.default_rng(1).permutation(len(IMAGES))
        np.testing.assert_array_equal(corrupt(IMAGES[order], name, severity, SEEDS[order], table), whole[order])
    monkeypatch.setattr(apply, "PIXELS", 5 * 32 * 32)  # in pieces of 5, 5 and 2
    np.testing.assert_array_equal(corrupt(IMAGES, name, severity, SEEDS, table), whole)


@pytest.mark.parametrize("name", ALL)
def test_the_seed_decides(name):
    same = np.repeat(IMAGES[:1], 6, axis=0)
    made = corrupt(same, name, 3, np.array([4, 4, 5, 6, 7, 8]), "cifar")
    np.testing.assert_array_equal(made[0], made[1])
    different = len({image.tobytes() for image in made})
    assert different == 1 if name in FIXED else different >= 4  # two angles of a motion may be the same in pixels
    assert not np.array_equal(made[0], same[0])


def test_corruption_and_severity_have_streams_of_their_own():
    draws = {make_generators(np.array([3]), n, s)[0].random() for n in ALL for s in SEVERITIES}
    assert len(draws) == len(ALL) * len(SEVERITIES)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("shape", [(28, 28), (16, 16), (17, 40), (48, 33)])
def test_other_sizes_and_shapes(shape, table):
    images = photographs(*shape, count=2)
    kept = images.copy()
    for name in ALL:
        for severity in (1, 5):
            made = corrupt(images, name, severity, np.array([1, 2]), table)
            assert made.dtype == np.uint8
            assert made.shape == images.shape
            if (name, severity) != ("defocus_blur", 1):
                assert not np.array_equal(made, images), (name, severity)
    np.testing.assert_array_equal(images, kept)


def test_no_images_and_strided_images():
    assert corrupt(IMAGES[:0], "fog", 1, SEEDS[:0], "cifar").shape == (0, 32, 32, 3)
    turned = IMAGES.transpose(0, 2, 1, 3)
    for name in ALL:
        expected = corrupt(np.ascontiguousarray(turned), name, 3, SEEDS, "cifar")
        np.testing.assert_array_equal(corrupt(turned, name, 3, SEEDS, "cifar"), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "gaussian"},
        {"severity": 0},
        {"severity": 6},
        {"severity": 2.5},
        {"table": "mnist"},
        {"images": IMAGES / 255},
        {"images": IMAGES[0]},
        {"images": IMAGES[..., :1]},
        {"images": IMAGES[:, :15]},
        {"seeds": SEEDS[:3]},
        {"seeds": SEEDS / 2},
    ],
    ids=lambda w: next(iter(w)),
)
def test_what_cannot_be_done_is_refused_with_a_remedy(wrong):
    call = {"images": IMAGES, "name": "fog", "severity": 1, "seeds": SEEDS, "table": "cifar"} | wrong
    with pytest.raises(AmalgamError) as caught:
        corrupt(**call)
    assert caught.value.remedy


# --- all corruptions ---


@pytest.mark.parametrize("name", MONOTONE)
def test_a_higher_severity_changes_more(name):
    changes = [change(IMAGES, name, s) for s in SEVERITIES]
    assert changes == sorted(changes)
    assert changes[-1] > 1.2 * changes[0]


def test_a_higher_severity_moves_further():
    """Severities 3 and 4 of the cifar table differ only in where the Gaussian's tail, 3 sigmas out, is cut off."""
    changes = [change(np.concatenate([IMAGES] * 8), "motion_blur", s) for s in (1, 2, 3, 5)]
    assert changes == sorted(changes)
    assert parameters("motion_blur", 3, "cifar")[1] == parameters("motion_blur", 4, "cifar")[1]


@pytest.mark.parametrize("name", ["gaussian_noise", "defocus_blur", "motion_blur", "contrast", "pixelate"])
def test_the_imagenet_table_is_the_stronger_one(name):
    assert change(photographs(64, 64, 4), name, 3, "imagenet") > change(photographs(64, 64, 4), name, 3, "cifar")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", [*BLURS, "elastic_transform", "contrast"])
def test_a_constant_image_stays_as_it_is(name, table):
    levels = np.stack(np.meshgrid([0, 1, 127, 254, 255], [0, 77, 255], [3, 200]), axis=-1).reshape(-1, 1, 1, 3)
    images = np.broadcast_to(levels, (len(levels), 20, 24, 3)).astype(np.uint8)
    for severity in SEVERITIES:
        np.testing.assert_array_equal(corrupt(images, name, severity, np.arange(len(images)), table), images)


# --- noise ---


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


# --- blur ---


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
    """Zoom as the original does, which handles square images."""
    side = len(image)
    crop = math.ceil(side / factor)
    top = (side - crop) // 2
    big = ndimage.zoom(image[top : top + crop, top : top + crop], (factor, factor, 1), order=1)
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


# --- weather ---


@pytest.mark.parametrize("decay", [3, 1.4])
def test_plasma_is_diamond_square(decay):
    """Point by point, with the noise in the order of the steps."""
    size = 8
    noise = iter(2 * np.random.default_rng(5).random(size * size - 1) - 1)
    grid = np.zeros((size, size))
    step, rough = size, 1.0
    while step > 1:
        half = step // 2
        kinds = [
            (half, half, [(half, half), (half, -half), (-half, half), (-half, -half)]),
            (0, half, [(0, half), (0, -half), (half, 0), (-half, 0)]),
            (half, 0, [(0, half), (0, -half), (half, 0), (-half, 0)]),
        ]
        for top, left, corners in kinds:
            for i in range(top, size, step):
                for j in range(left, size, step):
                    mean = np.mean([grid[(i + a) % size, (j + b) % size] for a, b in corners])
                    grid[i, j] = mean + rough * next(noise)
        step, rough = half, rough / decay**2
    expected = (grid - grid.min()) / (grid.max() - grid.min())
    np.testing.assert_allclose(plasma.plasma([np.random.default_rng(5)], size, decay)[0], expected, atol=1e-12)


def test_fog_is_its_formula_and_covers_any_size():
    assert [plasma.covering(h, w) for h, w in ((32, 32), (28, 28), (16, 33), (224, 224))] == [32, 32, 64, 256]
    x = to_unit(IMAGES)
    clouds = plasma.plasma(make_generators(SEEDS, "fog", 2), 32, 3)[..., None]
    expected = np.stack([(a + 0.5 * b) * a.max() / (a.max() + 0.5) for a, b in zip(x, clouds, strict=True)])
    found = weather.fog(x, make_generators(SEEDS, "fog", 2), 0.5, 3)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.max() <= x.max() + 1e-12


@pytest.mark.parametrize(("side", "scale"), [(32, 0.2), (128, 1)])
def test_ice_has_the_statistics_of_the_photographs(side, scale):
    """Colour, contrast, and how neighbouring pixels go together (0.7 to 0.9 in the photographs)."""
    textures = weather.ice(make_generators(np.arange(60), "frost", 3), side, side, scale)
    assert textures.min() >= 0
    assert textures.max() <= 1
    looks = np.abs(textures.mean(axis=(1, 2))[:, None] - weather.ICE[None]).sum(axis=-1).argmin(axis=1)
    assert set(looks) == {0, 1, 3, 4}
    np.testing.assert_allclose(textures.mean(axis=(1, 2)), weather.ICE[looks], atol=0.02)
    np.testing.assert_allclose(textures[..., 2].std(axis=(1, 2)), weather.CONTRAST[looks], atol=0.02)
    grey = textures.mean(axis=-1)
    together = [np.corrcoef(g[:, 1:].ravel(), g[:, :-1].ravel())[0, 1] for g in grey]
    assert 0.7 <= np.mean(together) <= 0.9


def test_frost_is_its_weights():
    black = weather.frost(np.zeros((4, 32, 32, 3)), make_generators(np.arange(4), "frost", 5), 0.75, 0.45, 0.2)
    textures = weather.ice(make_generators(np.arange(4), "frost", 5), 32, 32, 0.2)
    np.testing.assert_allclose(black, 0.45 * textures, atol=1e-12)
    white = weather.frost(np.ones((4, 32, 32, 3)), make_generators(np.arange(4), "frost", 5), 0.75, 0.45, 0.2)
    np.testing.assert_allclose(white - black, 0.75, atol=1e-12)


def test_snow_whitens_and_its_flakes_are_seen_twice():
    settings = parameters("snow", 5, "cifar")
    images = np.full((6, 32, 32, 3), 0.2)
    found = weather.snow(images, make_generators(np.arange(6), "snow", 5), *settings)
    flakes = found - (0.8 * 0.2 + 0.2 * max(0.2, 0.2 * 1.5 + 0.5))
    np.testing.assert_allclose(flakes, np.rot90(flakes, 2, axes=(1, 2)), atol=1e-12)
    assert flakes.min() >= -1e-12
    assert flakes.max() > 0.1
    dry = weather.snow(images, make_generators(np.arange(6), "snow", 5), 0, 0.1, 1, 2, 4, 2, 0.8)
    np.testing.assert_allclose(dry, 0.8 * 0.2 + 0.2 * 0.8, atol=1e-12)


# --- digital ---

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


# --- elastic and spatter ---


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


# --- score ---


def test_mean_corruption_error_is_its_formula():
    errors = {"fog": [0.1, 0.2, 0.3, 0.4, 0.5], "snow": [0.2, 0.2, 0.2, 0.2, 0.7], "frost": [0.6]}
    assert score.mean_corruption_error(errors) == pytest.approx((0.3 + 0.3 + 0.6) / 3)
    expected = (0.3 / 0.819324 + 0.3 / 0.866816 + 0.6 / 0.826572) / 3
    assert score.mean_corruption_error(errors, score.ALEXNET) == pytest.approx(expected)
    assert score.mean_corruption_error({n: [e] for n, e in score.ALEXNET.items()}, score.ALEXNET) == pytest.approx(1)
    assert tuple(score.ALEXNET) == CORRUPTIONS


@pytest.mark.parametrize(
    ("errors", "baseline"),
    [
        ({}, None),
        ({"fog": []}, None),
        ({"fog": [12.5]}, None),
        ({"fog": [float("nan")]}, None),
        ({"spatter": [0.1]}, score.ALEXNET),
        ({"fog": [0.1]}, {"fog": 0}),
        ({"fog": [0.1]}, {}),
    ],
)
def test_scores_that_mean_nothing_are_refused(errors, baseline):
    with pytest.raises(AmalgamError):
        score.mean_corruption_error(errors, baseline)
