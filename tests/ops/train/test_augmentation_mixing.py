"""Mixed images and targets, counted on pixels that say which image they come from."""

import numpy as np
import pytest
import torch
from scipy import stats

from ops.train.augmentation.config import Mixing
from ops.train.augmentation.draws import beta, shuffled_within, sub_batches
from ops.train.augmentation.mixing import beta_masks, mix, soft_circles

SIDES = (10, 12)
CUTMIX = [
    {"method": "cutmix"},
    {"method": "cutmix", "draw": "image"},
    {"method": "cutmix", "size": "window", "window": 5},
    {"method": "cutmix", "size": "window", "window": 6, "draw": "image"},
]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labelled(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images whose pixels tell where they come from (number, row, column), and one-hot targets: the number."""
    height, width = SIDES
    number, row, column = torch.meshgrid(torch.arange(count), torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([number, row, column], dim=1).float(), torch.eye(count)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 1.0, 4.0])
def test_beta_draws_have_their_distribution(alpha):
    draws = beta(4000, alpha, rng(1)).numpy()
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert np.array_equal(draws, beta(4000, alpha, rng(1)).numpy())


@pytest.mark.parametrize(("count", "splits"), [(8, 4), (10, 4), (3, 5), (1, 1), (0, 2)])
def test_sub_batches_cover_the_batch_evenly_and_shuffles_stay_inside(count, splits):
    sizes = sub_batches(count, splits)
    assert sizes == [len(part) for part in np.array_split(np.arange(count), splits) if len(part)]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    moved = shuffled_within(sizes, rng()).numpy()
    assert sorted(moved) == list(range(count))
    assert np.array_equal(owner[moved], owner)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("settings", CUTMIX, ids=str)
def test_cutmix_pastes_one_box_of_one_partner_and_weighs_by_its_pixels(settings, splits):
    x, y = labelled(20)
    owner = np.repeat(np.arange(splits), sub_batches(20, splits))
    source, pairs = rng(), 0
    for _ in range(30):
        found, mixed = mix(x, y, Mixing(**settings, splits=splits), source)
        assert torch.equal(found[:, 1:], x[:, 1:])  # a pasted pixel keeps its place
        came_from = found[:, 0].long()
        partners, boxes = [], []
        for n in range(20):
            pasted = came_from[n] != n
            weights = torch.bincount(came_from[n].flatten(), minlength=20) / pasted.numel()
            torch.testing.assert_close(mixed[n], weights, atol=1e-6, rtol=0)
            if pasted.any():
                rows, columns = np.nonzero(pasted.numpy())
                box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
                assert pasted.sum() == (box[1] - box[0]) * (box[3] - box[2])  # a full rectangle
                partner = came_from[n][pasted].unique().tolist()
                assert len(partner) == 1
                assert owner[partner[0]] == owner[n]
                partners += partner
                boxes.append((owner[n], box))
        assert len(set(partners)) == len(partners)  # from a permutation
        if "draw" not in settings:
            assert len({box for _, box in boxes}) <= len(dict(boxes)) <= splits  # one box for each sub-batch
        elif len(boxes) > 10:
            assert len({box for _, box in boxes}) > splits
        pairs += len(partners)
    assert pairs > 300


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_cutmix_boxes_have_the_areas_of_the_paper(alpha):
    """Sides floor(sqrt(1 - lambda) side) around a uniform pixel, clipped: areas against a simulation in numpy."""
    masks = beta_masks(alpha, 8000, *SIDES, rng(1), torch.device("cpu"))
    draws, sides = np.random.default_rng(0), np.array(SIDES)
    cut = np.floor(np.sqrt(1 - draws.beta(alpha, alpha, 20000))[:, None] * sides).astype(int)
    start = draws.integers(sides, size=(20000, 2)) - cut // 2
    areas = (np.minimum(start + cut, sides) - np.maximum(start, 0)).prod(axis=1)
    assert stats.ks_2samp(masks.sum(dim=(1, 2, 3)).round().numpy(), areas).pvalue > 1e-3


@pytest.mark.parametrize("window", [5, 6])
def test_cutmix_window_has_its_area_away_from_the_borders(window):
    x, y = labelled(60)
    found, mixed = mix(x, y, Mixing(method="cutmix", size="window", window=window, draw="image"), rng(3))
    inner = 0
    for n in range(60):
        rows, columns = np.nonzero((found[n, 0] != n).numpy())
        box = [rows.min(), columns.min(), SIDES[0] - 1 - rows.max(), SIDES[1] - 1 - columns.max()] if len(rows) else [0]
        if min(box) > 0:
            assert len(rows) == window**2
            assert float(mixed[n, n]) == pytest.approx(1 - window**2 / np.prod(SIDES), abs=1e-6)
            inner += 1
    assert inner >= 3


@pytest.mark.parametrize("draw", ["batch", "image"])
def test_mixup_is_one_convex_combination_of_images_and_targets(draw):
    x, y = torch.rand(12, 3, 6, 6, generator=rng(2)), torch.eye(12)
    found, mixed = mix(x, y, Mixing(method="mixup", alpha=1.0, draw=draw, splits=2), rng(4))
    torch.testing.assert_close(found.flatten(1), mixed @ x.flatten(1))
    assert ((mixed > 0).sum(1) <= 2).all()
    assert torch.equal(mixed[:6, 6:], torch.zeros(6, 6))
    assert torch.equal(mixed[6:, :6], torch.zeros(6, 6))
    own = mixed.diagonal()
    lambdas = {round(float(v), 5) for v in own[own < 1]}
    assert len(lambdas) <= 2 if draw == "batch" else len(lambdas) > 6


@pytest.mark.parametrize("draw", ["batch", "image"])
def test_mixup_lambda_is_beta(draw):
    x = torch.zeros(2000 if draw == "image" else 2, 3, 1, 1)
    y, source, found = torch.eye(len(x)), rng(), []
    for _ in range(1 if draw == "image" else 800):
        _, mixed = mix(x, y, Mixing(method="mixup", alpha=0.4, draw=draw), source)
        own = mixed.diagonal()
        found += own[own < 1].tolist() if draw == "image" else own[:1][own[:1] < 1].tolist()
    assert len(found) > 300
    # lambda near 1 rounds to 1 in float32 and cannot be told from an image that is its own partner
    below = np.array(found)[np.array(found) < 0.99]
    cdf = stats.beta(0.4, 0.4).cdf
    assert stats.kstest(below, lambda v: cdf(v) / cdf(0.99)).pvalue > 1e-3


@pytest.mark.parametrize("settings", [{}, {"draw": "image"}, {"draw": "image", "splits": 3}], ids=str)
def test_ricap_puts_four_crops_together_and_weighs_by_their_areas(settings):
    x, y = labelled(20)
    splits = settings.get("splits", 1)
    owner = np.repeat(np.arange(splits), sub_batches(20, splits))
    points, crops, source = set(), set(), rng(1)
    for _ in range(10):
        found, mixed = mix(x, y, Mixing(method="ricap", alpha=0.7, **settings), source)
        points_here = set()
        for n in range(20):
            number, row, column = found[n].long().numpy()
            weights = np.bincount(number.flatten(), minlength=20)
            assert weights.sum() == np.prod(SIDES)
            np.testing.assert_allclose(mixed[n].numpy(), weights / np.prod(SIDES), atol=1e-6)
            assert (owner[np.unique(number)] == owner[n]).all()
            h, w = _cut(number, row, column)
            for part in np.ndindex(2, 2):
                box = (slice(0, h) if part[0] == 0 else slice(h, None), slice(0, w) if part[1] == 0 else slice(w, None))
                if number[box].size:
                    assert len(np.unique(number[box])) == 1
                    top, left = row[box].min(), column[box].min()  # a plain crop: its rows and columns are consecutive
                    height, width = number[box].shape
                    expected = np.meshgrid(np.arange(top, top + height), np.arange(left, left + width), indexing="ij")
                    assert np.array_equal(row[box], expected[0])
                    assert np.array_equal(column[box], expected[1])
                    crops |= {(0, top, top + height)} if height < SIDES[0] else set()
                    crops |= {(1, left, left + width)} if width < SIDES[1] else set()
            points_here.add((h, w))
        if not settings:
            assert len(points_here) == 1
        points |= points_here
    assert len(points) >= 8
    for axis, side in enumerate(SIDES):  # crops that are smaller than the image reach both of its borders
        assert {0, 1, 2} <= {start for along, start, _ in crops if along == axis}
        assert side in {end for along, _, end in crops if along == axis}


def _cut(number: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[int, int]:
    """Return where the composition is cut: the first row and column at which pixels stop being neighbours."""
    down = (np.diff(row, axis=0) != 1) | (np.diff(number, axis=0) != 0) | (np.diff(column, axis=0) != 0)
    across = (np.diff(column, axis=1) != 1) | (np.diff(number, axis=1) != 0) | (np.diff(row, axis=1) != 0)
    rows, columns = np.nonzero(down.any(axis=1))[0], np.nonzero(across.any(axis=0))[0]
    assert len(rows) <= 1
    assert len(columns) <= 1
    return int(rows[0]) + 1 if len(rows) else 0, int(columns[0]) + 1 if len(columns) else 0


def test_ricap_cuts_at_beta_shares_of_the_sides():
    count, side = 2000, 40
    x = torch.zeros(count, 3, side, 1)
    x[:, 0], x[:, 1] = torch.arange(count)[:, None, None], torch.arange(side)[:, None]
    found, _ = mix(x, torch.ones(count, 1), Mixing(method="ricap", alpha=0.5, draw="image"), rng(3))
    number, row = found[:, 0, :, 0].numpy(), found[:, 1, :, 0].numpy()
    image, cuts = np.nonzero((np.diff(row, axis=1) != 1) | (np.diff(number, axis=1) != 0))
    assert len(image) == len(set(image))  # never more than one cut
    counts = np.bincount(cuts + 1, minlength=side + 1)
    counts[0] = count - counts.sum()
    edges = np.arange(1, side + 1) - 0.5  # a cut at k means that 40 share was rounded to k
    cdf = stats.beta(0.5, 0.5).cdf(np.concatenate([[0.0], edges, [side]]) / side)
    expected = np.diff(cdf)
    ends = expected[0] + expected[-1]  # both ends are images in one piece
    assert stats.chisquare(counts[:side], np.append(ends, expected[1:-1]) * count).pvalue > 1e-3


def test_soft_circles_are_gaussian_bells_around_uniform_centres():
    """The log of a circular Gaussian has the curvature -1/s^2 everywhere, and its slope at the corner tells the centre."""
    log = soft_circles(1500, *SIDES, rng(2), torch.device("cpu"))[:, 0].double().log().numpy()
    bends = np.concatenate(
        [np.diff(log, 2, axis=1).reshape(1500, -1), np.diff(log, 2, axis=2).reshape(1500, -1)], axis=1
    )
    spread = 1 / np.sqrt(-bends.mean(axis=1))
    np.testing.assert_allclose(bends * spread[:, None] ** 2, -1, atol=1e-3)
    low, high = 0.25 * min(SIDES), 0.5 * min(SIDES)
    assert stats.kstest(spread, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    row = 1 + spread**2 * (log[:, 1, 0] - log[:, 0, 0])
    column = 1 + spread**2 * (log[:, 0, 1] - log[:, 0, 0])
    for centre, side in ((row, SIDES[0]), (column, SIDES[1])):
        assert stats.kstest(centre, stats.uniform(0, side).cdf).pvalue > 1e-3


@pytest.mark.parametrize("draw", ["batch", "image"])
def test_soft_circles_weigh_targets_by_the_mean_of_the_mask(draw):
    """The mean colour of a composition of flat images is mixed just as the targets are."""
    colours = torch.rand(16, 3, 1, 1, generator=rng(1))
    found, mixed = mix(colours.expand(16, 3, *SIDES), torch.eye(16), Mixing(method="smoothmix", draw=draw), rng(2))
    torch.testing.assert_close(found.mean(dim=(2, 3)), mixed @ colours[:, :, 0, 0])
    assert found.flatten(2).std(dim=2).max() > 0.05
    shares = {round(float(v), 4) for v in mixed[mixed > 0] if v < 0.9999}
    assert len(shares) == 2 if draw == "batch" else len(shares) > 20


def test_none_returns_what_it_was_given():
    x, y = labelled(4)
    found, mixed = mix(x, y, Mixing(), rng())
    assert found is x
    assert mixed is y
