"""RandAugment and AutoAugment: operations against PIL, draws against their probabilities."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import stats

from ops.train.augmentation import colour, moves
from ops.train.augmentation.config import Policy
from ops.train.augmentation.policy import (
    OPERATIONS,
    RANDAUGMENT,
    apply_operations,
    apply_policy,
    autoaugment,
    cifar10_policy,
    randaugment,
)

COUNT, HEIGHT, WIDTH = 24, 40, 33  # more than 4 * 255 pixels, so that equalize has steps to round


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Images (N, H, W, 3) uint8: noise, smooth low-contrast pictures, few colours, constants."""
    draws = np.random.default_rng(0)
    found = draws.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for n in range(6, 14):
        small = Image.fromarray(draws.integers(60, 190, (4, 4, 3), dtype=np.uint8))
        found[n] = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    found[14:18] = draws.choice(np.array([0, 100, 255], dtype=np.uint8), (4, HEIGHT, WIDTH, 3))
    found[18:20] = np.array([[200], [17]], dtype=np.uint8)[:, :, None, None]
    found[20, :, :, 0] = 255
    return found


@pytest.fixture(scope="module")
def batch(pictures) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def error(found: torch.Tensor, pictures: np.ndarray, reference) -> float:
    """Return the largest difference from PIL's results, in units of 1/255; `reference` maps (number, image) to one."""
    expected = np.stack([np.asarray(reference(n, Image.fromarray(p))) for n, p in enumerate(pictures)])
    return float(np.abs(found.permute(0, 2, 3, 1).numpy() * 255 - expected).max())


def test_equalize_and_posterize_and_invert_are_those_of_pil_exactly(batch, pictures):
    bits = torch.arange(COUNT) % 8 + 1
    assert error(colour.equalize(batch), pictures, lambda n, i: ImageOps.equalize(i)) < 1e-3
    assert error(colour.posterize(batch, bits), pictures, lambda n, i: ImageOps.posterize(i, int(bits[n]))) < 1e-3
    assert error(colour.invert(batch), pictures, lambda n, i: ImageOps.invert(i)) < 1e-3


def test_solarize_is_that_of_pil_exactly(batch, pictures):
    threshold = torch.linspace(0, 1, COUNT)
    found = colour.solarize(batch, threshold)
    assert error(found, pictures, lambda n, i: ImageOps.solarize(i, float(threshold[n]) * 256)) < 1e-3
    assert torch.equal(colour.solarize(batch, torch.ones(COUNT)), batch)


def test_autocontrast_is_that_of_pil_within_one_level(batch, pictures):
    assert error(colour.autocontrast(batch), pictures, lambda n, i: ImageOps.autocontrast(i)) <= 1 + 1e-3


@pytest.mark.parametrize(
    ("operation", "enhancer", "levels"),
    [
        (colour.saturation, ImageEnhance.Color, 2),
        (colour.contrast, ImageEnhance.Contrast, 2),
        (colour.brightness, ImageEnhance.Brightness, 1),
        (colour.sharpness, ImageEnhance.Sharpness, 2),
    ],
    ids=["color", "contrast", "brightness", "sharpness"],
)
def test_enhancements_are_those_of_pil_within_two_levels(operation, enhancer, levels, batch, pictures):
    """PIL rounds its grey or smoothed copy and cuts the result to whole levels: below 1.5 levels together."""
    factor = torch.linspace(0.1, 1.9, COUNT)
    found = operation(batch, factor)
    assert error(found, pictures, lambda n, i: enhancer(i).enhance(float(factor[n]))) <= levels + 1e-3
    torch.testing.assert_close(operation(batch, torch.ones(COUNT)), batch)


def test_smoothing_is_that_of_pil(batch, pictures):
    found = colour.sharpness(batch, torch.zeros(COUNT))
    assert error(found, pictures, lambda n, i: i.filter(ImageFilter.SMOOTH)) <= 0.5 + 1e-3


def test_images_too_small_to_smooth_stay():
    x = torch.rand(3, 3, 2, 2, generator=rng())
    torch.testing.assert_close(colour.sharpness(x, torch.tensor([0.1, 1.0, 1.9])), x)


def test_moves_are_the_affine_maps_of_pil_to_the_nearest_pixel(batch, pictures):
    """PIL counts in 1/65536 of a pixel, so that single pixels whose source lies on an edge may differ: below 0.5 %."""
    values = torch.linspace(-0.3, 0.3, COUNT)
    degrees = 100 * values
    cases = {
        "shear_x": (moves.shear_x(batch, values, 0.2), lambda v: (1, v, 0, 0, 1, 0)),
        "shear_y": (moves.shear_y(batch, values, 0.2), lambda v: (1, 0, 0, v, 1, 0)),
        "translate_x": (moves.translate_x(batch, values, 0.2), lambda v: (1, 0, int(v * WIDTH), 0, 1, 0)),
        "translate_y": (moves.translate_y(batch, values, 0.2), lambda v: (1, 0, 0, 0, 1, int(v * HEIGHT))),
    }
    fill = (51, 51, 51)  # 0.2
    for name, (found, matrix) in cases.items():
        expected = [
            Image.fromarray(p).transform(
                (WIDTH, HEIGHT), Image.Transform.AFFINE, matrix(float(v)), Image.Resampling.NEAREST, fillcolor=fill
            )
            for p, v in zip(pictures, values, strict=True)
        ]
        assert_same_but_for_few(found, expected, name, 0.0 if "translate" in name else 0.005)
    turned = [
        Image.fromarray(p).rotate(float(v), Image.Resampling.NEAREST, fillcolor=fill)
        for p, v in zip(pictures, degrees, strict=True)
    ]
    assert_same_but_for_few(moves.rotate(batch, degrees, 0.2), turned, "rotate", 0.005)


def assert_same_but_for_few(found: torch.Tensor, expected: list[Image.Image], name: str, share: float) -> None:
    wanted = np.stack([np.asarray(image) for image in expected])
    differs = np.abs(found.permute(0, 2, 3, 1).numpy() * 255 - wanted).max(axis=3) > 1e-3
    assert differs.mean() <= share, name


def test_strengths_reach_the_ranges_of_the_papers(batch):
    """At strength 1 the operations are PIL's with the published extremes; at 0 all moves and factors do nothing."""
    one, zero = torch.ones(COUNT), torch.zeros(COUNT)
    expected = {
        "rotate": moves.rotate(batch, 30 * one, 0.5),
        "solarize": 1 - batch,
        "posterize": ((batch * 255).round() / 16).floor() * 16 / 255,
        "brightness": (1.9 * batch).clamp(0, 1),
        "shear_x": moves.shear_x(batch, 0.3 * one, 0.5),
        "translate_x": moves.affine(batch, torch.tensor([[1.0, 0, 10, 0, 1, 0]]).repeat(COUNT, 1), 0.5),  # 10/32 of 33
    }
    for name, wanted in expected.items():
        torch.testing.assert_close(OPERATIONS[name](batch, one, 0.5), wanted, msg=name)
    for name in set(RANDAUGMENT) - {"autocontrast", "equalize"}:
        torch.testing.assert_close(OPERATIONS[name](batch, zero, 0.5), batch, msg=name)


def test_operations_reach_only_the_images_they_were_drawn_for(batch):
    names = list(OPERATIONS)
    chosen, strength = torch.arange(COUNT) % len(names), torch.linspace(-1, 1, COUNT)
    found = apply_operations(batch, names, chosen, strength, 0.5)
    for n in range(COUNT):
        alone = OPERATIONS[names[chosen[n]]](batch[n : n + 1], strength[n : n + 1], 0.5)
        torch.testing.assert_close(found[n : n + 1], alone)


def test_randaugment_draws_its_fourteen_operations_evenly(monkeypatch):
    drawn = _recorded(monkeypatch, lambda x: randaugment(x, 2, 15, 0.5, rng()))
    assert len(RANDAUGMENT) == len(set(RANDAUGMENT)) == 14
    counts = np.bincount(np.concatenate([number for number, _ in drawn]), minlength=14)
    assert counts.sum() == 2 * 5000
    assert stats.chisquare(counts).pvalue > 1e-3
    first, second = drawn[0][0], drawn[1][0]
    table = np.histogram2d(first, second, bins=14)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3  # the operations of an image are independent
    strengths = np.concatenate([s for _, s in drawn])
    assert set(np.unique(strengths)) == {-0.5, 0.5}
    assert abs((strengths > 0).mean() - 0.5) < 0.025


def test_autoaugment_draws_the_published_policy(monkeypatch):
    """Frequencies of (first, second) operations against the probabilities of the table."""
    drawn = _recorded(monkeypatch, lambda x: autoaugment(x, 0.5, rng(1)))
    operations, probabilities, _ = cifar10_policy()
    size = len(OPERATIONS)
    expected = np.zeros((size, size))
    for (a, b), (p, q) in zip(operations.tolist(), probabilities.tolist(), strict=True):
        for i, pi in ((a, p), (0, 1 - p)):
            for j, qj in ((b, q), (0, 1 - q)):
                expected[i, j] += pi * qj / 25
    found = np.histogram2d(drawn[0][0], drawn[1][0], bins=size, range=[[0, size], [0, size]])[0]
    assert found[expected < 1e-9].sum() == 0
    large = expected * 5000 > 5
    rest = [found[~large].sum()], [5000 * expected[~large].sum()]
    observed, wanted = np.append(found[large], rest[0]), np.append(5000 * expected[large], rest[1])
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


def _recorded(monkeypatch, run) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the operations and strengths drawn for 5000 images in each round."""
    drawn = []

    def record(x, names, chosen, strength, fill):
        drawn.append((chosen.numpy(), strength.numpy()))
        return x

    monkeypatch.setattr("ops.train.augmentation.policy.apply_operations", record)
    run(torch.zeros(5000, 3, 1, 1))
    return drawn


def test_the_table_has_the_facts_of_the_published_policy():
    """25 sub-policies; how often each operation occurs, counted by hand, and all lines of one of them."""
    operations, probabilities, strengths = cifar10_policy()
    names = list(OPERATIONS)
    assert operations.shape == probabilities.shape == strengths.shape == (25, 2)
    count = {name: int((operations == k).sum()) for k, name in enumerate(names)}
    assert count == {
        "identity": 0, "autocontrast": 7, "equalize": 9, "rotate": 1, "solarize": 4, "color": 5, "posterize": 1,
        "contrast": 2, "brightness": 4, "sharpness": 5, "shear_x": 0, "shear_y": 2, "translate_x": 2,
        "translate_y": 5, "invert": 3,
    }  # fmt: skip
    assert (strengths * 9 - (strengths * 9).round()).abs().max() < 1e-6
    mine = operations == names.index("translate_y")
    assert (strengths[mine] * 9).round().tolist() == [9, 3, 9, 9, 9]
    torch.testing.assert_close(probabilities[mine], torch.tensor([0.7, 0.4, 0.9, 0.7, 0.7]))


def test_policies_change_most_images_and_follow_from_the_generator(batch):
    for policy in (Policy(name="randaugment", magnitude=20), Policy(name="autoaugment")):
        found = apply_policy(batch, policy, 0.5, rng(3))
        changed = (found != batch).flatten(1).any(1).sum()
        assert changed > COUNT / 2
        assert torch.equal(found, apply_policy(batch, policy, 0.5, rng(3)))
        assert not torch.equal(found, apply_policy(batch, policy, 0.5, rng(4)))
    assert apply_policy(batch, Policy(), 0.5, rng()) is batch
