"""RobustBench's model-info: what is published is read, comes back, and is filled from measurements."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.attack.threat import Threat
from ops.errors import AmalgamError
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import row
from ops.evaluate.model_info import ModelInfo, eps_text, model_info_of, number, read_model_info, write_model_info
from ops.models.card import ModelCard
from ops.models.config import Architecture
from ops.models.external.config import ExternalArchitecture

PUBLISHED = {
    "link": "https://arxiv.org/abs/0000.00000",
    "name": "A Paper",
    "authors": "Ann Ä. Uthor, Bo B. Other",
    "additional_data": True,
    "number_forward_passes": 1,
    "dataset": "cifar10",
    "venue": "NeurIPS 2019",
    "architecture": "WideResNet-28-10",
    "eps": "8/255",
    "clean_acc": "89.69",
    "reported": "62.5",
    "autoattack_acc": "59.53",
    "unreliable": False,
}
FORMS = {
    "linf": {},
    "decimal eps, another's figure": {"eps": "0.031", "external": "58.22", "footnote": None},
    "corruptions": {"eps": None, "reported": "", "corruptions_acc": "76.78", "footnote": "Uses extra data."},
    "imagenet corruptions": {"eps": None, "reported": None, "corruptions_acc": "42.0", "corruptions_mce": "100.0",
                             "corruptions_acc_3d": "28.47", "corruptions_mce_3d": "104.1"},
    "null as text": {"reported": "null", "venue": "", "unreliable": True},
    "fields of old files": {"AA": "", "AA+": "", "AA_new": "53.74", "reported": "-"},
    "as its own tool writes a new one": {k: None for k in ("link", "name", "authors", "additional_data", "venue",
                                                           "number_forward_passes", "architecture", "reported")},
}  # fmt: skip


@pytest.fixture
def stored(tmp_path):
    def write(content) -> object:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "info.json").write_text(text, encoding="utf-8")
        return tmp_path / "info.json"

    return write


@pytest.mark.parametrize("form", FORMS)
def test_published_forms_are_read_and_come_back(stored, tmp_path, form):
    content = PUBLISHED | FORMS[form]
    info = read_model_info(stored(content))
    write_model_info(tmp_path / "again.json", info)
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == content
    assert "Ä" in (tmp_path / "again.json").read_text(encoding="utf-8") or form.startswith("as its own")
    assert info.percentage("clean_acc") == 89.69
    assert info.percentage("reported") == (62.5 if content["reported"] == "62.5" else None)


def test_the_order_is_the_published_one(tmp_path):
    write_model_info(tmp_path / "a.json", ModelInfo(**dict(reversed(PUBLISHED.items())), own="kept"))
    assert list(json.loads((tmp_path / "a.json").read_text())) == [*PUBLISHED, "own"]


def test_numbers_and_bools_written_loosely(stored):
    loose = {"clean_acc": 89.69, "autoattack_acc": 59, "eps": 0.5, "additional_data": "False", "unreliable": "true",
             "number_forward_passes": "2"}  # fmt: skip
    info = read_model_info(stored(PUBLISHED | loose))
    assert (info.clean_acc, info.autoattack_acc, info.eps) == ("89.69", "59", "0.5")
    assert (info.additional_data, info.unreliable, info.number_forward_passes) == (False, True, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"info\.json is no JSON"),
        ("[]", r"no model-info: the whole"),
        ({"name": "x"}, r"no model-info: dataset: Field required"),
        (PUBLISHED | {"clean_acc": "good"}, r"clean_acc: .*'good' is no number"),
        (PUBLISHED | {"clean_acc": True}, r"clean_acc: "),
        (PUBLISHED | {"autoattack_acc": "101"}, r"autoattack_acc: .*'101' is no percentage"),
        (PUBLISHED | {"autoattack_acc": "-3"}, r"autoattack_acc: .*'-3' is no percentage"),
        (PUBLISHED | {"eps": "8/0"}, r"eps: .*'8/0' is no number"),
        (PUBLISHED | {"additional_data": "perhaps"}, r"additional_data: "),
    ],
)
def test_what_is_no_model_info_is_named(stored, content, message):
    with pytest.raises(AmalgamError, match=message) as caught:
        read_model_info(stored(content))
    assert "model_info" in caught.value.remedy


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(AmalgamError, match=r"none\.json is not in"):
        read_model_info(tmp_path / "none.json")


@given(st.floats(0, 100), st.sampled_from(["{}", " {} ", "{}%"]))
def test_number_reads_what_was_written(value, form):
    assert number(form.format(value)) == value


@pytest.mark.parametrize(
    ("threat", "text"),
    [
        (Threat(norm="linf", eps=8 / 255), "8/255"),
        (Threat(norm="linf", eps=0.031), "0.031"),
        (Threat(norm="l2", eps=0.5), "0.5"),
        (Threat(norm="l1", eps=12), "12"),
    ],
)
def test_radii_are_written_as_published(threat, text):
    assert eps_text(threat) == text
    assert number(text) == pytest.approx(threat.eps)


LINF, L2 = {"norm": "linf", "eps": "8/255"}, {"norm": "l2", "eps": 0.5}


def measured(model="classifier/real/seed-1", dataset="cifar10"):
    rows = [
        row(model, dataset, "test", "all", "clean accuracy", (0.8969, 0.88, 0.91), 10000),
        row(model, dataset, "test", "all", "robust accuracy (linf 8/255)", (0.59534, 0.58, 0.61), 1000),
        row(model, dataset, "test", "all", "robust accuracy (l2 127.5/255)", (0.7, 0.6, 0.8), 500),
        row(model, dataset, "shift", "all", "clean accuracy", (0.1, 0.0, 0.2), 10),
        row("classifier/real/seed-2", dataset, "test", "all", "clean accuracy", (0.2, 0.1, 0.3), 10),
        row(model, dataset, "test", "tone=1", "clean accuracy", (0.3, 0.2, 0.4), 10),
    ]
    return pd.DataFrame(rows)


def attacked(attacks, **changes):
    settings = {"splits": ["test", "shift"], "attacked": ["test"], "threats": [LINF, L2], "attacks": attacks}
    return RobustnessConfig.model_validate(settings | changes)


def card(**changes):
    base = {"name": "real", "architecture": Architecture(family="wide_resnet"), "classes": ["a", "b"], "image_size": 32,
            "mean": [0.5] * 3, "std": [0.2] * 3, "seed": 1, "ancestor": ""}  # fmt: skip
    return ModelCard.model_validate(base | changes)


STANDARD = [
    {"name": "apgd-ce", "steps": 100},
    {"name": "apgd-t", "steps": 100, "targets": 9},
    {"name": "fab-t", "steps": 100, "targets": 9},
    {"name": "square", "steps": 5000},
]


@pytest.mark.parametrize("attacks", ["standard", STANDARD])
def test_autoattack_by_name_or_written_out_is_autoattack(attacks, tmp_path):
    info = model_info_of(card(), "classifier/real/seed-1", measured(), attacked(attacks))
    write_model_info(tmp_path / "a.json", info)
    found = json.loads((tmp_path / "a.json").read_text())
    assert found == {
        "link": "", "name": "real", "authors": "", "number_forward_passes": 1, "dataset": "cifar10", "venue": "",
        "architecture": "WideResNet-28-10", "eps": "8/255", "clean_acc": "89.69", "reported": "59.53",
        "autoattack_acc": "59.53", "footnote": "AutoAttack, version standard, of 1000 images.",
    }  # fmt: skip
    assert read_model_info(tmp_path / "a.json") == info


@pytest.mark.parametrize("attacks", ["plus", STANDARD[:3], [*STANDARD[:3], {"name": "square", "steps": 4999}]])
def test_other_attacks_are_not_called_autoattack(attacks, tmp_path):
    info = model_info_of(card(), "classifier/real/seed-1", measured(), attacked(attacks))
    write_model_info(tmp_path / "a.json", info)
    assert "autoattack_acc" not in json.loads((tmp_path / "a.json").read_text())
    assert info.reported == "59.53"
    assert info.footnote.startswith("Robust accuracy of 1000 images, after apgd-ce (100 steps")
    assert info.footnote.endswith("not AutoAttack.")
    if attacks == "plus":
        assert "apgd-ce (100 steps, 5 restarts), apgd-dlr" in info.footnote
    elif len(attacks) == 4:
        assert "fab-t (100 steps, 9 targets), square (4999 queries)" in info.footnote


def test_another_threat_has_its_own_figure_and_budget():
    """In L1 AutoAttack has other budgets: the list of the other norms is none."""
    info = model_info_of(card(), "classifier/real/seed-1", measured(), attacked("standard"), threat=Threat(**L2))
    assert (info.eps, info.autoattack_acc) == ("0.5", "70.00")
    rows = measured().replace("robust accuracy (l2 127.5/255)", "robust accuracy (l1 12)")
    l1 = {"norm": "l1", "eps": 12}
    for attacks, known in (("standard", "70.00"), (STANDARD, None)):
        config = attacked(attacks, threats=[l1])
        assert model_info_of(card(), "classifier/real/seed-1", rows, config).autoattack_acc == known


@pytest.mark.parametrize(
    ("mix", "extra", "note"),
    [
        ({"real_fraction": 1.0, "source": "filtered_synthetic"}, False, False),
        ({"real_fraction": 0.7, "source": "filtered_synthetic"}, False, True),
        ({"real_fraction": 0.7, "source": "data/edm"}, True, True),
    ],
)
def test_generated_images_are_no_additional_data_but_noted(mix, extra, note):
    found = model_info_of(card(recipe={"mix": mix}), "classifier/real/seed-1", measured(), attacked("standard"))
    assert found.additional_data is extra
    assert ("synthetic images" in found.footnote) is note


def test_figures_are_never_those_that_were_published():
    network = ExternalArchitecture(object="zoo.wide:WideResNet", order=[0, 1])
    about = ModelInfo(
        **PUBLISHED | {"clean_acc": "1", "autoattack_acc": "2", "reported": "3", "eps": "4/255", "x": "y"}
    )
    rows = measured("external/wide", "mine")
    theirs = card(architecture=network, seed=-1)
    info = model_info_of(theirs, "external/wide", rows, attacked(STANDARD[:1]), about=about)
    assert (info.name, info.venue, info.additional_data) == ("A Paper", "NeurIPS 2019", True)
    assert (info.dataset, info.eps, info.clean_acc, info.reported) == ("mine", "8/255", "89.69", "59.53")
    assert info.autoattack_acc is None
    assert info.model_extra == {}
    assert model_info_of(theirs, "external/wide", rows, attacked("plus")).architecture == "WideResNet"


def test_a_doubt_about_this_model_makes_it_unreliable():
    doubts = ["classifier/real/seed-11: the model is random", "classifier/real/seed-1: the model is random"]
    for given_doubts, unreliable in ((None, None), ([], False), (doubts[:1], False), (doubts, True)):
        found = model_info_of(card(), "classifier/real/seed-1", measured(), attacked("plus"), doubts=given_doubts)
        assert found.unreliable is unreliable


@pytest.mark.parametrize(
    ("model", "split", "message"),
    [
        ("classifier/reel/seed-1", "test", "clean accuracy of classifier/reel/seed-1 on test"),
        ("classifier/real/seed-1", "near", "clean accuracy of classifier/real/seed-1 on near"),
        ("classifier/real/seed-1", "shift", r"robust accuracy \(linf 8/255\) of classifier/real/seed-1 on shift"),
    ],
)
def test_what_was_not_measured_is_named(model, split, message):
    with pytest.raises(AmalgamError, match=f"{message} was not measured"):
        model_info_of(card(), model, measured(), attacked("standard"), split)
