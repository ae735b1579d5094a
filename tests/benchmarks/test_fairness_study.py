"""The fairness study: signs of its claims, mixes by kind, and folders of what an arm needs."""

from pathlib import Path

import pandas as pd
import pytest

import benchmarks.fairness as study
from benchmarks.fairness_arms import CONTROL, LABEL, LABEL_ATTRIBUTE, REMEDIES, fairness_arms, plain_recipe
from benchmarks.fairness_data import label_alone
from benchmarks.fairness_page import CLAIMS, OURS, arms_table, differences_table, page_of, shown_rows, verdicts_of
from benchmarks.fairness_remedies import OVERSAMPLING, remedies_text
from ops.evaluate.fairness.names import ACCURACY, AUROC, IN, OUT, gap, worst_group
from ops.generate.conditioning import Conditioner

PLAIN = plain_recipe()
MEASURES = {ACCURACY: "all", worst_group(ACCURACY): "tone", gap(ACCURACY): "tone", AUROC: "all"}


def compared(effects: dict[str, float], swapped: bool = False) -> pd.DataFrame:
    """Return our arm less each of `effects`, the same in every measure; `swapped` tells the other one less ours."""
    lines = []
    for other, effect in effects.items():
        for split in (IN, OUT):
            for measure, axis in MEASURES.items():
                pair = {"model": other, "than": OURS} if swapped else {"model": OURS, "than": other}
                value = -effect if swapped else effect
                ends = {"low": value - 0.01, "high": value + 0.02}
                lines.append(
                    {**pair, "split": split, "axis": axis, "measure": measure, "effect": value, **ends}
                    | {"p_holm": 0.01 if other == "erm" else 0.5, "seeds": [0, 1]}
                )
    return pd.DataFrame(lines)


OTHERS = {"erm": 0.05, "oversampling": -0.05, "heuristic": 0.005, "label_synthesis": 0.03}


@pytest.mark.parametrize("swapped", [False, True])
def test_less_of_a_gap_is_better_and_pairs_may_be_told_either_way(swapped):
    verdicts = verdicts_of(compared(OTHERS, swapped))
    found = {claim[0]: verdict for claim, verdict in zip(CLAIMS, verdicts, strict=True)}
    for (claim, other, measure, _), verdict in zip(CLAIMS, verdicts, strict=True):
        sign = -1 if measure == gap(ACCURACY) else 1
        assert verdict["effect"] == pytest.approx(sign * OTHERS[other]), claim
        assert verdict["low"] < verdict["effect"] < verdict["high"]
    assert found["Label + attribute synthesis improves accuracy out of distribution."]["holds"] is True
    assert found["It narrows the gap between groups in distribution."]["holds"] is False
    assert found[CLAIMS[3][0]]["holds"] is False
    assert found[CLAIMS[4][0]]["holds"] is None, "its interval holds 0"


def test_a_pair_that_was_not_compared_is_named():
    with pytest.raises(KeyError, match="oversampling"):
        verdicts_of(compared({"erm": 0.1}))


def test_the_page_shows_every_arm_and_marks_what_is_significant():
    differences = compared(OTHERS)
    rows = pd.DataFrame(
        [
            {"model": model, "split": split, "metric": metric, "group": "tone=5" if "worst" in metric else axis, "seed": seed}
            | {"value": 0.5 + 0.1 * seed, "low": 0.4, "high": 0.7}
            for model in (OURS, *OTHERS)
            for split in (IN, OUT)
            for metric, axis in MEASURES.items()
            for seed in (0, 1)
        ]
    )  # fmt: skip
    other = pd.DataFrame([{**rows.iloc[0], "group": "gender=man"}, {**rows.iloc[0], "split": "test"}])
    assert shown_rows(pd.concat([rows, other])).equals(rows)
    assert arms_table(rows).count("0.55 [0.40, 0.70]") == 5 * 8
    lines = {line.split(" | ")[0].strip("| "): line for line in differences_table(differences).splitlines()}
    assert lines["erm"].count("*") == 8
    assert "*" not in lines["oversampling"]
    tried = [{"kind": LABEL, "multiple": 1.0, "alpha": a, "value": 0.4} for a in (0.25, 0.5)]
    page = page_of(rows, differences, verdicts_of(differences), {LABEL: (0.5, 1.0)}, tried, 2, "chance")
    assert page.count("chosen |") == 1


def test_each_kind_of_synthesis_has_its_own_mix(monkeypatch):
    monkeypatch.setattr(study, "training_images", lambda shards: 1901)
    monkeypatch.setattr(study, "synthetic", lambda shards, kind, multiple: Path(f"{kind}-{multiple:g}"))
    arms, sources = study.final_arms(PLAIN, Path(), {LABEL: (0.25, 3.0), LABEL_ATTRIBUTE: (0.75, 1.0)})
    assert sources == {LABEL: Path("label_shards-3"), LABEL_ATTRIBUTE: Path("label_attribute_shards-1")}
    shares = {name: arms[name].mix.real_fraction for name in arms if arms[name].uses_synthetic}
    assert shares["label_synthesis"] == shares["label_synthesis_colour"] == 0.25
    assert shares["label_attribute_synthesis"] == shares["label_attribute_synthesis_colour"] == 0.75
    assert shares["pretrain"] == 0
    assert set(arms) == set(fairness_arms(PLAIN, 1901, 0.5))


def test_an_arm_gets_what_it_needs_and_nothing_is_trained_twice(monkeypatch, tmp_path):
    begun = []

    def record(out, scratch, **given):
        begun.append(given)
        (out / "model").touch()

    monkeypatch.setattr(study, "fit", record)
    arms = fairness_arms(PLAIN, 1901, 0.5)
    sources = {LABEL: Path("label"), LABEL_ATTRIBUTE: Path("both")}
    for name in ("jtt", "pretrain_finetune", "jtt"):
        study.trained(arms, name, sources, Path("real"), tmp_path, 3)
    assert [given["title"] for given in begun] == ["identifier", "jtt", "pretrain", "pretrain_finetune"]
    assert begun[1]["identifier"] == tmp_path / "identifier-3"
    assert begun[2]["mixed"] == Path("both")
    assert (begun[3]["initial"], begun[3]["mixed"]) == (tmp_path / "pretrain-3", None)
    assert {given["seed"] for given in begun} == {3}


def test_a_label_alone_is_the_null_of_every_other_condition():
    names, values = ["label", "domain", "gender", "tone"], [["a", "b"], ["flat"], ["man", "woman"], ["1", "2", "3"]]
    conditioner = Conditioner(names, values, context=8, embedding=8, max_tokens=4)
    row = {"label": "b", "domain": "flat", "attributes": {"gender": "man", "tone": "2"}, "caption": "b, a man"}
    assert conditioner.encode([row, label_alone(row)]).tolist() == [[1, 0, 0, 1], [1, 1, 2, 3]]
    assert label_alone(row)["caption"] == ""


@pytest.mark.parametrize("swapped", [False, True])
def test_remedies_are_told_against_oversampling_either_way(swapped):
    worst = worst_group(ACCURACY)
    names = [OVERSAMPLING, CONTROL, OURS, *REMEDIES]
    rows = pd.DataFrame(
        [
            {"model": name, "split": split, "metric": metric, "group": group, "seed": seed}
            | {"value": 0.4 + 0.02 * place, "low": 0.3, "high": 0.6}
            for place, name in enumerate(names)
            for split in (IN, OUT)
            for metric, group in ((worst, "tone=5"), (worst, "gender=x"), (ACCURACY, "all"), (AUROC, "all"))
            for seed in (0, 1)
            if metric != worst or group == "tone=5" or seed == 0
        ]
    )
    rows.loc[rows["group"] == "gender=x", "value"] = 9.0  # of another axis: not to be shown
    lines = []
    for place, name in enumerate(names[1:], start=1):
        effect, pair = 0.02 * place, {"model": name, "than": OVERSAMPLING}
        if swapped:
            effect, pair = -effect, {"model": OVERSAMPLING, "than": name}
        lines += [
            {**pair, "split": split, "axis": "tone", "measure": worst, "effect": effect, "p_holm": 0.5}
            | {"low": effect - 0.01, "high": effect + 0.01}
            for split in (IN, OUT)
        ]
    pair = {"model": CONTROL, "than": "augmented_synthesis"} | {"axis": "tone", "measure": worst, "p_holm": 0.01}
    lines += [{**pair, "split": split, "effect": -0.07, "low": -0.08, "high": -0.06} for split in (IN, OUT)]
    groups = pd.DataFrame(
        {"images": [7.0], "fidelity": 0.5, "fidelity_real": 0.75, "coverage": 0.3, "coverage_real": 0.9}
        | {"fails": [2], "recognised": 0.8, "kept": 0.4},
        index=["5"],
    )
    text = remedies_text(rows, pd.DataFrame(lines), groups)
    assert "| 5 | 7 | 0.50 (0.75) | 0.30 (0.90) | 2 | 0.80 | 0.40 |" in text
    assert "0.42 [0.30, 0.60] | +2.0 [+1.0, +3.0] |" in text
    assert "+7.0 [+6.0, +8.0] *, in distribution +7.0" in text
    assert text.count("[+15.0, +17.0]") == 2, "the last remedy, out of and in distribution"
    assert "9.00 [" not in text
