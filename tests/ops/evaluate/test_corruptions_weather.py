"""Snow, frost and fog against their formulas."""

import numpy as np
import pytest

from ops.evaluate.corruptions import plasma, weather
from ops.evaluate.corruptions.draws import make_generators, to_unit
from ops.evaluate.corruptions.tables import parameters
from tests.ops.evaluate.test_corruptions import IMAGES, SEEDS


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
