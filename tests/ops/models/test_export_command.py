"""`python -m pipelines export`: which model, which file, and what it says."""

import re

import pytest
import torch
from click.testing import CliRunner

from ops.errors import AmalgamError
from ops.models.config import Architecture
from pipelines import export
from pipelines.__main__ import main

TINY = Architecture(family="resnet9", widths=[4, 4])


@pytest.fixture
def store(save, tmp_path, monkeypatch):
    for name in ("store/classifier/real/seed-0", "store/soup/seed-0", "store/classifier/.real.tmp/seed-0"):
        save(TINY, name)
    monkeypatch.setattr(export, "STORE", tmp_path / "store")
    return tmp_path / "store"


def test_a_model_of_the_store_becomes_a_file(store, tmp_path):
    name = "store/classifier/real/seed-0/"  # as a shell completes it
    before = torch.are_deterministic_algorithms_enabled()
    try:
        done = CliRunner().invoke(main, ["export", name, str(tmp_path / "model.onnx")], catch_exceptions=False)
    finally:
        torch.use_deterministic_algorithms(before)
    assert done.exit_code == 0
    assert "logits differ by at most" in done.output
    assert (tmp_path / "model.onnx").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        (
            "classifier/reel/seed-0",
            r"did you mean classifier/real/seed-0\? If not, use one of: classifier/real/seed-0, soup/seed-0$",
        ),
        ("classifier/real", r"did you mean classifier/real/seed-0\?"),
        ("../secrets", r"^use one of: classifier/real/seed-0, soup/seed-0$"),
    ],
)
def test_an_unknown_model_is_answered_with_the_known_ones(store, tmp_path, name, remedy):
    with pytest.raises(AmalgamError, match="there is no model") as caught:
        export.export_model(name, tmp_path / "model.onnx")
    assert re.search(remedy, caught.value.remedy)
    assert not (tmp_path / "model.onnx").exists()


def test_an_empty_store_says_how_to_fill_it(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "STORE", tmp_path)
    with pytest.raises(AmalgamError, match="python -m pipelines run"):
        export.export_model("classifier/real/seed-0", tmp_path / "model.onnx")


def test_a_name_that_is_no_onnx_file(store, tmp_path):
    with pytest.raises(AmalgamError, match=r"ends in \.onnx"):
        export.export_model("soup/seed-0", tmp_path / "model.pt")


def test_help_says_what_goes_in_and_out():
    shown = CliRunner().invoke(main, ["export", "--help"]).output
    for word in ("classifier/real/seed-0", "float32 in [0, 1]", "logits"):
        assert word in shown
