"""Training end to end on drawn shapes: it learns, it resumes to the same bytes, its mistakes are clear."""

import json

import pytest
import torch

from ops.errors import AmalgamError
from ops.models.checkpoint import load_classifier
from ops.resume import Checkpoint
from ops.train.engine import step_count
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe

CPU = torch.device("cpu")


def recipe(**changes) -> Recipe:
    base = {
        "architecture": {"widths": [8, 16], "blocks": [1, 1]},
        "threat": {"norm": "linf", "eps": 2 / 255},
        "attack": {"steps": 2, "step_size": 0.75},
        "averaging": {"decay": 0.9},
        "schedule": {"epochs": 24, "batch": 24, "lr": 0.1},
        "reviews": {"count": 2, "images": 32},
    }
    return Recipe.model_validate(base | changes)


def train(chosen, shards, folders, monitor, name="real", synthetic=None, initial=None, seed=0, tag="a"):
    out, scratch, cache = folders(f"out-{tag}", f"scratch-{tag}", "cache")
    summary = train_classifier(chosen, name, shards, synthetic, initial, seed, out, scratch, cache, CPU, monitor)
    return out, summary


def test_it_learns_shapes_robustly(shards, folders, recorder):
    out, summary = train(recipe(), shards, folders, recorder)
    assert summary.figures["validation clean accuracy"] >= 0.9
    assert summary.figures["validation robust accuracy"] >= 0.75
    model, card = load_classifier(out, CPU)
    assert not model.training
    assert card.classes == ["bar", "disc"]
    assert card.recipe["beta"] == 6.0
    assert (out / "pictures" / "curves.png").stat().st_size > 1000
    history = json.loads((out / "history.json").read_text())
    assert [(p["weights"], p["split"]) for p in history["evaluations"]] == [
        ("averaged", "validation"),
        ("live", "validation"),
    ] * 2
    assert history["steps"][0]["loss"] > history["steps"][-1]["loss"]
    assert {"images_per_second", "seconds_remaining", "attack_strength"} <= set(recorder.points[0][1])


KILLED = {
    "trades": {"averaging": {"method": "swa", "every": 0.5}, "attack": {"steps": 2, "rule": "adam"}},
    "pgd_at": {"augmentation": {"mixing": {"method": "cutmix", "splits": 2}}},
    "mart": {"schedule": {"epochs": 3, "batch": 24, "lr": 0.1, "accumulate": 2, "clip": 1.0}},
    "free": {"replays": 3},
    "clean": {"schedule": {"epochs": 3, "batch": 24, "lr": 0.01, "optimizer": "adamw"}},
}


@pytest.mark.parametrize("loss", KILLED)
def test_a_killed_run_ends_with_the_same_bytes(loss, shards, synthetic, folders, recorder_type, monkeypatch):
    monkeypatch.setattr(Checkpoint, "step", lambda self, done: self.save(done) if done % 3 == 0 else None)
    base = {"mix": {"real_fraction": 0.5}, "schedule": {"epochs": 3, "batch": 24, "lr": 0.1}}
    chosen = recipe(loss=loss, **(base | KILLED[loss]))
    whole, _ = train(chosen, shards, folders, recorder_type(), synthetic=synthetic, tag="whole")
    with pytest.raises(KeyboardInterrupt):
        train(chosen, shards, folders, recorder_type(stop_after=7), synthetic=synthetic, tag="killed")
    resumed_monitor = recorder_type()
    resumed, _ = train(chosen, shards, folders, resumed_monitor, synthetic=synthetic, tag="killed")
    assert 0 < resumed_monitor.calls < step_count(chosen, 96)
    for name in ("model.safetensors", "model.json", "history.json", "best/model.safetensors", "best/model.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name


def test_seeds_differ_and_the_same_seed_does_not(shards, folders, recorder):
    short = recipe(schedule={"epochs": 1, "batch": 24, "lr": 0.1})
    a, b, c = (
        (train(short, shards, folders, recorder, seed=s, tag=t)[0] / "model.safetensors").read_bytes()
        for s, t in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert a == b
    assert a != c


def test_a_fine_tuned_model_keeps_its_ancestor(shards, folders, recorder):
    short = recipe(schedule={"epochs": 1, "batch": 24, "lr": 0.05})
    first, _ = train(short, shards, folders, recorder, tag="first")
    second, _ = train(short, shards, folders, recorder, name="l2", initial=first, tag="second")
    ancestors = [load_classifier(folder, CPU)[1].ancestor for folder in (first, second)]
    assert ancestors[0] == ancestors[1] != ""


def test_divergence_names_step_and_remedy(shards, folders, recorder):
    with pytest.raises(AmalgamError, match=r"step \d+") as error:
        train(recipe(loss="clean", schedule={"epochs": 20, "batch": 24, "lr": 1e9}), shards, folders, recorder)
    assert "lr" in error.value.remedy


def test_another_architecture_is_named(shards, folders, recorder):
    short = recipe(schedule={"epochs": 0.3, "batch": 24, "lr": 0.05})
    first, _ = train(short, shards, folders, recorder, tag="first")
    other = short.model_copy(update={"architecture": short.architecture.model_copy(update={"widths": [8, 24]})})
    with pytest.raises(AmalgamError, match="another architecture"):
        train(other, shards, folders, recorder, initial=first, tag="second")


def test_a_mix_without_synthetic_images_is_refused(shards, folders, recorder):
    with pytest.raises(AmalgamError, match="there are none"):
        train(recipe(mix={"real_fraction": 0.5}), shards, folders, recorder)


def test_epochs_count_real_images():
    """Same number of steps whatever the mix: the papers' convention."""
    for fraction in (1.0, 0.3):
        assert step_count(recipe(mix={"real_fraction": fraction}, schedule={"epochs": 10, "batch": 50}), 1000) == 200


@pytest.mark.parametrize("keep", ["last", "best"])
def test_best_and_last_are_both_kept(keep, shards, folders, recorder, monkeypatch):
    """Accuracies are made to peak at the second of four reviews; the weights of that moment must be the best ones."""
    taken = []

    def scripted(model, images, threat, steps, device):
        taken.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"clean accuracy": 0.9, "robust accuracy": [0.4, 0.7, 0.7, 0.5][len(taken) - 1]}

    monkeypatch.setattr("ops.train.reviews.evaluate", scripted)
    chosen = recipe(keep=keep, reviews={"count": 4, "live": False}, schedule={"epochs": 4, "batch": 24, "lr": 0.1})
    out, summary = train(chosen, shards, folders, recorder)
    folders_of = {"last": out, "best": out / "best"} if keep == "last" else {"last": out / "last", "best": out}
    for which, number in (("best", 1), ("last", 3)):
        model, card = load_classifier(folders_of[which], CPU)
        assert all(torch.equal(v, taken[number][k]) for k, v in model.state_dict().items()), which
        assert card.metrics["epoch"] == number + 1
    assert summary.figures["robust overfitting (best - last)"] == pytest.approx(0.2)


def test_generated_rows_alone_train_too(shards, synthetic, folders, recorder):
    """Alpha = 0: only generated images; alpha = 1 does not even look at them."""
    short = {"schedule": {"epochs": 0.5, "batch": 24, "lr": 0.1}}
    out, _ = train(recipe(mix={"real_fraction": 0.0}, **short), shards, folders, recorder, synthetic=synthetic)
    assert (out / "model.safetensors").exists()
    out, _ = train(
        recipe(mix={"real_fraction": 1.0}, **short), shards, folders, recorder, synthetic=shards / "nowhere", tag="b"
    )
    assert (out / "model.safetensors").exists()


def test_an_empty_synthetic_folder_is_named(shards, shard_maker, tmp_path, folders, recorder):
    empty = shard_maker(tmp_path / "synthetic", {"validation": 4})
    with pytest.raises(AmalgamError, match="synthetic has no images in train"):
        train(recipe(mix={"real_fraction": 0.5}), shards, folders, recorder, synthetic=empty)
