"""Images handed on: marked, signed, verified, and refused as training data."""

import numpy as np
import pytest
from click.testing import CliRunner

from ops.data.marked import FIELD
from ops.data.shards import read_shard
from ops.errors import AmalgamError
from ops.files import read_json
from ops.progress import Silent
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe
from pipelines import export
from pipelines.__main__ import main
from tests.ops.conftest import make_shards


@pytest.fixture
def store(tmp_path, monkeypatch):
    make_shards(tmp_path / "store" / "synthetic_shards", {"train": 60}, source="synthetic")
    monkeypatch.setattr(export, "STORE", tmp_path / "store")
    (tmp_path / "key.bin").write_bytes(bytes(range(32)))
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def test_an_export_is_marked_signed_and_verified(store):
    out = store / "exported"
    said = run("export-images", "synthetic_shards", out, "--key", store / "key.bin").output
    assert "wrote 60 marked images" in said
    key = said.rsplit("--public-key ", 1)[1].strip()
    verified = run("verify-images", out, "--public-key", key, "--key", store / "key.bin").output
    assert f"signed by {key}; no file was changed" in verified
    shares = [float(line.split("in ")[1].split("%")[0]) for line in verified.splitlines() if "the mark is in" in line]
    assert shares
    assert np.mean(shares) > 90
    (store / "other.bin").write_bytes(bytes(32))
    other = run("verify-images", out, "--key", store / "other.bin").output
    assert float(other.split("the mark is in ")[1].split("%")[0]) < 10
    assert "anybody can sign" in other


def test_a_changed_export_is_found_out(store):
    out = store / "exported"
    run("export-images", "synthetic_shards", out, "--key", store / "key.bin")
    shard = next(out.rglob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(AmalgamError, match="is changed"):
        run("verify-images", out)


def test_marked_images_are_not_trained_on(store, tmp_path):
    shards = make_shards(store / "real", {"train": 16, "validation": 8})
    out = store / "exported"
    run("export-images", "synthetic_shards", out, "--key", store / "key.bin")
    assert FIELD in read_json(out / "dataset.json")
    assert read_shard(next(out.rglob("*.tar")))
    places = [tmp_path / name for name in ("out", "scratch", "cache")]
    for place in places:
        place.mkdir()
    schedule = {"epochs": 1, "batch": 8, "lr": 0.1}
    mix = {"real_fraction": 0.5, "source": "synthetic_shards"}
    recipe = Recipe.model_validate({"loss": "clean", "mix": mix, "schedule": schedule})
    with pytest.raises(AmalgamError, match="carry a watermark"):
        train_classifier(recipe, "x", shards, out, None, 0, *places, "cpu", Silent())
    with pytest.raises(AmalgamError, match="there are no images in nothing"):
        run("export-images", "nothing", store / "new", "--key", store / "key.bin")
