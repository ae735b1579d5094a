"""What a probe left out is left out of the curve; what older versions kept is read."""

import pandas as pd
import pyarrow.parquet as pq
import torch

from ops.data.loading import open_images
from ops.evaluate import probing
from ops.evaluate.honesty import BATCH, BROKEN_OFF, MISSING, NO_NUMBER, PLATEAU, warnings
from ops.evaluate.measurements import write_measurements
from ops.evaluate.predicting import choose
from ops.evaluate.probing import curve_rows, draw_curve, probe_models
from ops.files import write_json
from tests.ops.evaluate.test_evaluation import CPU, config, models  # noqa: F401 (a fixture)


class Rooted(torch.nn.Module):
    """A network whose gradient is NaN everywhere: the root of a square that is 0."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + (0 * x.flatten(1).sum(dim=1, keepdim=True)).square().sqrt()


def outcomes(images, name, settings):
    """Return a table in which every image is right and stands."""
    model, seed = name.rsplit("/seed-", 1)
    all_right = dict.fromkeys(["clean", *settings.attack_names(), "robust"], True)
    table = pd.DataFrame({"id": images.table["id"], "predicted": "bar", **all_right, "model": model, "seed": int(seed)})
    threats = ["none", *map(str, settings.threats)]
    return pd.concat([table.assign(threat=threat) for threat in threats], ignore_index=True)


def probed(models, images, settings, home, recorder):  # noqa: F811
    ledgers = {name: home / name.replace("/", "-") for name in models}
    predictions = pd.concat([outcomes(images, name, settings) for name in models], ignore_index=True)
    return probe_models(settings, models, images, predictions, ledgers, CPU, recorder)


def test_a_model_without_sound_gradients_has_signs_and_half_a_curve(models, shards, folders, recorder, monkeypatch):  # noqa: F811
    """Its radius 0 is measured, and all others are left out; the model beside it has all."""
    settings, (home, cache) = config(), folders("ledgers", "cache")
    images = choose(open_images(shards, "test", cache), "test", 40, 0)
    load, (broken, sound, *_) = probing.load_classifier, sorted(models)

    def rooted(folder, device):
        model, card = load(folder, device)
        return (Rooted(model) if folder == models[broken] else model), card

    monkeypatch.setattr(probing, "load_classifier", rooted)
    signs, survivors = probed(models, images, settings, home, recorder)
    values = {sign.name: sign.value for sign in signs[broken]}
    assert (values[NO_NUMBER], values[BROKEN_OFF], values[BATCH]) == (1, 1, 0)
    assert {sign.name for sign in signs[sound]} == {*values, PLATEAU} | {
        "accuracy under an unbounded attack",
        "rise of accuracy with eps",
    }
    assert any(line.startswith(f"{broken}: {NO_NUMBER} 1") for line in warnings(signs))
    assert (list(survivors[broken]), list(survivors[sound])) == (["0"], ["0", "0.5", "1", "2", "4", "unbounded"])
    rows = curve_rows(survivors, settings, "shapes")
    write_measurements(home / "curve.parquet", rows)
    assert len(pq.read_table(home / "curve.parquet")) == 1 + 6 * (len(models) - 1)
    draw_curve(survivors, settings, home / "curve.png")
    draw_curve({broken: survivors[broken]}, settings, home / "alone.png")
    again, same = probed(models, images, settings, home, recorder)
    assert (again, same) == (signs, survivors), "what is kept is what was found"


def test_what_was_kept_before_there_were_so_many_signs_is_read(models, shards, folders, recorder):  # noqa: F811
    settings, (home, cache) = config(), folders("ledgers", "cache")
    images = choose(open_images(shards, "test", cache), "test", 40, 0)
    name = sorted(models)[0]
    kept = {"signs": [{"name": MISSING, "value": 0.25}], "survivors": {"0": [True], "1": [False], "unbounded": [False]}}
    write_json(home / name.replace("/", "-") / "honesty.json", kept)
    signs, survivors = probed({name: models[name]}, images, settings, home, recorder)
    assert {sign.name: sign.value for sign in signs[name]} == {MISSING: 0.25, BATCH: 0.0}
    assert survivors[name] == kept["survivors"]
    assert warnings(signs) == [line for line in warnings(signs) if MISSING in line]
