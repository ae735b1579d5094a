"""The comparison with AutoAttack: both sides against a closed form, and the interval of paired shares."""

from math import sqrt
from time import perf_counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

from benchmarks import autoattack, results
from benchmarks.autoattack import with_published
from benchmarks.autoattack_agreement import judge
from benchmarks.autoattack_attacks import _black_box_sign
from benchmarks.autoattack_networks import PASSES, budget, scaled
from benchmarks.autoattack_page import at_the_floor, reached_by_reference, with_bfloat16, write
from benchmarks.autoattack_sides import SIDES
from benchmarks.autoattack_verdicts import Z, fast, paired_score
from benchmarks.machine import forward_flops, machine, saved_flops
from benchmarks.results import RESULTS
from ops.attack.attacks import published
from ops.attack.threat import Threat
from ops.data.loading import ImageSet
from ops.files import read_json, write_json
from ops.models.build import build_classifier
from ops.models.config import Architecture

CLASSES, COUNT, SIDE = 10, 40, 6


def test_both_sides_find_the_robust_accuracy_of_a_linear_model():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.from_numpy(rng.normal(size=(CLASSES, 3 * SIDE**2))))
    pixels = rng.integers(90, 166, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)  # no ball reaches 0 or 1
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    labels = logits.argmax(dim=1).numpy()
    labels[:3] = (labels[:3] + 1) % CLASSES
    table = pd.DataFrame({"id": [f"image-{i}" for i in range(COUNT)], "label": labels.astype(str), "domain": "noise"})
    images = ImageSet(pixels, labels, table.assign(attributes=[{}] * COUNT), tuple(map(str, range(CLASSES))))

    weight = model[1].weight.detach().numpy()
    own, others = logits.numpy()[np.arange(COUNT), labels], logits.numpy()
    steepness = np.abs(weight[labels][:, None] - weight[None]).sum(axis=2)
    distance = (own[:, None] - others) / np.where(steepness > 0, steepness, 1)
    distance[np.arange(COUNT), labels] = np.inf
    eps = float(np.median(distance.min(axis=1)[3:]))
    decided = np.abs(distance.min(axis=1) - eps) > 0.02 * eps

    found = judge(model, images, Threat(norm="linf", eps=eps), perf_counter, steps=30)
    assert found["clean"] == [False] * 3 + [True] * (COUNT - 3)
    for side in SIDES:
        assert np.array_equal(np.array(found[side]["robust"])[decided], (distance.min(axis=1) > eps)[decided])


@settings(max_examples=60, deadline=None)
@given(gained=st.integers(0, 12), lost=st.integers(0, 12), rest=st.integers(5, 4000))
def test_ends_of_the_paired_interval_are_rejected_by_a_score_test_as_they_should(gained, lost, rest):
    count = gained + lost + rest
    effect, *ends = paired_score(gained, lost, count)
    assert ends[0] <= effect <= ends[1]
    for delta in ends:

        def unlikely(second: float, delta: float = delta) -> float:
            """Minus the log-likelihood of the share of pairs that only the second has, for a given difference."""
            shares = (second + delta, second, 1 - 2 * second - delta)
            counts = (gained, lost, rest)
            return -sum(n * np.log(max(s, 1e-300)) for n, s in zip(counts, shares, strict=True) if n)

        span = max(0.0, -delta), (1 - delta) / 2
        second = minimize_scalar(unlikely, bounds=span, method="bounded", options={"xatol": 1e-12}).x
        spread = sqrt(count * (2 * second + delta - delta**2))
        assert abs(gained - lost - count * delta) / spread == pytest.approx(Z, rel=5e-3)


@pytest.mark.parametrize("count", [10, 2000])
def test_the_paired_interval_without_a_difference_is_that_of_a_share_of_nothing(count):
    edge = Z**2 / (count + Z**2)
    assert paired_score(0, 0, count) == pytest.approx((0, -edge, edge))


def test_bfloat16_shortens_all_attacks_but_square():
    seconds = {name: {"reference": 12.0, "ours": 4.0} for name in ("apgd-ce", "fab-t", "square")}
    outcome = {"seconds": seconds, "bfloat16 gain": {"forward": 3.0, "both": 2.0}}
    assert with_bfloat16(outcome) == f"{36 / (2 + 2 + 4):.2f}"
    slower = {**outcome, "bfloat16 gain": {"forward": 0.5, "both": 0.5}}
    assert with_bfloat16(slower) == "3.00", "nobody would use it there"


def test_a_reference_that_does_nothing_but_its_operations_reaches_the_peak():
    outcome = {"passes": 9700, "megaflops": 100.0, "whole": {"reference": 9.7}, "convolution GFLOP/s": 200.0}
    assert reached_by_reference(outcome) == "0.50"
    budgets = {attack.name: budget(attack) * PASSES[attack.name] for attack in published("standard", "linf")}
    assert budgets == {"apgd-ce": 200, "apgd-t": 1800, "fab-t": 2700, "square": 5000}


def test_what_does_not_grow_with_the_steps_counts_once():
    assert scaled((3, 9), [4 + 3 * 0.5, 4 + 9 * 0.5], 900) == pytest.approx(4 + 900 * 0.5)


def test_the_floor_is_that_of_the_multiplications_that_are_needed():
    outcome = {"passes": 9700, "fewest megaflops": 50.0, "whole": {"reference": 9.7}, "convolution GFLOP/s": 200.0}
    assert at_the_floor(outcome) == "4.00"
    assert at_the_floor({**outcome, "fewest megaflops": 100.0}) == "2.00"


def test_a_wide_network_takes_a_quarter_of_the_operations_in_layers_of_stride_1():
    """One block of two convolutions, whose operations are nearly all that the network has."""
    architecture = Architecture(widths=[64], blocks=[1], stem_stride=1)
    model = build_classifier(architecture, CLASSES, [0.5] * 3, [0.25] * 3, 0).to(memory_format=torch.channels_last)
    x = torch.rand(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    layers = 2 * (2 * 9 * 64 * 64 * 16 * 16)
    assert saved_flops(model, x) == 0.75 * layers
    assert layers < forward_flops(architecture, CLASSES, 16) < 1.1 * layers
    assert saved_flops(model, x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)[:1]) == 0, "few tiles"


def test_the_black_box_sign_is_of_images_that_all_other_attacks_left():
    survived = {
        "apgd-ce": [True, True, False, True],
        "square": [False, True, False, False],
        "fab": [True, True, True, False],
    }
    sign = _black_box_sign(survived, Threat(norm="linf", eps=0.1))
    assert sign is not None
    assert sign.value == 0.25, "the first: the third fell before, the last to fab"


@pytest.mark.parametrize(
    ("rounds", "holds"), [((3.0, 3.2), True), ((2.8, 3.2), None), ((2.8, 2.99), False), ((None, None), True)]
)
def test_a_speed_holds_where_it_does_in_every_round(rounds, holds):
    assert fast("some network", 3.0, *rounds)["holds"] is holds


def test_the_page_is_written_from_what_is_published_with_it(tmp_path, monkeypatch):
    """All tables, those of networks and single attacks too; only the last line, with the revision, may differ."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    published = read_json(RESULTS / "evaluation.json")
    write(published["command"], with_published({part: {} for part in published["found"]}))
    assert read_json(tmp_path / "evaluation.json")["found"] == published["found"]
    page, theirs = ((folder / "evaluation.md").read_text().splitlines() for folder in (tmp_path, RESULTS))
    assert page[:-1] == theirs[:-1]


def test_a_measurement_replaces_only_what_was_said_of_its_network_on_its_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(autoattack, "RESULTS", tmp_path)
    assert with_published({"speed": {"new": {"robust": 1}}}) == {"speed": {"new": {"robust": 1}}}
    told = {"speed": {"new": {"robust": 2, "masked": 3}, "old": {"robust": 4}}, "depth": {"old": {"robust": 5}}}
    write_json(tmp_path / "evaluation.json", {"found": told})
    expected = {"new": {"robust": 1, "masked": 3}, "old": {"robust": 4}}
    assert with_published({"speed": {"new": {"robust": 1}}, "depth": {}}) == {**told, "speed": expected}


def test_the_machine_is_named():
    found = machine()
    assert found["threads"] == torch.get_num_threads()
    name, _, instructions = found["processor"].rpartition(", ")
    assert name
    assert instructions == torch.backends.cpu.get_cpu_capability()
