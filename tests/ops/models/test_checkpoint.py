"""Model folders: what is saved comes back, and what is wrong has a name."""

import json

import pytest
import torch

from ops.errors import AmalgamError
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, load_weights, save_classifier, weights_digest
from ops.models.config import Architecture
from ops.models.resnet import build_classifier

CPU = torch.device("cpu")
ARCHITECTURE = Architecture(widths=[8, 16], blocks=[1, 1])


@pytest.fixture
def saved(tmp_path):
    model = build_classifier(ARCHITECTURE, 2, [0.5] * 3, [0.25] * 3, seed=3)
    torch.nn.init.normal_(model.head.weight)
    card = ModelCard(
        name="real", architecture=ARCHITECTURE, classes=["a", "b"], image_size=16, mean=[0.5] * 3, std=[0.25] * 3,
        seed=3, ancestor="x",
    )  # fmt: skip
    save_classifier(tmp_path / "model", model, card)
    return tmp_path / "model", model, card


def test_round_trip(saved, tmp_path):
    folder, model, card = saved
    loaded, theirs = load_classifier(folder, CPU)
    x = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(loaded(x), model.eval()(x))
    assert theirs == card
    assert weights_digest(loaded) == weights_digest(model)
    save_classifier(tmp_path / "again", loaded, theirs)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_missing_and_damaged_files_are_named(saved, name):
    folder, _, _ = saved
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(AmalgamError, match="damaged"):
        load_classifier(folder, CPU)
    (folder / name).unlink()
    with pytest.raises(AmalgamError, match=name):
        load_classifier(folder, CPU)


def test_a_card_of_another_architecture(saved):
    folder, _, _ = saved
    card = json.loads((folder / "model.json").read_text())
    card["architecture"]["widths"] = [8, 24]
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(AmalgamError, match=r"another architecture: \d+ tensors differ, first"):
        load_classifier(folder, CPU)


def test_a_pickle_is_never_loaded(saved):
    folder, model, _ = saved
    torch.save(model.state_dict(), folder / "model.safetensors")
    with pytest.raises(AmalgamError, match="damaged"):
        load_classifier(folder, CPU)


def test_weights_that_do_not_fit_say_where(saved):
    _, model, _ = saved
    state = model.state_dict()
    state.pop("head.bias")
    with pytest.raises(AmalgamError, match=r"head\.bias"):
        load_weights(model, state, "theirs")
