"""What is remembered of models: by their content and that of the images, and no longer than they are evaluated."""

import shutil

import pytest

from ops.evaluate.ledger import model_ledgers
from ops.evaluate.remembered import forget_others
from ops.files import write_json


@pytest.fixture
def place(tmp_path):
    """Return two models, images, and a home for ledgers."""
    models = {f"classifier/{name}/seed-0": tmp_path / name for name in ("a", "b")}
    for name, folder in models.items():
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(name.encode())
    real = tmp_path / "real"
    real.mkdir()
    (real / "manifest.parquet").write_bytes(b"images")
    write_json(real / "dataset.json", {"classes": ["x", "y"]})
    return models, real, tmp_path / "ledger"


def test_a_ledger_is_found_again_as_long_as_nothing_changed(place, tmp_path):
    models, real, home = place
    first = model_ledgers(home, models, real)
    (first["classifier/a/seed-0"] / "note").write_text("kept")
    moved = tmp_path / "elsewhere"
    shutil.copytree(models["classifier/a/seed-0"], moved)
    again = model_ledgers(home, {**models, "classifier/a/seed-0": moved}, real)
    assert again == first
    assert (again["classifier/a/seed-0"] / "note").read_text() == "kept"


@pytest.mark.parametrize("changed", ["weights", "manifest", "classes"])
def test_another_model_or_other_images_have_a_ledger_of_their_own(place, changed):
    models, real, home = place
    first = model_ledgers(home, models, real)
    if changed == "weights":
        (models["classifier/a/seed-0"] / "model.safetensors").write_bytes(b"trained again")
    elif changed == "manifest":
        (real / "manifest.parquet").write_bytes(b"other images")
    else:
        write_json(real / "dataset.json", {"classes": ["y", "x"]})
    second = model_ledgers(home, models, real)
    assert second["classifier/a/seed-0"] != first["classifier/a/seed-0"]
    assert (second["classifier/b/seed-0"] == first["classifier/b/seed-0"]) == (changed == "weights")


def test_what_is_no_longer_evaluated_is_forgotten(place):
    models, real, home = place
    first = model_ledgers(home, models, real)
    (models["classifier/a/seed-0"] / "model.safetensors").write_bytes(b"trained again")
    second = model_ledgers(home, models, real)
    forget_others(home, second.values())
    assert sorted(home.iterdir()) == sorted(second.values())
    assert not first["classifier/a/seed-0"].exists()
