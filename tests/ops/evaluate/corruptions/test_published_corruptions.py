"""Published corruptions: CIFAR-10-C's arrays and ImageNet-C's folders are read, and what does not fit is refused."""

import shutil

import numpy as np
import pytest
from PIL import Image

from ops.errors import AmalgamError
from ops.evaluate.corruptions import published as published_module
from ops.evaluate.measurements import read_measurements
from tests.ops.evaluate.corruptions.cases import Threshold, config, predictions_of


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
    assert len(decoded) == 2 * 10 + 2, "once for all models, and the first of each piece for the picture"
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


def test_what_is_remembered_is_not_decoded_again(measure, imagenet_c, monkeypatch):
    measure("three", published=imagenet_c, corruptions=["fog"], images=10)
    decoded, original = [], published_module.decode
    monkeypatch.setattr(published_module, "decode", lambda data: decoded.append(1) or original(data))
    measure("three", published=imagenet_c, corruptions=["fog"], images=10)
    assert len(decoded) == 10 + 2, "the labels' source and the pictures"
