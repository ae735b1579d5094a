"""Accuracy under corruptions: against closed forms, and what a run promises (resumed, batched, counted, paired)."""

import io
import json
import math
import shutil
import tarfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn

from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions import images as images_module
from ops.evaluate.corruptions import measure as module
from ops.evaluate.corruptions import published as published_module
from ops.evaluate.corruptions.apply import corrupt
from ops.evaluate.corruptions.images import choose_images, read_piece
from ops.evaluate.corruptions.measure import measure_corruptions
from ops.evaluate.corruptions.tables import CORRUPTIONS
from ops.evaluate.measurements import read_measurements
from ops.evaluate.predicting import choose
from ops.runtime import derive_seed

CPU = torch.device("cpu")
NAMES = ["gaussian_noise", "contrast", "saturate"]
ADDED = (0.05, 0.1, 0.15, 0.2, 0.3)
"""What `brightness` adds at each severity (make_cifar_c.py)."""


def config(**changes) -> CorruptionsConfig:
    base = {"splits": ["test"], "corruptions": NAMES, "severities": [2, 5], "images": 20, "batch": 8, "replicates": 200}
    return CorruptionsConfig.model_validate(base | changes)


class Threshold(nn.Module):
    """Sees class 1 where the mean of the pixels is above `level`."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = level

    def forward(self, x):
        mean = x.mean(dim=(1, 2, 3)) - self.level
        return torch.stack([-mean, mean], dim=1)


class Linear(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3 * 32 * 32, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x):
        score = (x.flatten(1) - 0.5) @ self.w
        return torch.stack([-score, score], dim=1)


MODELS = {
    "classifier/real/seed-0": Linear(0),
    "classifier/real/seed-1": Linear(1),
    "soup/seed-0": Linear(2),
}


@pytest.fixture
def measure(shards, folders, monkeypatch, recorder_type):
    """Return a function that measures models, given instead of their folders, and returns the artefact's folder."""

    def run(tag="a", models=MODELS, monitor=None, published=None, **changes):
        monkeypatch.setattr(module, "load_classifier", lambda model, device: (model.eval(), None))
        out, scratch, cache = folders(f"corruptions-{tag}", f"scratch-{tag}", "cache")
        monitor = monitor or recorder_type()
        changes |= {"published": f"data/{published.name}"} if published else {}
        measure_corruptions(config(**changes), models, shards, out, scratch, cache, CPU, monitor, published)
        return out

    return run


def predictions_of(out) -> pd.DataFrame:
    return pq.read_table(out / "predictions.parquet").to_pandas()


def files_of(out) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def wilson_by_hand(value: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


@pytest.fixture
def greys(monkeypatch):
    """Make the dataset 200 images of one grey each, and return their levels; class 1 is what is brighter than 0.5."""
    levels = np.random.default_rng(0).integers(10, 240, 200)
    levels = np.where(abs(levels[:, None] / 255 + np.array([0, *ADDED]) - 0.5).min(axis=1) < 0.006, 10, levels)
    pixels = np.broadcast_to(levels[:, None, None, None], (200, 32, 32, 3)).astype(np.uint8)
    table = pd.DataFrame({"id": [f"g{n}" for n in range(200)], "split": "test"})
    images = ImageSet(pixels, (levels / 255 > 0.5).astype(np.int64), table, ("bar", "disc"))
    monkeypatch.setattr(images_module, "open_images", lambda *_: images)
    return levels / 255


def test_closed_forms(measure, greys):
    """Brightness turns the dark images that lie less than its summand below the threshold; contrast leaves greys alone."""
    severities = [1, 2, 3, 4, 5]
    out = measure(
        models={"m/seed-3": Threshold()}, corruptions=["brightness", "contrast"], severities=severities, images=200
    )
    rows = read_measurements(out).set_index("metric")
    turned = [float(((greys < 0.5) & (greys + added > 0.5)).mean()) for added in ADDED]
    assert 0 < turned[0] < turned[4]
    for severity, wrong in zip(severities, turned, strict=True):
        bright = rows.loc[f"accuracy under brightness (severity {severity})"]
        assert bright["value"] == pytest.approx(1 - wrong)
        assert (bright["low"], bright["high"]) == pytest.approx(wilson_by_hand(1 - wrong, 200))
        assert rows.loc[f"accuracy under contrast (severity {severity})", "value"] == 1
    assert rows.loc["accuracy under brightness", "value"] == pytest.approx(1 - np.mean(turned))
    error = rows.loc["mean corruption error (C-style)"]
    assert error["value"] == pytest.approx(np.mean(turned) / 2)
    assert (error["n"], error["seed"]) == (200, 3)
    assert rows.loc["accuracy without corruption", "value"] == 1

    # the interval is that of a mean over images, each with its outcomes under all corruptions, not over outcomes
    each = np.mean([(greys < 0.5) & (greys + added > 0.5) for added in ADDED], axis=0) / 2
    half = 1.96 * each.std() / math.sqrt(200)
    assert error["high"] - error["low"] == pytest.approx(2 * half, rel=0.2)


def test_rows_are_counts_of_single_outcomes(measure):
    out = measure()
    found, rows = predictions_of(out), read_measurements(out)
    assert len(found) == 3 * 20 * (1 + 3 * 2), "models, images, and pieces with the images as they are"
    assert (found["right"] == (found["predicted"] == found["label"])).all()
    assert not found.duplicated(["model", "seed", "id", "corruption", "severity"]).any()
    for (model, seed), mine in found.groupby(["model", "seed"]):
        line = rows[(rows["model"] == model) & (rows["seed"] == seed)].set_index("metric")
        assert len(line) == 1 + 3 * 2 + 3 + 1
        plain = mine[mine["severity"] == 0]
        assert set(plain["corruption"]) == {"none"}
        assert line.loc["accuracy without corruption", "value"] == plain["right"].mean()
        for name in NAMES:
            means = mine[mine["corruption"] == name].groupby("severity")["right"].mean()
            for severity in (2, 5):
                assert line.loc[f"accuracy under {name} (severity {severity})", "value"] == means[severity]
            assert line.loc[f"accuracy under {name}", "value"] == pytest.approx(means.mean())
        counted = mine[mine["corruption"].isin(NAMES[:2])]
        expected = 1 - counted["right"].mean()
        assert line.loc["mean corruption error (C-style)", "value"] == pytest.approx(expected), "saturate is extra"
    assert (rows["low"] <= rows["value"]).all()
    assert (rows["value"] <= rows["high"]).all()


def test_images_are_those_that_attacks_meet_and_shards_hold_their_corruptions(measure, shards, folders):
    """Each image is corrupted by its own seed: alone it becomes the same bytes."""
    out = measure(splits=["test", "validation"])
    (cache,) = folders("cache")
    chosen = [choose(open_images(shards, split, cache), split, 20, 0) for split in ("test", "validation")]
    for name in NAMES:
        with tarfile.open(out / "corrupted" / name / "5.tar") as tar:
            members = tar.getmembers()
            assert {member.mtime for member in members} == {0}
            records = [json.load(tar.extractfile(m)) for m in members if m.name.endswith(".json")]
            pixels = [
                np.asarray(Image.open(io.BytesIO(tar.extractfile(m).read()))) for m in members if m.name.endswith("png")
            ]
        assert [r["id"] for r in records] == [*chosen[0].table["id"], *chosen[1].table["id"]]
        assert [r["split"] for r in records] == ["test"] * 20 + ["validation"] * 20
        for number in (0, 13):
            seed = np.array([derive_seed(0, "corrupt", records[number]["id"])])
            alone = corrupt(chosen[0].images[number : number + 1], name, 5, seed)
            assert (alone[0] == pixels[number]).all()
    rows = read_measurements(out)
    assert set(rows["split"]) == {"test", "validation"}
    assert set(rows["n"]) == {20}


def test_a_piece_is_corrupted_once_for_all_models(measure, monkeypatch):
    made, original = [], images_module.corrupt
    monkeypatch.setattr(images_module, "corrupt", lambda *a: made.append(a[1:3]) or original(*a))
    measure(batch=20)
    assert sorted(made) == sorted((name, severity) for name in NAMES for severity in (2, 5))


def test_batch_size_and_order_of_models_do_not_matter(measure):
    one = files_of(measure("one", batch=7))
    two = files_of(measure("two", dict(reversed(MODELS.items())), batch=20))
    assert one == two


@pytest.mark.parametrize("stop_after", [4, 13])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(measure, recorder_type, monkeypatch, stop_after):
    """Killed while images are corrupted (six pieces), or while models look at them (seven each)."""
    whole = files_of(measure("whole"))
    with pytest.raises(KeyboardInterrupt):
        measure("killed", monitor=recorder_type(stop_after=stop_after))
    made, seen = [], []
    write, predict = images_module.write_shard, module.predict
    monkeypatch.setattr(images_module, "write_shard", lambda *a: made.append(a[0]) or write(*a))
    monkeypatch.setattr(module, "predict", lambda *a: seen.append(a[1]) or predict(*a))
    assert files_of(measure("killed")) == whole
    assert (len(made), len(seen)) == {4: (1, 21), 13: (0, 13)}[stop_after]
    assert {name.split("/")[0] for name in whole} == {
        *("corrupted", "measurements.parquet", "pictures", "predictions.parquet")
    }


def test_a_model_is_exactly_as_bad_as_itself(measure, recorder_type):
    """Model and baseline meet the same draws: their ratio is 1 in each."""
    models = {"a/seed-0": Linear(0), "b/seed-0": Linear(5)}
    rows = read_measurements(measure(models=models, baseline="a"))
    relative = rows[rows["metric"] == "mean corruption error (C-style, relative to a)"].set_index("model")
    assert tuple(relative.loc["a", ["value", "low", "high"]]) == (1, 1, 1)
    other = relative.loc["b"]
    assert other["low"] < other["value"] < other["high"]
    accuracies = rows.set_index(["model", "metric"])["value"]
    ratios = [
        (1 - accuracies["b", f"accuracy under {n}"]) / (1 - accuracies["a", f"accuracy under {n}"]) for n in NAMES
    ]
    assert other["value"] == pytest.approx(np.mean(ratios[:2]))
    with pytest.raises(AmalgamError, match=r"corruptions\.baseline is 'c'") as error:
        measure("c", models=models, baseline="c")
    assert "a, b" in error.value.remedy


def test_a_baseline_without_errors_is_left_out_and_said(measure, greys, recorder):
    out = measure(models={"m/seed-0": Threshold()}, monitor=recorder, corruptions=["contrast"], baseline="m")
    assert not any("relative" in metric for metric in read_measurements(out)["metric"])
    assert any("m errs on no image" in note for note in recorder.notes)


def test_one_severity_is_a_share_like_any_other(measure):
    rows = read_measurements(measure(severities=[3])).set_index(["model", "seed", "metric"])
    for name in NAMES:
        one, mean = (rows.loc[("soup", 0, f"accuracy under {name}{s}")] for s in (" (severity 3)", ""))
        assert one.equals(mean)


def test_a_shard_of_other_images_is_refused(measure, shards, folders):
    out = measure()
    (cache,) = folders("cache")
    images = choose_images(config(images=19), shards, cache)
    with pytest.raises(AmalgamError, match=r"contrast/5\.tar holds other images"):
        read_piece(images, out / "corrupted" / "contrast" / "5.tar")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corruptions": ["fogg"]}, "no corruption 'fogg'; choose from gaussian_noise"),
        ({"corruptions": ["saturate"]}, "add at least one of gaussian_noise"),
        ({"corruptions": []}, "add at least one of"),
        ({"corruptions": ["fog", "fog"]}, "fog is given twice"),
        ({"severities": [0]}, "no severity 0; choose whole numbers from 1 to 5"),
        ({"severities": []}, "at least 1"),
        ({"splits": ["test", "test"]}, "test is given twice"),
        ({"table": "mnist"}, "'cifar' or 'imagenet'"),
        ({"published": "../files"}, "no folder below data/"),
        ({"severity": 1}, "severity"),
    ],
)
def test_mistakes_in_the_settings_are_named(changes, message):
    with pytest.raises(ValidationError, match=message) as error:
        config(**changes)
    assert error.value.errors()[0]["loc"][0] == next(iter(changes))


def test_defaults_are_the_whole_benchmark():
    settings = CorruptionsConfig(splits=["test"])
    assert len(settings.pieces()) == 75
    assert tuple(settings.corruptions) == CORRUPTIONS


@pytest.fixture
def cifar_c(tmp_path, monkeypatch):
    """Write arrays as CIFAR-10-C has them, with 30 images for 10000: grey, brighter with the severity."""
    monkeypatch.setattr(published_module, "CIFAR_COUNT", 30)
    folder = tmp_path / "cifar-10-c"
    folder.mkdir()
    levels = np.concatenate([np.arange(30) * 4 + 10 * severity for severity in range(1, 6)])
    for name in ("fog", "frost"):
        pixels = np.broadcast_to(levels[:, None, None, None], (150, 32, 32, 3)).astype(np.uint8)
        np.save(folder / f"{name}.npy", pixels)
    np.save(folder / "labels.npy", np.tile(np.arange(30) % 2, 5).astype(np.uint8))
    return folder


def test_published_arrays(measure, cifar_c):
    out = measure(models={"m/seed-0": Threshold(80 / 255)}, published=cifar_c, corruptions=["fog", "frost"], images=12)
    found = predictions_of(out)
    assert len(found) == 12 * 2 * 2
    for line in found.itertuples():
        number = int(line.id.rsplit("-", 1)[1])
        assert line.label == ["bar", "disc"][number % 2]
        assert line.predicted == ["bar", "disc"][number * 4 + 10 * line.severity > 80]
    metrics = set(read_measurements(out)["metric"])
    assert "mean corruption error (CIFAR-10-C)" in metrics
    assert not any("C-style" in m or "without" in m for m in metrics)
    assert not (out / "corrupted").exists()


def test_published_arrays_that_do_not_fit(measure, cifar_c):
    def run(**changes):
        settings = {"corruptions": ["fog"], "models": {"m/seed-0": Threshold()}, "published": cifar_c}
        return measure(**(settings | changes))

    with pytest.raises(AmalgamError, match=r"no snow\.npy"):
        run(corruptions=["snow"])
    labels = np.load(cifar_c / "labels.npy")
    np.save(cifar_c / "labels.npy", labels + 7)
    with pytest.raises(AmalgamError, match="class 8, the dataset has 2"):
        run()
    labels[40] = 1 - labels[40]
    np.save(cifar_c / "labels.npy", labels)
    with pytest.raises(AmalgamError, match="differs between severities 1 and 2"):
        run()
    np.save(cifar_c / "labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(AmalgamError, match="damaged"):
        run()
    np.save(cifar_c / "fog.npy", np.zeros((10, 32, 32, 3), np.uint8))
    with pytest.raises(AmalgamError, match=r"fog\.npy has shape \(10, 32, 32, 3\)"):
        run()
    with pytest.raises(AmalgamError, match="no folder nowhere"):
        run(published=cifar_c / "nowhere")


@pytest.fixture
def imagenet_c(tmp_path):
    """Write images as ImageNet-C has them: bars are dark, discs bright, and severity 5 is all bright."""
    folder = tmp_path / "imagenet-c"
    for severity in (2, 5):
        for label, level in (("bar", 40), ("disc", 200)):
            home = folder / "fog" / str(severity) / label
            home.mkdir(parents=True)
            for number in range(6):
                grey = level if severity == 2 else 200
                suffix = "JPEG" if number % 2 else "png"
                Image.fromarray(np.full((32, 32, 3), grey, np.uint8)).save(home / f"{number}.{suffix}")
    return folder


def test_published_folders(measure, imagenet_c, monkeypatch):
    decoded, original = [], published_module.decode
    monkeypatch.setattr(published_module, "decode", lambda data: decoded.append(1) or original(data))
    measure("three", published=imagenet_c, corruptions=["fog"], images=10)
    assert len(decoded) == 2 * 10, "once for all models"
    rows = read_measurements(
        measure(models={"m/seed-0": Threshold()}, published=imagenet_c, corruptions=["fog"], images=100)
    ).set_index("metric")
    assert rows.loc["accuracy under fog (severity 2)", "value"] == 1
    assert rows.loc["accuracy under fog (severity 5)", "value"] == 0.5
    assert rows.loc["mean corruption error (ImageNet-C)", "value"] == 0.25
    assert set(rows["n"]) == {12}


def test_published_errors_of_alexnet_are_a_baseline(measure, imagenet_c, cifar_c):
    """A model that is wrong on half of everything has the mean of 0.5 over AlexNet's error."""
    for severity in (1, 3, 4):
        shutil.copytree(imagenet_c / "fog" / "5", imagenet_c / "fog" / str(severity))
    shutil.copytree(imagenet_c / "fog" / "5", imagenet_c / "fog" / "2", dirs_exist_ok=True)
    settings = {
        "models": {"m/seed-0": Threshold()},
        "corruptions": ["fog"],
        "severities": [1, 2, 3, 4, 5],
        "images": 100,
    }
    rows = read_measurements(measure(published=imagenet_c, baseline="alexnet", **settings)).set_index("metric")
    relative = rows.loc["mean corruption error (ImageNet-C, relative to alexnet)"]
    assert relative["value"] == pytest.approx(0.5 / 0.819324)
    assert relative["low"] < relative["value"] < relative["high"]
    with pytest.raises(AmalgamError, match="those of CIFAR-10-C"):
        measure("arrays", published=cifar_c, baseline="alexnet", **settings)
    with pytest.raises(ValueError, match="all five severities"):
        config(baseline="alexnet", published="data/imagenet-c", severities=[1, 2])


def test_published_folders_that_do_not_fit(measure, imagenet_c):
    def run(tag, **changes):
        settings = {"corruptions": ["fog"], "models": {"m/seed-0": Threshold()}, "published": imagenet_c, "images": 100}
        return measure(tag, **(settings | changes))

    with pytest.raises(AmalgamError, match="no folder fog/3"):
        run("a", severities=[3])
    (imagenet_c / "fog" / "5" / "bar" / "0.png").unlink()
    with pytest.raises(AmalgamError, match=r"no fog/5/bar/0\.png"):
        run("b")
    Image.new("RGB", (40, 20)).save(imagenet_c / "fog" / "2" / "bar" / "0.png")
    with pytest.raises(AmalgamError, match=r"fog/2/bar/0\.png is 40 x 20 pixels"):
        run("c")
    (imagenet_c / "fog" / "2" / "bar").rename(imagenet_c / "fog" / "2" / "n01440764")
    with pytest.raises(AmalgamError, match="classes that the dataset has not: n01440764"):
        run("d")
    (imagenet_c / "fog" / "1").mkdir()
    with pytest.raises(AmalgamError, match="fog/1 holds no images"):
        run("e", severities=[1])
