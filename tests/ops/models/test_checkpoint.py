"""Model folders: what is saved comes back, and what is wrong has a name."""

import json

import pytest
import torch

from ops.errors import AmalgamError
from ops.models.checkpoint import load_classifier, load_weights, save_classifier, weights_digest
from ops.models.config import Architecture

CPU = torch.device("cpu")
ARCHITECTURE = Architecture(widths=[8, 16], blocks=[1, 1])
OTHERS = {
    "preact_resnet": {"blocks": [2, 1]},
    "wide_resnet": {"width": 2},
    "resnet9": {"widths": [8, 12, 20]},
    "vit": {"layers": 3},
}


@pytest.fixture
def saved(save):
    return save(ARCHITECTURE)


def test_round_trip(architecture, save, tmp_path):
    folder, model, card = save(architecture)
    loaded, theirs = load_classifier(folder, CPU)
    x = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(loaded(x), model(x))
    assert not loaded.training
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


def test_a_card_of_another_architecture(architecture, save):
    folder, _, _ = save(architecture)
    card = json.loads((folder / "model.json").read_text())
    for changed in (OTHERS[architecture.family], {"family": "resnet9" if architecture.family == "vit" else "vit"}):
        other = card | {"architecture": card["architecture"] | changed}
        (folder / "model.json").write_text(json.dumps(other))
        with pytest.raises(AmalgamError, match=r"another architecture: \d+ tensors differ, first"):
            load_classifier(folder, CPU)


def test_a_card_with_impossible_settings_is_damaged(saved):
    folder, _, _ = saved
    card = json.loads((folder / "model.json").read_text())
    card["architecture"]["widths"] = [8, 16, 32]
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(AmalgamError, match="damaged"):
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
