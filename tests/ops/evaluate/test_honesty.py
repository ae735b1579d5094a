"""Honest models raise no sign; each kind of masking raises its own."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.autograd import grad as grad_by_name

from ops.data.loading import open_images
from ops.evaluate.config import HonestyConfig
from ops.evaluate.gradient_calls import gradient_calls
from ops.evaluate.honesty import (
    ASKING,
    BROKEN_OFF,
    MISLEADING,
    MISSING,
    NO_NUMBER,
    PLATEAU,
    PROBABILITIES,
    RANDOM,
    RISE,
    UNBOUNDED,
    Sign,
    probe_model,
    warnings,
)
from ops.evaluate.predicting import choose
from tests.ops.attack.test_attacks import L1, L2, LINF, batch, net
from tests.ops.evaluate.test_evaluation import measure, models  # noqa: F401 (a fixture)

CONFIG = HonestyConfig(images=64, steps=20, multiples=[0.5, 1, 2, 4])


class Wrapped(nn.Module):
    def __init__(self, before=lambda x: x, after=lambda z: z) -> None:
        super().__init__()
        self.inner, self.before, self.after = net(), before, after

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


def probe(model, threat=LINF):
    x, y = batch()
    return probe_model(model, x, y, threat, CONFIG, torch.arange(64))


def raised(model, threat=LINF):
    return {sign.name for sign in probe(model, threat).signs if sign.raised}


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_an_honest_model_shows_nothing(threat):
    assert raised(Wrapped(), threat) == set()


def test_accuracy_falls_with_the_radius_to_nothing():
    found = probe(net())
    counts = [int(s.sum()) for s in found.survivors.values()]
    assert list(found.survivors) == [0, 0.5, 1, 2, 4, float("inf")]
    x, y = batch()
    assert counts[0] == int((net()(x).argmax(1) == y).sum())
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


def quantise(x):
    return (x * 15).round() / 15


def noise(x):
    return x + 0.3 * torch.randn(x.shape)


class Backwards(torch.autograd.Function):
    """The identity with a gradient that points the wrong way."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Wrapped(after=lambda z: z.softmax(1)), {PROBABILITIES}),
        (Wrapped(before=noise), {RANDOM}),
        (Wrapped(before=quantise), {MISSING, MISLEADING, UNBOUNDED}),
        (Wrapped(after=lambda z: z * 1e5), {MISSING}),
        (Wrapped(before=Backwards.apply), {MISLEADING, UNBOUNDED}),
    ],
    ids=["softmax", "random", "quantised", "saturated", "backwards"],
)
def test_each_kind_of_masking_is_seen(model, expected):
    torch.manual_seed(0)
    assert expected <= raised(model)


def test_accuracy_that_rises_with_eps_is_seen():
    """A defence that puts an image that has moved too far back in its place is the stronger the larger the ball."""
    x, _ = batch()

    class Snaps(nn.Module):
        def forward(self, z):
            distance, place = torch.cdist(z.detach().flatten(1), x.flatten(1), p=torch.inf).min(dim=1)
            return net()(torch.where((distance > 1.1 * LINF.eps)[:, None, None, None], x[place] + 0 * z, z))

    assert raised(Snaps()) >= {RISE, UNBOUNDED}


class RootAt(torch.nn.Module):
    """A network plus a function of each image's first pixel, whose slope or value is no number somewhere."""

    def __init__(self, function) -> None:
        super().__init__()
        self.inner, self.function = net(), function

    def forward(self, x):
        logits = self.inner(x)
        return logits + self.function(x[:, 0, 0, 0])[:, None] * torch.tensor([1.0, 0, 0, 0])


def values(probed):
    return {sign.name: sign.value for sign in probed.signs}


def clean_accuracy(model):
    x, y = batch()
    return float((model(x).argmax(1) == y).float().mean())


def test_a_gradient_that_is_no_number_is_a_sign_and_no_robustness():
    """The slope of a root is infinite at 0, where three images are; a product of it with 0 is NaN."""
    x, _ = batch()
    places = x[:3, 0, 0, 0]

    def root(pixel):
        distance = (pixel[:, None] - places).abs().amin(dim=1)
        return 0.01 * (distance * distance).sqrt()

    found = probe(RootAt(root))
    signs = values(found)
    assert signs[NO_NUMBER] == 3 / 64
    assert signs[MISSING] == 0
    assert signs[BROKEN_OFF] == 1
    assert not {UNBOUNDED, RISE, PLATEAU} & set(signs), "nothing is known of what an attack would find"
    assert {sign.name for sign in found.signs if sign.raised} == {NO_NUMBER, BROKEN_OFF}
    assert list(found.survivors) == [0]
    assert found.survivors[0].mean() == clean_accuracy(net())


def test_an_infinite_gradient_in_one_pixel_is_no_number():
    x, _ = batch()
    signs = values(probe(RootAt(lambda pixel: 0.01 * (pixel - x[0, 0, 0, 0]).abs().clamp_min(0).pow(0.5))))
    assert signs[NO_NUMBER] == 1 / 64


def test_an_attack_that_meets_no_numbers_on_its_way_breaks_off_there():
    """Logits are NaN where the first pixel, which is 0.5, has moved by more than 0.2: in the unbounded ball alone."""
    x, _ = batch()
    x[:, 0, 0, 0] = 0.5
    y = net()(x).argmax(1)
    assert 4 * LINF.eps < 0.2
    model = RootAt(lambda pixel: torch.where((pixel - 0.5).abs() > 0.2, torch.nan, 0.0))
    found = probe_model(model, x, y, LINF, CONFIG, torch.arange(64))
    signs = values(found)
    assert signs[NO_NUMBER] == 0
    assert signs[BROKEN_OFF] == pytest.approx(1 / 5)
    assert list(found.survivors) == [0, 0.5, 1, 2, 4]
    assert UNBOUNDED not in signs
    assert signs[RISE] == 0


def test_logits_that_are_no_numbers_are_wrong_answers():
    """Half of the images get NaN for all classes, of which the largest would be class 0."""
    x, y = batch()
    limit = x[:, 0, 0, 0].median()

    class Broken(nn.Module):
        def forward(self, z):
            return torch.where(z[:, :1, 0, 0] > limit, torch.nan, net()(z))

    found = probe_model(Broken(), x, torch.zeros_like(y), LINF, CONFIG, torch.arange(64))
    broken = (x[:, 0, 0, 0] > limit).numpy()
    assert not found.survivors[0][broken].any()
    signs = values(found)
    assert signs[NO_NUMBER] == broken.mean()
    assert signs[RANDOM] == 0
    json.dumps(signs, allow_nan=False)


class Purifies(nn.Module):
    """Takes a step that makes the network surer before it predicts."""

    def __init__(self, ask) -> None:
        super().__init__()
        self.inner, self.ask = net(), ask

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_(True)
            gradient = self.ask(self.inner(z).logsumexp(1).sum(), z)
        return self.inner(x + 0.01 * gradient.sign())


def by_backward(value, z):
    value.backward()
    return z.grad


@pytest.mark.parametrize(
    "ask",
    [lambda value, z: torch.autograd.grad(value, z)[0], lambda value, z: grad_by_name(value, z)[0], by_backward],
    ids=["grad", "imported", "backward"],
)
def test_gradients_asked_for_while_predicting_are_counted(ask):
    x, _ = batch()
    assert gradient_calls(Purifies(ask), x) == 1
    assert ASKING in raised(Purifies(ask))


def test_a_network_with_a_backward_of_its_own_asks_for_none():
    x, _ = batch()
    before = sys.getprofile()
    assert gradient_calls(Wrapped(before=Backwards.apply), x) == 0
    assert sys.getprofile() is before


def stairs(x):
    """Steps wider than any ball that is probed, with the slope of a line."""
    return x + ((x * 2).round() / 2 - x).detach()


def far(x, y):
    """Return images and the places of those whose pixels no ball of 4 eps takes over the edge of a step."""
    return torch.where((x - 0.25).abs() < 0.2, 0.0, torch.where((x - 0.75).abs() < 0.2, 1.0, x)), y


def test_a_plateau_is_a_sign():
    """Every pixel stays on its step in all balls but the unbounded one: nothing falls, and no margin moves."""
    x, y = far(*batch())
    right = net()(stairs(x)).argmax(1)
    y = torch.where(torch.arange(64) < 48, right, (right + 1) % 4)
    found = probe_model(Wrapped(before=stairs), x, y, LINF, CONFIG, torch.arange(64))
    assert values(found)[PLATEAU] == 48 / 64
    assert PLATEAU in {sign.name for sign in found.signs if sign.raised}


@pytest.mark.parametrize("threat", [LINF, L2, L1], ids=str)
def test_a_plateau_of_a_robust_model_under_a_tiny_eps_is_none(threat):
    tiny = threat.model_copy(update={"eps": threat.eps / 300})
    found = probe(net(), tiny)
    standing = [survived.mean() for radius, survived in found.survivors.items() if radius < float("inf")]
    assert len(set(standing)) == 1, "accuracy does not fall"
    assert standing[0] > 0.6
    assert values(found)[PLATEAU] == 0


class Constant(nn.Module):
    def forward(self, x):
        return torch.tensor([2.0, 0, 0, 0]) + 0 * x.flatten(1).sum(dim=1, keepdim=True)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_a_constant_answer_is_no_plateau(share):
    x, _ = batch()
    y = (torch.arange(64) >= share * 64).long()
    found = probe_model(Constant(), x, y, LINF, CONFIG, torch.arange(64))
    assert found.survivors[4].mean() == pytest.approx(share, abs=1 / 64)
    assert values(found)[PLATEAU] == 0
    assert values(found)[RISE] == 0


def test_one_radius_is_no_plateau():
    x, _ = far(*batch())
    config = HonestyConfig(images=64, steps=5, multiples=[1])
    found = probe_model(Wrapped(before=stairs), x, net()(stairs(x)).argmax(1), LINF, config, torch.arange(64))
    assert values(found)[PLATEAU] == 0


def test_values_that_are_no_number_are_raised():
    assert Sign(UNBOUNDED, float("nan")).raised


def test_warnings_name_model_and_meaning():
    lines = warnings({"m": [Sign(PROBABILITIES, 1.0), Sign(MISSING, 0.0)], "n": [Sign(UNBOUNDED, 0.5)]})
    assert len(lines) == 2
    assert lines[0].startswith("m: outputs that look like probabilities 1 (limit 0): the model ends in a softmax")
    assert "n: accuracy under an unbounded attack 0.5 (limit 0.05)" in lines[1]


def test_the_evaluation_probes_every_model(models, shards, folders, recorder):  # noqa: F811
    """Radius 0 is clean accuracy; radii in `curve.parquet` are counts of the images that are probed."""
    out = measure(models, shards, folders, recorder, tag="honesty", honesty={"images": 16, "steps": 3})
    found = json.loads((out / "honesty.json").read_text())
    assert set(found["signs"]) == set(models)
    assert {len(signs) for signs in found["signs"].values()} == {11}
    curve = pq.read_table(out / "curve.parquet").to_pandas()
    assert set(curve["n"]) == {16}
    assert len(curve) == len(models) * 6
    predictions = pq.read_table(out / "predictions.parquet").to_pandas()
    (cache,) = folders("cache")
    chosen = set(choose(open_images(shards, "test", cache), "test", 16, 0).table["id"])
    attacked = predictions[predictions["threat"] == "linf 4/255"].groupby(["model", "seed"])
    for key, mine in curve.groupby(["model", "seed"]):
        few = attacked.get_group(key)
        few = few[few["id"].isin(chosen)]
        clean = mine[mine["metric"].str.contains("0 eps") & ~mine["metric"].str.contains(".5 eps", regex=False)]
        assert clean["value"].iloc[0] == few["clean"].mean()
        assert np.isclose(clean["value"].max(), mine["value"].max())
    assert (out / "pictures" / "curve.png").exists()
