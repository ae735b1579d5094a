"""What corruptions promise to callers, whichever they are; and the score."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from ops.errors import AmalgamError
from ops.evaluate.corruptions import apply, score
from ops.evaluate.corruptions.apply import corrupt
from ops.evaluate.corruptions.draws import make_generators
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
