"""The measurement under distribution shift: against counts by hand, and what a run promises (resumed, batched, masked)."""

import io
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn

from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.evaluate.intervals import bootstrap
from ops.evaluate.measurements import read_measurements
from ops.evaluate.shift import shown as module
from ops.evaluate.shift.config import ShiftConfig
from ops.evaluate.shift.domains import share_difference
from ops.evaluate.shift.few_shot import few_shot_images, read_few_shot
from ops.evaluate.shift.measure import measure_shift
from ops.evaluate.shift.shown import among
from tests.ops.evaluate.corruptions.cases import folder_of

CPU = torch.device("cpu")
LABEL_SHIFT = {
    "tables": {"clinic": {"bar": 0.9, "disc": 0.1}},
    "tweak_one": {"probabilities": [0.8]},
    "dirichlet": {"draws": 2},
    "unlabelled": 60,
    "samples": 3,
}


def config(**changes) -> ShiftConfig:
    base = {
        "shifted": ["shift"],
        "label_shift": LABEL_SHIFT,
        "few_shot": {"shots": [1, 2], "seeds": [0]},
        "images": 40,
        "batch": 8,
        "replicates": 200,
    }
    return ShiftConfig.model_validate(base | changes)


class Linear(nn.Module):
    def __init__(self, seed: int, classes: int = 2) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(classes, 3 * 32 * 32, generator=torch.Generator().manual_seed(seed)) / 20)

    def forward(self, x):
        # in double precision: in single precision some CPUs round the product otherwise in another batch
        return ((x.flatten(1).double() - 0.5) @ self.w.double().T).float()


MODELS = {"classifier/real/seed-0": Linear(0), "classifier/real/seed-1": Linear(1), "soup/seed-0": Linear(2)}


@pytest.fixture
def real(tmp_path, shard_maker):
    return shard_maker(tmp_path / "real_shards", {"train": 40, "validation": 32, "test": 48, "shift": 44}, seed=3)


@pytest.fixture
def sketches(tmp_path):
    """Write a set with bars only, one file of which is no image."""
    (tmp_path / "sketches" / "bar").mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        (tmp_path / "sketches" / "bar" / f"{number}.png").write_bytes(stream.getvalue())
    (tmp_path / "sketches" / "bar" / "broken.png").write_bytes(b"no")
    return tmp_path / "sketches"


@pytest.fixture
def measure(real, folders, monkeypatch, recorder_type):
    """Return a function that measures models, given instead of their folders, and returns the artefact's folder."""

    def run(tag="a", models=MODELS, monitor=None, sources=None, ledger=None, **changes):
        out, home, scratch, cache = folders(f"shift-{tag}", f"models-{tag}", f"scratch-{tag}", "cache")
        ledger = ledger or folders(f"ledger-{tag}")[0]
        kept = {folder_of(name, model, home): model for name, model in models.items()}
        monkeypatch.setattr(module, "load_classifier", lambda folder, device: (kept[folder].eval(), None))
        models = dict(zip(models, kept, strict=True))
        if sources:
            changes["sets"] = {name: f"data/{name}" for name in sources}
        summary = measure_shift(
            config(**changes), models, real, sources or {}, out, scratch, ledger, cache, CPU, monitor or recorder_type()
        )
        (out.parent / f"summary-{tag}.json").write_text(json.dumps(dict(summary.figures)))
        return out

    return run


def predictions_of(out) -> pd.DataFrame:
    return pq.read_table(out / "predictions.parquet").to_pandas()


def files_of(out) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_rows_are_counts_of_single_outcomes(measure):
    out = measure()
    found, rows = predictions_of(out), read_measurements(out)
    assert len(found) == 3 * (40 + 40)
    assert (found["right"] == (found["predicted"] == found["label"])).all()
    assert not found.duplicated(["model", "seed", "split", "id"]).any()
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()
    rows = rows.set_index(["model", "seed", "split", "group", "metric"])
    for (model, seed), mine in found.groupby(["model", "seed"]):
        test, shift = mine[mine["split"] == "test"], mine[mine["split"] == "shift"]
        for split, part in (("test", test), ("shift", shift)):
            for kind, worst in (("domain", "worst-domain accuracy"), ("label", "worst-class accuracy")):
                means = part.groupby(kind)["right"].mean()
                for value, mean in means.items():
                    line = rows.loc[(model, seed, split, f"{kind}={value}", "accuracy")]
                    assert line["value"] == mean
                    assert line["n"] == (part[kind] == value).sum()
                group = f"{kind}={means.idxmin()}"
                assert rows.loc[(model, seed, split, group, worst), "value"] == means.min()
            assert rows.loc[(model, seed, split, "all", "accuracy"), "value"] == part["right"].mean()
        drop = rows.loc[(model, seed, "shift", "all", "accuracy drop from test")]
        assert drop["value"] == pytest.approx(test["right"].mean() - shift["right"].mean())
        slate = shift[shift["domain"] == "slate"]
        drop = rows.loc[(model, seed, "shift", "domain=slate", "accuracy drop from test")]
        assert drop["value"] == pytest.approx(test["right"].mean() - slate["right"].mean())
        mix = test["label"].value_counts(normalize=True)
        by_class = test.groupby("label")["right"].mean() - slate.groupby("label")["right"].mean()
        drop = rows.loc[(model, seed, "shift", "domain=slate", "accuracy drop from test (same class mix)")]
        assert drop["value"] == pytest.approx((mix * by_class).sum())
        recall = test.groupby("label")["right"].mean()
        clinic = rows.loc[(model, seed, "test", "prior=clinic", "accuracy under label shift")]
        assert clinic["value"] == pytest.approx(0.9 * recall["bar"] + 0.1 * recall["disc"])


def test_the_bootstrap_of_a_difference_is_that_of_single_images():
    """Drawing counts is drawing images: the ends agree with resampled images to what chance leaves."""
    rng = np.random.default_rng(0)
    first, second = rng.random(300) < 0.8, rng.random(120) < 0.5
    counts = [np.array([len(x), x.sum()]) for x in (first, second)]
    found = share_difference(*counts, np.ones(1), 8000, 0)
    strata = np.repeat([0, 1], [300, 120])
    images = np.concatenate([first, second]).astype(float)
    expected = bootstrap(lambda v: v[:, :300].mean(axis=1) - v[:, 300:].mean(axis=1), images, strata, 8000, 1)
    assert found == pytest.approx(expected, abs=0.006)
    error = np.sqrt(first.var() / 300 + second.var() / 120)
    assert found[2] - found[1] == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_batch_size_and_order_of_models_do_not_matter(measure):
    assert files_of(measure("one", batch=7)) == files_of(measure("two", dict(reversed(MODELS.items())), batch=40))


def test_only_a_model_that_changed_is_asked_again(measure, folders, monkeypatch):
    """Once about each split: in distribution, shifted, and for calibration; fewer images are other images."""
    (ledger,) = folders("kept")
    before = files_of(measure("before", ledger=ledger))
    asked, original = [], module.ask
    monkeypatch.setattr(module, "ask", lambda *a: asked.append(a[1]) or original(*a))
    retrained = {**MODELS, "soup/seed-0": Linear(9)}
    after = files_of(measure("after", retrained, ledger=ledger))
    assert asked == ["soup/seed-0"] * 3
    assert after != before
    assert after == files_of(measure("fresh", retrained))
    assert len([path for path in ledger.rglob("*") if path.is_file()]) == 3 * 3, "the model that was is forgotten"

    for changes, count in (({"replicates": 300}, 0), ({"images": 30}, 2), ({"batch": 5}, 3)):
        measure("kept", retrained, ledger=ledger)
        asked.clear()
        changed = files_of(measure("changed", retrained, ledger=ledger, **changes))
        assert sorted(asked) == sorted([*retrained] * count), changes
        assert changed == files_of(measure(f"fresh-{next(iter(changes))}", retrained, **changes))


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(measure, recorder_type, monkeypatch, sketches, stop_after):
    whole = files_of(measure("whole", sources={"sketches": sketches}))
    with pytest.raises(KeyboardInterrupt):
        measure("killed", monitor=recorder_type(stop_after=stop_after), sources={"sketches": sketches})
    looked, original = [], module.ask
    monkeypatch.setattr(module, "ask", lambda *a: looked.append(a[1]) or original(*a))
    for path in sketches.rglob("*.png"):
        path.unlink()  # the set is not read again
    assert files_of(measure("killed", sources={"sketches": sketches})) == whole
    assert len(looked) == 3 * 4 - (stop_after + 1)
    assert {name.split("/")[0] for name in whole} == {
        *("few_shot.parquet", "measurements.parquet", "pictures", "predictions.parquet", "priors.parquet", "sets")
    }


def test_a_set_with_some_classes_is_compared_with_these_classes(measure, sketches):
    """In distribution too, only bars count."""
    out = measure(sources={"sketches": sketches})
    found, rows = predictions_of(out), read_measurements(out)
    rows = rows.set_index(["model", "seed", "split", "group", "metric"])
    for (model, seed), mine in found.groupby(["model", "seed"]):
        own, bars = mine[mine["split"] == "sketches"], mine[(mine["split"] == "test") & (mine["label"] == "bar")]
        assert len(own) == 6
        line = rows.loc[(model, seed, "sketches", "all", "accuracy drop from test")]
        assert line["value"] == pytest.approx(bars["right"].mean() - own["right"].mean())
    figures = json.loads((out.parent / "summary-a.json").read_text())
    assert figures["quarantined in sketches"] == 1


def test_masking_the_classes_that_a_set_has_not(measure, sketches):
    """With one class left, every answer is right, there and in distribution; splits are not masked."""
    out = measure(sources={"sketches": sketches}, candidates="present")
    found = predictions_of(out)
    own = found[found["split"] == "sketches"]
    assert own["right"].all()
    assert own["confidence"].to_numpy() == pytest.approx(1)
    plain = predictions_of(measure("plain"))
    assert found[found["split"] != "sketches"].reset_index(drop=True).equals(plain)
    rows = read_measurements(out)
    drops = rows[(rows["split"] == "sketches") & rows["metric"].str.startswith("accuracy drop")]
    assert (drops[["value", "low", "high"]] == 0).all(axis=None)


def test_masked_probabilities_are_those_of_masked_logits():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)).double() * 3
    kept = np.array([1, 3, 4])
    masked = torch.full_like(logits, -torch.inf)
    masked[:, kept] = logits[:, kept]
    assert among(logits.softmax(1).numpy(), kept) == pytest.approx(masked.softmax(1).numpy())
    assert among(np.eye(3)[:1], np.array([1, 2])).tolist() == [[0, 0.5, 0.5]]


def test_later_stages_adapt_to_a_domain_or_a_set(measure, sketches, real, folders):
    """A few images choose between two models; it is the others that say how good the choice is."""
    out = measure(sources={"sketches": sketches})
    (cache,) = folders("cache")
    chosen = read_few_shot(out, "shift", "slate", 2, 0)
    support, query = few_shot_images(chosen, out, real, "shift", cache)
    assert sorted(support.labels) == [0, 0, 1, 1]

    def accuracy(model, images):
        every = np.arange(len(images))
        return float((model(images.batch(every)).argmax(1) == images.targets(every)).float().mean())

    best = max(MODELS, key=lambda name: accuracy(MODELS[name], support))
    found = predictions_of(out)
    name, seed = best.rsplit("/seed-", 1)
    mine = found[(found["model"] == name) & (found["seed"] == int(seed)) & found["id"].isin(chosen.query)]
    shown = query.subset(np.flatnonzero(query.table["id"].isin(mine["id"])))
    assert accuracy(MODELS[best], shown) == pytest.approx(mine["right"].mean())
    support, query = few_shot_images(read_few_shot(out, "sketches", "sketches", 2, 0), out, real, "sketches", cache)
    assert (len(support), len(query)) == (2, 4)
    assert set(support.table["label"]) == {"bar"}


def shares_of(out) -> pd.DataFrame:
    table = pq.read_table(out / "priors.parquet").to_pandas()
    return table.pivot(index="prior", columns="label", values="probability")


def test_priors_are_written_with_the_one_that_posteriors_stand_for(measure, real):
    """That of the split they are calibrated on, or of training where they are not; accuracy as it is stays."""
    labels = {split: read_manifest(real).query("split == @split")["label"] for split in ("train", "validation")}
    calibrated, plain = measure(), measure("plain", label_shift={**LABEL_SHIFT, "calibration_split": None})
    for out, split in ((calibrated, "validation"), (plain, "train")):
        found = labels[split].value_counts(normalize=True)
        assert shares_of(out).loc["source"].to_dict() == pytest.approx(found.to_dict())
    first, second = (
        read_measurements(out).set_index(["model", "seed", "split", "group", "metric"]) for out in (calibrated, plain)
    )
    changed = {metric for *_, metric in first.index[first["value"] != second["value"]]}
    assert {"accuracy under label shift, priors estimated"} <= changed
    assert not changed & {"accuracy", "accuracy under label shift"}
    shares = shares_of(calibrated)
    assert shares.loc["clinic"].tolist() == [0.9, 0.1]
    assert shares.loc["tweak-one 0.8 of disc"].tolist() == pytest.approx([0.2, 0.8])
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1)
    with pytest.raises(ValueError, match="on whose images models are measured"):
        config(label_shift={**LABEL_SHIFT, "calibration_split": "test"})


def test_no_shifted_split_and_no_set(measure):
    """As for data of one domain: class priors are all that is left."""
    out = measure(shifted=[])
    assert set(read_measurements(out)["split"]) == {"test"}
    assert len(pq.read_table(out / "few_shot.parquet")) == 0


def test_what_is_not_there_is_named(measure):
    with pytest.raises(AmalgamError, match="no images in shift_seen"):
        measure(shifted=["shift_seen"])
    with pytest.raises(AmalgamError, match="m/seed-0 tells 3 classes apart"):
        measure("b", models={"m/seed-0": Linear(0, classes=3)})
    broken = Linear(0)
    broken.w.data[:] = float("nan")
    with pytest.raises(AmalgamError, match="no numbers"):
        measure("c", models={"m/seed-0": broken})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shifted": ["test"]}, "shifted names test, which is in_distribution"),
        ({"shifted": ["shift", "shift"]}, "shift twice"),
        ({"sets": {"a": "elsewhere/a"}}, "no folder below data/"),
        ({"sets": {"a": "data/../a"}}, "no folder below data/"),
        ({"sets": {"test": "data/a"}}, "what a split is called"),
        ({"sets": {"a/b": "data/a"}}, "no name for a set"),
        ({"candidates": "some"}, "'all' or 'present'"),
        ({"images": 0}, "greater than or equal to 1"),
        ({"split": "test"}, "Extra inputs"),
    ],
)
def test_mistakes_in_the_settings_are_named(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)
