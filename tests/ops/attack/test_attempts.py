"""Attempts side by side, and queries asked ahead, against the same one after another."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.attack.attacks import Attack
from ops.attack.attempts import Attempts, Found, attempt_in_turn, restart_seeds
from ops.attack.run import run_attack
from ops.attack.square_patches import CHUNK, side_of_square
from ops.attack.square_queries import PASS_ROWS, Ahead, Stretch, stretches
from ops.attack.threat import Threat
from tests.ops.attack.test_attacks import batch, net

LINF, L2, L1 = (Threat(norm=n, eps=e) for n, e in (("linf", 6 / 255), ("l2", 0.25), ("l1", 0.9)))
ATTACKS = [
    ({"name": "pgd", "steps": 6, "restarts": 5}, LINF),
    ({"name": "multitargeted", "steps": 6, "targets": 3, "restarts": 2}, LINF),
    ({"name": "apgd-ce", "steps": 8, "restarts": 5}, L2),
    ({"name": "apgd-ce", "steps": 10, "restarts": 4}, L1),
    ({"name": "apgd-dlr", "steps": 8, "restarts": 5}, LINF),
    ({"name": "apgd-t", "steps": 8, "targets": 3}, LINF),
    ({"name": "apgd-t", "steps": 10, "targets": 3}, L1),
    ({"name": "fab", "steps": 6, "restarts": 4}, LINF),
    ({"name": "fab-t", "steps": 6, "targets": 3, "restarts": 2}, LINF),
    ({"name": "square", "steps": 400}, Threat(norm="linf", eps=14 / 255)),
    ({"name": "square", "steps": 400}, Threat(norm="l2", eps=1)),
    ({"name": "square", "steps": 400}, Threat(norm="l1", eps=2.5)),
]


class OneByOne(nn.Module):
    """A network whose answers do not depend on the batch, to the last bit, and which knows how large batches were."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.asked = net(), list[int]()

    def forward(self, x):
        self.asked.append(len(x))
        return torch.cat([self.inner(each) for each in x.split(1)])


@pytest.mark.parametrize(("chosen", "threat"), ATTACKS, ids=lambda v: v["name"] if isinstance(v, dict) else str(v))
def test_what_is_found_side_by_side_is_what_is_found_in_turn(chosen, threat):
    attack, (x, _), seeds, found, passes, calls = Attack(**chosen), batch(20), torch.arange(20), [], [], []
    y = net()(x).argmax(dim=1)
    for room in (20, 50, 200):
        model = OneByOne()
        passes.append(torch.zeros(20, dtype=torch.int64))
        found.append(run_attack(model, attack, x, y, threat, seeds, passes[-1], room))
        assert max(model.asked) <= room
        calls.append(len(model.asked))
    fell = net()(found[0]).argmax(dim=1) != y
    assert 2 < fell.sum() < 18, "the test needs both kinds"
    assert calls[0] > calls[1] > calls[2]
    for other in (1, 2):
        assert torch.equal(found[0], found[other])
        assert torch.equal(passes[0], passes[other])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 7), st.integers(1, 40), st.integers(0, 999))
def test_the_first_attempt_that_fools_counts_else_the_largest_objective(images, count, room, seed):
    """Made-up attempts, against a loop over examples and attempts."""
    rng = torch.Generator().manual_seed(seed)
    value, fools = torch.rand(images, count, generator=rng), torch.rand(images, count, generator=rng) < 0.2
    cost, seen = torch.randint(1, 9, (images, count), generator=rng), []

    def attempt(rows: Attempts) -> Found:
        seen.append(len(rows.places))
        at = rows.places, rows.numbers
        ended = rows.ended(torch.arange(len(rows.places)), fools[at])
        earlier = torch.tensor([bool(fools[p, rows.numbers.min() : n].any()) for p, n in zip(*at, strict=True)])
        assert torch.equal(ended, fools[at] | earlier)
        return Found(rows.numbers.float()[:, None], value[at], fools[at], cost[at])

    found = Found.nothing(torch.full((images, 1), -1.0))
    attempt_in_turn(found, count, room, attempt)
    assert max(seen) <= max(room, images)
    for image in range(images):
        first = next((n for n in range(count) if fools[image, n]), None)
        counts = int(value[image].argmax()) if first is None else first
        assert int(found.images[image]) == counts
        assert bool(found.fooled[image]) == (first is not None)
        assert int(found.passes[image]) == int(cost[image, : count if first is None else first + 1].sum())


def test_attempts_fill_batches_of_about_one_size():
    seen = []

    def attempt(rows: Attempts) -> Found:
        seen.append(len(rows.places))
        nothing = Found.nothing(torch.zeros(len(rows.places), 1))
        assert len(set(restart_seeds(torch.arange(10) * 7, rows.places, rows.numbers).tolist())) == len(rows.places)
        return nothing

    attempt_in_turn(Found.nothing(torch.zeros(10, 1)), 9, 48, attempt)
    assert seen == [30, 30, 30], "not 40, 40, 10"


@given(st.integers(0, 1200), st.sampled_from([1.0, 3.5, 40.0]), st.sampled_from(["linf", "l2", "l1"]))
@settings(max_examples=40, deadline=None)
def test_stretches_cover_all_queries_with_squares_of_the_schedule(queries, pace, norm):
    found = list(stretches(queries, pace, 32, 24, norm))
    sides = [side for begin, end, side in found for _ in range(begin, end)]
    assert sides == [side_of_square(int(query * pace), 32, 24, norm) for query in range(queries)]
    assert all(begin // CHUNK == (end - 1) // CHUNK for begin, end, _ in found)
    assert all(a.end == b.begin for a, b in pairwise(found))
    assert all(isinstance(each, Stretch) for each in found)


@pytest.mark.parametrize("share", [0.4, 0.1, 0.02])
def test_as_many_queries_are_asked_ahead_as_cost_least(share):
    """Against a simulation: queries of which this share changes an image, and what passes of so many rows cost."""
    ahead, rng = Ahead(), torch.Generator().manual_seed(0)
    ahead.note(round(100_000 * share), 100_000)
    changes = torch.rand(20_000, 64, generator=rng) < share

    def cost(together):
        progress = torch.where(changes[:, :together].any(dim=1), changes.long().argmax(dim=1) + 1, together)
        return (PASS_ROWS + 3 * together) / float(progress.float().mean())

    costs = {together: cost(together) for together in range(1, 22)}
    assert costs[ahead.queries(3, 64)] < 1.02 * min(costs.values())
    assert Ahead().queries(64, 64) == Ahead().queries(50, 64) == Ahead().queries(9, 1) == 1


def test_what_happened_long_ago_says_less_and_asking_changes_nothing():
    """Every second query changed an image, then none of as many: a quarter, and less where the former is half forgotten."""
    plain, forgetful = Ahead(), Ahead()
    for each in (plain, forgetful):
        each.note(50_000, 100_000)
        each.queries(3, 64)
        if each is forgetful:
            each.forget()
        each.note(0, 100_000)
        each.queries(3, 64)
    assert plain.changes / plain.asked == pytest.approx(1 / 4, abs=1e-4)
    assert forgetful.changes / forgetful.asked == pytest.approx(1 / 6, abs=1e-4)
