"""Honest models raise no sign; each kind of masking raises its own."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from ops.data.loading import open_images
from ops.evaluate.config import HonestyConfig
from ops.evaluate.honesty import Sign, black_box_sign, probe_model, warnings
from ops.evaluate.predicting import choose
from tests.ops.attack.test_attacks import L1, L2, LINF, batch, net
from tests.ops.evaluate.test_evaluation import measure, models  # noqa: F401 (a fixture)

CONFIG = HonestyConfig(images=64, steps=20, multiples=[0.5, 1, 2, 4])
PROBABILITIES = "outputs that look like probabilities"
RANDOM = "difference of outputs for one input"
MISSING = "images without a gradient"
MISLEADING = "images where a random step is worse than the gradient's"
UNBOUNDED = "accuracy under an unbounded attack"
RISE = "rise of accuracy with eps"


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


def test_only_the_black_box():
    outcomes = pd.DataFrame({"apgd-ce": [True] * 9 + [False], "square": [True] * 7 + [False] * 3})
    sign = black_box_sign(outcomes, ["apgd-ce", "square"])
    assert sign is not None
    assert sign.value == pytest.approx(0.2)
    assert sign.raised
    assert black_box_sign(outcomes, ["apgd-ce"]) is None
    assert black_box_sign(outcomes, ["square", "apgd-ce"]) is None


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
    assert {len(signs) for signs in found["signs"].values()} == {6}
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
