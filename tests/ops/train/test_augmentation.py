"""Augmentation as a whole, and its base: crops, mirror images, Cutout."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ops.errors import AmalgamError
from ops.train.augmentation.apply import augment
from ops.train.augmentation.boxes import cutout
from ops.train.augmentation.config import Augmentation
from ops.train.augmentation.geometry import mirror, random_crop

FORMATS = (torch.contiguous_format, torch.channels_last)
OFF = {"crop": 0, "flip": False}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 12, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=rng(5)) / 255


def targets(count: int = 12, classes: int = 5) -> torch.Tensor:
    return torch.eye(classes)[torch.randint(0, classes, (count,), generator=rng(6))]


@pytest.mark.parametrize("memory", FORMATS, ids=str)
@pytest.mark.parametrize("padding", ["zeros", "edge"])
def test_crops_are_windows_of_the_padded_image(padding, memory):
    """Every result is found, by brute force, among all windows; over many draws every window is found."""
    x = images(4, 6, 7).contiguous(memory_format=memory)
    mode = "constant" if padding == "zeros" else "edge"
    padded = [np.pad(image.numpy(), [(0, 0), (2, 2), (2, 2)], mode=mode) for image in x]
    seen, source = [set() for _ in x], rng()
    for _ in range(200):
        for n, found in enumerate(random_crop(x, 2, padding, source)):
            matches = [
                (i, j)
                for i, j in itertools.product(range(5), range(5))
                if np.array_equal(found.numpy(), padded[n][:, i : i + 6, j : j + 7])
            ]
            assert len(matches) == 1
            seen[n].add(matches[0])
    assert all(len(corners) == 25 for corners in seen)  # a corner is missed with probability 25 (24/25)^200 < 1 %


def test_images_of_a_batch_are_cropped_independently():
    x = images(1, 8, 8).expand(64, 3, 8, 8)
    found = random_crop(x, 3, "zeros", rng())
    assert len({image.numpy().tobytes() for image in found}) > 30  # of 49 windows


def test_half_of_the_images_are_mirrored():
    x = images(400, 4, 5)
    found = mirror(x, rng())
    flipped = np.array([np.array_equal(f, i[:, :, ::-1]) for f, i in zip(found.numpy(), x.numpy(), strict=True)])
    kept = np.array([np.array_equal(f, i) for f, i in zip(found.numpy(), x.numpy(), strict=True)])
    assert (flipped ^ kept).all()
    assert 160 <= flipped.sum() <= 240  # four standard deviations


@pytest.mark.parametrize("window", [1, 4, 5])
def test_cutout_paints_one_clipped_square_around_a_uniform_pixel(window):
    """Positions and areas against counts over all centres."""
    x = images(3000, 8, 9)
    found = cutout(x + 2, window, 0.5, rng())  # no pixel has the colour of the square before
    painted = (found == 0.5).all(dim=1)
    assert torch.equal(found[~painted[:, None].expand_as(found)], (x + 2)[~painted[:, None].expand_as(x)])
    expected = {}
    for row, column in itertools.product(range(8), range(9)):
        mask = np.zeros((8, 9), dtype=bool)
        top, left = row - window // 2, column - window // 2
        mask[max(top, 0) : top + window, max(left, 0) : left + window] = True
        expected[mask.tobytes()] = expected.get(mask.tobytes(), 0) + 1 / 72
    keys, counts = np.unique([mask.tobytes() for mask in painted.numpy()], return_counts=True)
    assert set(keys) == {key.rstrip(b"\0") for key in expected}  # numpy drops trailing zero bytes
    frequency = {key.rstrip(b"\0"): value for key, value in expected.items()}
    for key, count in zip(keys, counts, strict=True):
        sigma = np.sqrt(3000 * frequency[key] * (1 - frequency[key]))
        assert abs(count - 3000 * frequency[key]) < 5 * sigma
    assert painted.flatten(1).sum(1).max() == window**2


def test_cutout_takes_its_colour_from_the_recipe_and_comes_after_the_policy():
    config = Augmentation(**OFF, policy={"name": "randaugment", "magnitude": 30}, cutout=16, fill=0.25)
    found, _ = augment(images(40), targets(40), config, rng())
    assert ((found == 0.25).all(dim=1).flatten(1).sum(1) >= 64).all()  # at least a quarter of a window of 16


def configurations() -> st.SearchStrategy[Augmentation]:
    policies = st.one_of(
        st.just({"name": "autoaugment"}),
        st.just({}),
        st.builds(
            lambda n, m: {"name": "randaugment", "num_ops": n, "magnitude": m}, st.integers(1, 3), st.integers(0, 30)
        ),
    )
    common = {"draw": st.sampled_from(["batch", "image"]), "splits": st.integers(1, 5)}
    alpha = st.floats(0.05, 5)
    some = st.sampled_from([0.0, 0.3])
    geometries = st.fixed_dictionaries({"rotation": st.sampled_from([0.0, 180.0]), "scale": some, "shear": some})
    colours = st.fixed_dictionaries(dict.fromkeys(["brightness", "contrast", "saturation", "hue"], some))
    mixings = st.one_of(
        st.just({}),
        st.fixed_dictionaries({"method": st.sampled_from(["cutmix", "mixup", "ricap"]), "alpha": alpha, **common}),
        st.fixed_dictionaries(
            {"method": st.just("cutmix"), "size": st.just("window"), "window": st.integers(1, 6), **common}
        ),
        st.fixed_dictionaries({"method": st.just("smoothmix"), **common}),
    )
    return st.builds(
        Augmentation,
        crop=st.integers(0, 4),
        padding=st.sampled_from(["zeros", "edge"]),
        flip=st.booleans(),
        geometry=geometries,
        colour=colours,
        policy=policies,
        cutout=st.integers(0, 6),
        fill=st.sampled_from([0.0, 0.5]),
        mixing=mixings,
    )


@settings(max_examples=120, deadline=None)
@given(
    config=configurations(),
    count=st.integers(1, 9),
    size=st.tuples(st.integers(6, 9), st.integers(6, 9)),
    memory=st.sampled_from(FORMATS),
    seed=st.integers(0, 2**31),
)
def test_every_configuration_keeps_the_contract(config, count, size, memory, seed):
    """Ranges, sums, shapes, dtypes and memory format; arguments untouched; all randomness from the generator given."""
    x, y = images(count, *size).contiguous(memory_format=memory), targets(count)
    x_before, y_before, state = x.clone(), y.clone(), torch.get_rng_state()
    found, mixed = augment(x, y, config, rng(seed))
    assert found.shape == x.shape
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=memory)
    assert found.min() >= 0
    assert found.max() <= 1
    assert mixed.shape == y.shape
    assert mixed.dtype == torch.float32
    assert mixed.min() >= 0
    torch.testing.assert_close(mixed.sum(1), torch.ones(count))
    if not config.mixes_targets:
        assert torch.equal(mixed, y)
    again, mixed_again = augment(x, y, config, rng(seed))
    assert torch.equal(found, again)
    assert torch.equal(mixed, mixed_again)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert torch.equal(torch.get_rng_state(), state)


@settings(max_examples=30, deadline=None)
@given(config=configurations(), seed=st.integers(0, 2**31))
def test_memory_format_does_not_change_the_result(config, seed):
    x, y = images(6, 8, 8), targets(6)
    plain, _ = augment(x, y, config, rng(seed))
    last, _ = augment(x.contiguous(memory_format=torch.channels_last), y, config, rng(seed))
    torch.testing.assert_close(plain, last, atol=1e-6, rtol=0)


def test_all_off_changes_nothing_and_draws_nothing():
    source = rng()
    before = source.get_state()
    x, y = augment(images(), targets(), Augmentation(**OFF), source)
    assert torch.equal(x, images())
    assert torch.equal(y, targets())
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"crop": 17}, "crop"),
        ({"cutout": 17}, "cutout"),
        ({"mixing": {"method": "cutmix", "size": "window"}}, "mixing.window is 20"),
    ],
)
def test_windows_larger_than_the_images_are_named(changes, key):
    with pytest.raises(AmalgamError, match=key):
        augment(images(), targets(), Augmentation(**changes), rng())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixing": {"window": 18}}, "window is set.*method is none.*method: cutmix"),
        ({"mixing": {"method": "cutmix", "window": 18}}, "window is set.*size: window"),
        ({"mixing": {"method": "cutmix", "size": "window", "alpha": 0.3}}, "alpha is set.*size: beta"),
        ({"mixing": {"method": "mixup", "size": "window"}}, "size is set.*method: cutmix"),
        ({"policy": {"magnitude": 12}}, "magnitude is set.*name: randaugment"),
        ({"mixing": {"method": "cutmx"}}, "cutmix"),
        ({"cut_out": 18}, "cut_out"),
        ({"policy": {"name": "randaugment", "magnitude": 31}}, "magnitude"),
    ],
)
def test_settings_without_effect_are_errors_that_name_what_was_meant(changes, message):
    with pytest.raises(ValidationError, match=message):
        Augmentation(**changes)


@settings(max_examples=50, deadline=None)
@given(configurations())
def test_a_configuration_survives_its_own_dump(config):
    """Model cards hold dumped recipes; dumps name every key, also those without effect."""
    assert Augmentation.model_validate(config.model_dump(mode="json")) == config
