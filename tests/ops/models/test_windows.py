"""Answers from remembered maps against the whole network's."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models import windows
from ops.models.config import Architecture
from ops.models.windows import remember
from tests.ops.models.drawn import network, photographs

NETWORKS = {
    "preact": Architecture(widths=[16, 32], blocks=[2, 1], stem_stride=1),
    "halving": Architecture(widths=[32, 32], blocks=[1, 1], stem_stride=2),
    "wide": Architecture(family="wide_resnet", depth=10, width=1),
    "wider": Architecture(family="wide_resnet", depth=10, width=2),
}


@torch.no_grad()
@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    height=st.integers(12, 24),
    width=st.integers(12, 24),
    squares=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_search_gets_the_answers_of_the_whole_network(name, height, width, squares, seed):
    """Squares of any place and side, together or one by one in an image, some of them kept, some images leaving."""
    height, width = (side - side % NETWORKS[name].stem_stride for side in (height, width))
    model, rng = network(NETWORKS[name]), torch.Generator().manual_seed(seed)
    x = photographs(9, height, width, seed)
    known = remember(model, x, min(height, width) // 2)
    assert known is not None
    rows = torch.arange(len(x)).repeat(seed % 3 + 1)
    known.spread(rows)
    for number in range(6):
        side = int(torch.randint(1, min(height, width) // 2 + 1, (), generator=rng))
        top = torch.randint(0, height - side + 1, (len(rows), squares), generator=rng)
        left = torch.randint(0, width - side + 1, (len(rows), squares), generator=rng)
        proposal = x[rows]
        for row, (down, across) in enumerate(zip(top, left, strict=True)):
            for i, j in zip(down, across, strict=True):
                part = proposal[row, :, i : i + side, j : j + side]
                part.copy_(torch.rand(part.shape, generator=rng))
        expected = model(proposal)
        with known.changed(top, left, side):
            torch.testing.assert_close(model(proposal), expected, rtol=0, atol=2e-6 * float(expected.abs().max()))
        chosen = torch.zeros(len(rows), dtype=torch.bool)
        for image in (torch.rand(len(x), generator=rng) < 0.5).nonzero():
            (its,) = (rows == image).nonzero(as_tuple=True)
            chosen[its[torch.randint(0, len(its), (), generator=rng)]] = True
        known.keep(chosen)
        x[rows[chosen]] = proposal[chosen]
        if number == 2:
            order = torch.tensor([0, 8, 2, 3, 7, 5, 6])
            x, known = x[order], known.only(order)
            rows = torch.tensor([3, 0, 1, 2, 3, 6, 5, 4, 0, 3])
            known.spread(rows)


@torch.no_grad()
def test_answers_do_not_depend_on_the_batch():
    model, x, proposal = network(NETWORKS["wide"]), photographs(12, 16, 16, 0), photographs(12, 16, 16, 1)
    top, answers = torch.tensor([[n, 11 - n] for n in range(12)]), []
    left = top.flip(0)
    for some in (slice(0, 12), slice(4, 12)):
        known = remember(model, x[some], 4)
        assert known is not None
        known.spread(torch.arange(len(x[some])))
        for _ in range(2):
            with known.changed(top[some], left[some], 4):
                answers.append(model(proposal[some])[-8:])
            known.keep(torch.arange(12)[some] % 2 == 0)
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(answers[1], answers[3])


@torch.no_grad()
def test_only_what_a_square_reaches_is_computed(monkeypatch):
    """Two pixels reach 3 pixels each after the stem and 5, 7, ... after each convolution: counted by brute force."""
    model, side = network(NETWORKS["preact"]), 32
    x = photographs(1, side, side, 0)
    known, asked, convolve = remember(model, x, 1), [], windows.winograd.convolve_tiles
    known.spread(torch.tensor([0]))

    def recorded(*given, then):
        asked.append(set(given[3].tolist()))
        convolve(*given, then=then)

    monkeypatch.setattr(windows.winograd, "convolve_tiles", recorded)
    with known.changed(torch.tensor([[13, 4]]), torch.tensor([[31, 9]]), 1):
        model(x)
    changed = torch.zeros(1, 1, side, side)
    changed[0, 0, [13, 4], [31, 9]] = 1
    expected = []
    for _ in range(5):
        changed = (F.conv2d(changed, torch.ones(1, 1, 3, 3), padding=1) > 0).float()
        expected.append(set(F.max_pool2d(changed, 4).flatten().nonzero().flatten().tolist()))
    assert asked[:4] == expected[1:]


def test_of_more_squares_smaller_ones_are_remembered():
    model, x = network(NETWORKS["preact"]), photographs(8, 16, 16, 0)
    assert [remember(model, x, side, squares=2) is not None for side in (4, 5)] == [True, False]


def test_maps_stop_where_memory_ends(monkeypatch):
    model, x = network(NETWORKS["preact"]), photographs(8, 16, 16, 0)
    maps = 2 * 8 * 16 * 16 * 16 * 4  # kept and tried: two before the blocks, and three of each
    for memory, blocks in ((8 * maps, 2), (8 * maps - 1, 1)):
        monkeypatch.setattr(windows, "MAPS_BYTES", memory)
        assert len(remember(model, x, 4).kept) == 2 + 3 * blocks
    monkeypatch.setattr(windows, "MAPS_BYTES", 4 * maps - 1)
    assert remember(model, x, 4) is None


@pytest.mark.parametrize(
    ("model", "side", "what"),
    [
        (network(NETWORKS["preact"]), 9, "a square that reaches most of an image"),
        (network(NETWORKS["preact"]).train(), 4, "statistics of the batch"),
        (network(NETWORKS["preact"]).double(), 4, "double precision"),
        (network(Architecture(widths=[16], blocks=[1], stem_stride=3)), 4, "a stem of another stride"),
        (network(Architecture(widths=[16], blocks=[1], stem_stride=1, activation="relu")), 4, "another activation"),
        (network(Architecture(widths=[8], blocks=[1], stem_stride=1)), 4, "channels that fill no vector"),
        (nn.Sequential(network(NETWORKS["preact"])), 4, "a network of another kind"),
    ],
)
def test_what_is_not_remembered(model, side, what):
    x = photographs(8, 16, 16, 0)
    dtype = next(model.parameters()).dtype
    assert remember(model.requires_grad_(False), x.to(dtype), side) is None, what
