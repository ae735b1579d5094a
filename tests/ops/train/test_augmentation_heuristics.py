"""Colour jitter against the closed forms of its factors, warps against scipy, and the order of both."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from ops.train.augmentation.apply import augment
from ops.train.augmentation.colour import turn_hue
from ops.train.augmentation.config import Augmentation, Colour, Geometry
from ops.train.augmentation.draws import symmetric
from ops.train.augmentation.geometry import random_warp, warp
from ops.train.augmentation.jitter import colour_jitter

GREY = np.array([0.299, 0.587, 0.114])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 12, height: int = 9, width: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=rng(5))


@settings(max_examples=60, deadline=None)
@given(
    colours=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=30),
    turns=st.floats(-0.5, 0.5, width=32),
)
def test_hue_turns_as_in_the_standard_library(colours, turns):
    """Pixel by pixel by colorsys; greys, which have no hue, stay."""
    x = torch.tensor(colours, dtype=torch.float32).T[None, :, None] / 255
    found = turn_hue(x, torch.tensor([turns]))[0, :, 0].T
    for pixel, colour in zip(found, colours, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
        expected = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
        np.testing.assert_allclose(pixel, expected, atol=2e-5)


def test_a_third_of_a_turn_exchanges_the_channels():
    x = images()
    torch.testing.assert_close(turn_hue(x, torch.full((12,), 1 / 3)), x.roll(1, dims=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(turn_hue(x, torch.zeros(12)), x, rtol=0, atol=1e-6)


def test_jitter_is_its_factors_one_after_the_other():
    """Factors drawn by the same generator, then the formulas of torchvision's tensors in numpy."""
    x, config = images(), Colour(brightness=0.4, contrast=0.6, saturation=0.8)
    found, source = colour_jitter(x, config, rng(1)), rng(1)
    bright, contrast, vivid = (1 + symmetric(12, s, source).numpy()[:, None, None, None] for s in (0.4, 0.6, 0.8))
    expected = np.clip(bright * x.numpy(), 0, 1)
    grey = np.einsum("c,nchw->nhw", GREY, expected)[:, None]
    expected = np.clip(contrast * expected + (1 - contrast) * grey.mean(axis=(2, 3), keepdims=True), 0, 1)
    grey = np.einsum("c,nchw->nhw", GREY, expected)[:, None]
    expected = np.clip(vivid * expected + (1 - vivid) * grey, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_image_has_a_factor_of_its_own_that_is_uniform():
    x = torch.full((2000, 3, 1, 1), 0.5)
    factors = (colour_jitter(x, Colour(brightness=0.25), rng())[:, 0, 0, 0] / 0.5).numpy()
    assert stats.kstest(factors, stats.uniform(0.75, 0.5).cdf).pvalue > 1e-3
    red = torch.tensor([1.0, 0, 0])[None, :, None, None].expand(2000, 3, 1, 1)
    turned = colour_jitter(red, Colour(hue=0.1), rng())[:, :, 0, 0].double().numpy()
    turns = np.array([(colorsys.rgb_to_hsv(*colour)[0] + 0.5) % 1 - 0.5 for colour in turned])
    assert stats.kstest(turns, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "grid-constant"), ("edge", "nearest")])
@pytest.mark.parametrize(("degrees", "scale", "shear"), [(30, 1, 0), (0, 1.3, 0), (0, 1, 20), (-50, 0.7, 35)])
def test_a_warp_is_that_of_scipy(padding, mode, degrees, scale, shear):
    """Forward matrices in (row, column), counter-clockwise on the screen: the turn, after the scale, after the shear."""
    x, angle = images(2), np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[1, 0], [-np.tan(np.deg2rad(shear)), 1]])
    back = np.linalg.inv(turn @ (scale * lean))
    middle = np.array([(9 - 1) / 2, (12 - 1) / 2])
    expected = [
        ndimage.affine_transform(channel.double().numpy(), back, middle - back @ middle, order=1, mode=mode)
        for channel in x.flatten(0, 1)
    ]
    each = (torch.full((2,), float(v)) for v in (degrees, scale, shear))
    found = warp(x, *each, padding).flatten(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_right_angle_is_a_right_angle():
    x = images(1, 8, 8)
    found = warp(x, torch.tensor([90.0]), torch.ones(1), torch.zeros(1), "zeros")
    torch.testing.assert_close(found, torch.rot90(x, 1, (2, 3)), rtol=0, atol=1e-5)


def test_random_warps_stay_in_their_ranges_and_differ():
    """A bright dot right of the middle says by how much its image was turned and scaled."""
    x = torch.zeros(300, 1, 41, 41)
    x[:, :, 20, 30] = 1
    found = random_warp(x, Geometry(rotation=20, scale=0.2), "zeros", rng())[:, 0]
    mass = found / found.sum(dim=(1, 2), keepdim=True)
    down, right = ((mass * c).sum(dim=(1, 2)) for c in (torch.arange(41.0)[:, None] - 20, torch.arange(41.0) - 20))
    degrees, factor = torch.rad2deg(torch.atan2(-down, right)), torch.hypot(down, right) / 10
    assert degrees.abs().max() < 20.5
    assert degrees.min() < -18
    assert degrees.max() > 18
    assert factor.min() > 0.78
    assert factor.max() < 1.22
    assert factor.max() - factor.min() > 0.35


def test_geometry_comes_before_colour_and_both_before_cutout():
    shape, colour = Geometry(rotation=30), Colour(brightness=0.5, hue=0.1)
    x, y = images(8, 12, 12), torch.eye(8)
    config = Augmentation(crop=0, flip=False, geometry=shape, colour=colour, padding="edge")
    source = rng(2)
    expected = colour_jitter(random_warp(x, shape, "edge", source), colour, source)
    torch.testing.assert_close(augment(x, y, config, rng(2))[0], expected)
    cut, _ = augment(x, y, config.model_copy(update={"cutout": 4, "fill": 0.125}), rng(2))
    painted = (cut == 0.125).all(dim=1)
    assert (painted.flatten(1).sum(dim=1) >= 4).all(), "its square has the colour that it was given"


def test_what_is_off_draws_nothing():
    source = rng()
    before = source.get_state()
    x = images()
    assert random_warp(x, Geometry(), "zeros", source) is x
    assert colour_jitter(x, Colour(), source) is x
    assert torch.equal(source.get_state(), before)
