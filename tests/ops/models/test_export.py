"""ONNX files, run by onnxruntime, against the models they come from."""

import copy
import json

import onnx
import onnxruntime
import pytest
import torch

from ops.errors import AmalgamError
from ops.models import export
from ops.models.config import Architecture
from ops.models.export import export_onnx

TINY = Architecture(family="resnet9", widths=[4, 4])


def run(path, x: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])


def test_round_trip(architecture, save, tmp_path):
    folder, model, _ = save(architecture)
    out = tmp_path / "new" / "model.onnx"
    assert export_onnx(folder, out) < 1e-4
    for count in (1, 3, 6):
        x = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(run(out, x), model(x).detach(), rtol=1e-4, atol=1e-4)
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"], "weights are inside, nothing is left over"
    onnx.checker.check_model(out, full_check=True)


def test_files_know_their_classes_and_nothing_of_the_machine(save, tmp_path):
    folder, model, card = save(TINY)
    for name in ("a.onnx", "b.onnx"):
        export_onnx(folder, tmp_path / name)
    data = (tmp_path / "a.onnx").read_bytes()
    assert data == (tmp_path / "b.onnx").read_bytes()
    assert b".py" not in data
    properties = {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(properties["classes"]) == ["a", "b"]
    assert properties["image_size"] == "16"
    assert properties["name"] == "real"
    with torch.no_grad():
        model.head.bias[1] = torch.nan
    assert export._difference(model, card, tmp_path / "a.onnx") == torch.inf, "NaN is never near enough"


def test_a_file_that_is_another_function_is_not_kept(save, tmp_path, monkeypatch):
    folder, _, _ = save(TINY)
    out, true = tmp_path / "new" / "model.onnx", export._program

    def wrong(model, card):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.head.bias.add_(0.01)
        return true(other, card)

    monkeypatch.setattr(export, "_program", wrong)
    with pytest.raises(AmalgamError, match="not the same function"):
        export_onnx(folder, out)
    assert list(out.parent.iterdir()) == []


def test_a_missing_package_is_named(save, tmp_path, monkeypatch):
    folder, _, _ = save(TINY)
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(AmalgamError, match="needs onnxruntime"):
        export_onnx(folder, tmp_path / "model.onnx")


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(AmalgamError, match=r"model\.json is missing"):
        export_onnx(tmp_path, tmp_path / "model.onnx")
