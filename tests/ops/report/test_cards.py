"""Model cards: what the Hugging Face Hub reads in them, whose data they name, and what they warn of."""

import hashlib
from itertools import product

import pandas as pd
import pytest
from huggingface_hub import ModelCard as HubCard
from safetensors.torch import load_file

from ops.attack.attacks import Attack
from ops.errors import AmalgamError
from ops.evaluate.attack_budgets import write_attacks
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import row, write_measurements
from ops.files import read_json, write_json
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import save_classifier
from ops.models.config import Architecture
from ops.report.card_figures import caveats, headline
from ops.report.cards import synthetic_sources, write_model_cards
from ops.report.config import ModelCardConfig

CONFIG = ModelCardConfig(
    developers="D | E", contact="a@b", licence="apache-2.0", intended_use="Tests.", out_of_scope="Else.",
    considerations="None.",
)  # fmt: skip
PARTS = ("in distribution", "out of distribution")
RECIPES = {
    "classifier/real": {"description": "Real images.", "mix": {"real_fraction": 1.0, "source": "filtered_synthetic"}},
    "classifier/mixed": {"description": "Both.", "mix": {"real_fraction": 0.5, "source": "filtered_synthetic"}},
    "soup": {"soup": {"ingredients": ["classifier/real", "classifier/mixed"]}},
}


@pytest.fixture
def lineage(tmp_path, shards):
    """Return arguments of `write_model_cards`: three models of two seeds and two evaluations of them."""
    models = {}
    architecture = Architecture(widths=[4, 8], blocks=[1, 1])
    for name, recipe in RECIPES.items():
        for seed in (0, 1):
            models[f"{name}/seed-{seed}"] = tmp_path / name / f"seed-{seed}"
            card = ModelCard(
                name=name, architecture=architecture, classes=["bar", "disc"], image_size=32, mean=[0.5] * 3,
                std=[0.25] * 3, seed=seed, ancestor="", recipe=recipe,
            )  # fmt: skip
            save_classifier(
                models[f"{name}/seed-{seed}"], build_classifier(architecture, 2, [0.5] * 3, [0.25] * 3, seed), card
            )
    rows, groups = [], []
    for name in models:
        value = 0.5 + 0.1 * int(name[-1])
        rows.append(row(name, "shapes", "test", "all", "clean accuracy", (value, value - 0.1, value + 0.1), 48))
        rows.append(row(name, "shapes", "test", "all", "accuracy after pgd (linf 4/255)", (0.2, 0.1, 0.3), 40))
        rows.append(row(name, "shapes", "test", "all", "robust accuracy (linf 4/255)", (0.2, 0.1, 0.3), 40))
        for split in ("test", "in distribution", "out of distribution"):
            groups += [row(name, "shapes", split, f"tone={t}", "accuracy", (0.4, 0.3, 0.5), 12) for t in "01"]
            worst = f"tone={name[-1]}"
            groups.append(row(name, "shapes", split, worst, "worst-group accuracy", (0.4, 0.3, 0.5), 12))
            groups.append(row(name, "shapes", split, "tone", "accuracy gap", (0.2, 0.1, 0.5), 24))
            groups.append(row(name, "shapes", split, "tone", "accuracy disparity", (0.1, 0.1, 0.2), 24))
            groups.append(row(name, "shapes", split, "tone", "sensitivity gap", (0.3, 0.1, 0.5), 24))
            groups.append(row(name, "shapes", split, "tone+sex", "AUROC gap", (0.3, 0.1, 0.5), 24))
            groups.append(row(name, "shapes", split, "tone+sex=0+f", "worst-group accuracy", (0.3, 0.1, 0.5), 13))
            groups.append(row(name, "shapes", split, "all", "AUROC", (0.8, 0.7, 0.9), 24))
    evaluations = {"robustness": tmp_path / "robustness", "fairness": tmp_path / "fairness"}
    for path, made in zip(evaluations.values(), (rows, groups), strict=True):
        path.mkdir()
        write_measurements(path / "measurements.parquet", made)
    doubt = "classifier/real/seed-1: images without a gradient 0.5 (limit 0): a bad sign"
    threat = {"norm": "linf", "eps": "4/255"}
    settings = {"splits": ["test"], "threats": [threat], "attacks": [{"name": "pgd", "steps": 40}]}
    write_attacks(evaluations["robustness"], RobustnessConfig.model_validate(settings))
    write_json(evaluations["robustness"] / "honesty.json", {"warnings": [doubt], "signs": {}})
    return models, evaluations, {"filtered_synthetic": shards}, shards


def write(lineage, out, recorder):
    out.mkdir()
    return write_model_cards(CONFIG, *lineage, out, recorder)


def test_the_hub_reads_the_measurements(lineage, tmp_path, recorder):
    """Results in the card's metadata are the means over the seeds; what the card says is what the folders say."""
    summary = write(lineage, tmp_path / "cards", recorder)
    card = HubCard.load(tmp_path / "cards" / "classifier" / "mixed" / "README.md")
    assert card.data.license == "apache-2.0"
    found = {(r.dataset_split, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert found == {
        ("test", "clean accuracy (all)"): 0.55,
        ("test", "robust accuracy (linf 4/255) (all)"): 0.2,
        **dict.fromkeys(product(PARTS, ("worst-group accuracy (tone)",)), 0.4),
        **dict.fromkeys(product(PARTS, ("worst-group accuracy (tone+sex)",)), 0.3),
        **dict.fromkeys(product(PARTS, ("accuracy gap (tone)",)), 0.2),
        **dict.fromkeys(product(PARTS, ("AUROC (all)",)), 0.8),
    }
    assert "| test | clean accuracy | 0.550 [0.450, 0.650] | 48 | 0.500, 0.600 |" in card.text
    assert (
        "| in distribution | worst-group accuracy (by tone) | 0.400 [0.300, 0.500] | 12 | 0.400 (0); 0.400 (1) |"
        in (card.text)
    ), "seeds whose worst groups differ are one line"
    assert "D \\| E" in card.text
    facts = read_json(tmp_path / "cards" / "classifier" / "mixed" / "card.json")
    weights = lineage[0]["classifier/mixed/seed-1"] / "model.safetensors"
    assert facts["weights"]["1"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    trained = [v.numel() for k, v in load_file(weights).items() if "running" not in k and "num_batches" not in k]
    assert facts["parameters"] == sum(trained) - 6, "mean and standard deviation of the pixels are not trained"
    assert list(summary.texts) == sorted(RECIPES)


def test_data_are_those_of_all_ancestors(lineage, tmp_path, recorder):
    write(lineage, tmp_path / "cards", recorder)
    used = {name: set(read_json(tmp_path / "cards" / name / "card.json")["trained on"]) for name in RECIPES}
    assert used == {
        "classifier/real": {"real_shards"},
        "classifier/mixed": {"real_shards", "filtered_synthetic"},
        "soup": {"real_shards", "filtered_synthetic"},
    }
    tuned = {"ingredient/l2": {"initialisation": "mixed", "mix": {"real_fraction": 1.0}}, **RECIPES}
    assert synthetic_sources("ingredient/l2", tuned) == {"filtered_synthetic"}
    assert synthetic_sources("ingredient/l2", {"ingredient/l2": tuned["ingredient/l2"]}) == set()


def test_caveats(lineage, tmp_path, recorder):
    write(lineage, tmp_path / "cards", recorder)
    notes = {name: read_json(tmp_path / "cards" / name / "card.json")["caveats"] for name in RECIPES}
    assert any("images without a gradient" in note for note in notes["classifier/real"])
    assert not any("gradient" in note for note in notes["classifier/mixed"])
    assert any(
        "in linf is under pgd (40 steps). AutoAttack has apgd-ce (100 steps), " in note for note in notes["soup"]
    )
    assert any("smallest sample is 12 images" in note for note in notes["soup"])


STANDARD = {
    "apgd-ce": {"steps": 100},
    "apgd-t": {"steps": 100, "targets": 9},
    "fab-t": {"steps": 100, "targets": 9},
    "square": {"steps": 5000},
}


def notes_of(attacks, classes=10, norm="linf"):
    """Return what is said of a model that met `attacks` (settings by name)."""
    under = f"({norm} 1)"
    rows = [row("m/seed-0", "x", "test", "all", f"accuracy after {a} {under}", (0.1, 0.1, 0.1), 9) for a in attacks]
    rows.append(row("m/seed-0", "x", "test", "all", f"robust accuracy {under}", (0.1, 0.1, 0.1), 9))
    table = pd.DataFrame(rows).assign(stage="robustness")
    figures = headline(table)
    assert [figure.metric for figure in figures] == [f"robust accuracy {under}"]
    given = {norm: [Attack(name=name, **settings) for name, settings in attacks.items()]}
    return [note for note in caveats(figures, table, [], given, classes) if "AutoAttack" in note]


@pytest.mark.parametrize(
    "attacks",
    [
        STANDARD,
        {"pgd": {"steps": 1}, **STANDARD},
        {name: settings | {"steps": 10000} for name, settings in STANDARD.items()},
        STANDARD | {"apgd-ce": {"steps": 100, "restarts": 5}, "fab-t": {"steps": 100, "targets": 99, "restarts": 2}},
    ],
)
def test_attacks_as_strong_as_autoattack_have_no_caveat(attacks):
    assert notes_of(attacks) == []


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("apgd-ce", {"steps": 99}, "apgd-ce (100 steps)"),
        ("apgd-t", {"steps": 4, "targets": 9}, "apgd-t (100 steps, 9 targets)"),
        ("apgd-t", {"steps": 500, "targets": 8}, "apgd-t (100 steps, 9 targets)"),
        ("fab-t", {"steps": 3, "targets": 9}, "fab-t (100 steps, 9 targets)"),
        ("square", {"steps": 20}, "square (5000 queries)"),
    ],
)
def test_a_budget_below_autoattacks_is_said(name, settings, said):
    (note,) = notes_of(STANDARD | {name: settings})
    assert f"AutoAttack has {said}: stronger attacks may lower the figures." in note
    assert f"{name} ({settings['steps']} " in note.partition("AutoAttack has")[0]


def test_targets_count_up_to_the_number_of_wrong_classes():
    few = STANDARD | {"apgd-t": {"steps": 100, "targets": 3}, "fab-t": {"steps": 100, "targets": 3}}
    assert notes_of(few, classes=4) == []
    (note,) = notes_of(few, classes=5)
    assert "AutoAttack has apgd-t (100 steps, 9 targets), fab-t (100 steps, 9 targets): " in note


def test_in_l1_autoattack_has_restarts_and_fewer_targets():
    (note,) = notes_of(STANDARD, norm="l1")
    assert "AutoAttack has apgd-ce (100 steps, 5 restarts): " in note
    l1 = STANDARD | {"apgd-ce": {"steps": 100, "restarts": 5}, "apgd-t": {"steps": 100, "targets": 5}}
    assert notes_of(l1, norm="l1") == []
    assert len(notes_of(l1, norm="l2")) == 1


def test_norms_with_the_same_attacks_share_a_sentence_and_unknown_attacks_count_as_weak():
    metrics = [f"accuracy after {a} ({t})" for t in ("linf 8/255", "l2 0.5", "l1 12") for a in STANDARD]
    rows = pd.DataFrame([row("m/seed-0", "x", "test", "all", metric, (0.1, 0.1, 0.1), 9) for metric in metrics])
    figures = headline(rows.assign(stage="robustness", metric="robust accuracy (l1 12)"))
    weak, strong = ([Attack(name=n, **s | c) for n, s in STANDARD.items()] for c in ({"steps": 2}, {}))
    notes = [n for n in caveats(figures, rows, [], {"linf": weak, "l2": weak}, 10) if "AutoAttack" in n]
    assert [note.partition(" is under ")[0] for note in notes] == [
        "Robust accuracy in linf, l2",
        "Robust accuracy in l1",
    ]
    assert "under apgd-ce, apgd-t, fab-t, square. AutoAttack has apgd-ce (100 steps, 5 restarts), apgd-t" in notes[1]
    notes = [n for n in caveats(figures, rows, [], {"linf": strong, "l2": strong}, 10) if "AutoAttack" in n]
    assert [note.partition(" is under ")[0] for note in notes] == ["Robust accuracy in l1"]


def test_a_model_that_was_not_attacked_has_no_caveat_about_attacks():
    rows = pd.DataFrame([row("m/seed-0", "x", "test", "all", "clean accuracy", (0.1, 0.1, 0.1), 9)])
    assert not any("AutoAttack" in note for note in caveats(headline(rows.assign(stage="r")), rows, [], {}, 10))


def test_same_inputs_same_bytes_and_no_paths(lineage, tmp_path, recorder):
    for name in ("one", "two"):
        write(lineage, tmp_path / name, recorder)
    for path in sorted(p for p in (tmp_path / "one").rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        assert str(tmp_path) not in path.read_text()


def test_a_model_that_nobody_measured_is_refused(lineage, tmp_path, recorder):
    models = {**lineage[0], "classifier/new/seed-0": lineage[0]["soup/seed-0"]}
    with pytest.raises(AmalgamError, match="no evaluation measured classifier/new"):
        write((models, *lineage[1:]), tmp_path / "cards", recorder)
