"""What attacks were given: written beside the figures, read again, and compared with AutoAttack's lists."""

import pytest

from ops.attack.attacks import Attack, published
from ops.evaluate.attack_budgets import FILE, beyond, budget_text, is_standard, read_attacks, write_attacks
from ops.evaluate.config import RobustnessConfig
from ops.files import read_json
from tests.ops.evaluate.test_evaluation import measure, models  # noqa: F401 (a fixture)

THREATS = [{"norm": norm, "eps": eps} for norm, eps in (("linf", "8/255"), ("l1", 12), ("linf", "4/255"))]
LIST = [{"name": "pgd"}, {"name": "apgd-t", "targets": 2}, {"name": "apgd-ce", "steps": 8, "restarts": 2, "eot": 3}]


def config(attacks):
    return RobustnessConfig.model_validate({"splits": ["test"], "threats": THREATS, "attacks": attacks})


@pytest.mark.parametrize("attacks", ["standard", "plus", "rand", LIST])
def test_attacks_come_back(tmp_path, attacks):
    write_attacks(tmp_path, config(attacks))
    found = read_attacks(tmp_path)
    assert set(found) == {"linf", "l1"}
    for norm, each in found.items():
        assert each == config(attacks).attacks_in(norm)


def test_budgets_are_written_down_where_they_are_defaults(tmp_path):
    write_attacks(tmp_path, config(LIST))
    assert read_json(tmp_path / FILE)["l1"] == [
        {"name": "pgd", "steps": 40, "restarts": 1},
        {"name": "apgd-t", "steps": 40, "restarts": 1, "targets": 2},
        {"name": "apgd-ce", "steps": 8, "restarts": 2, "eot": 3},
    ]


def test_targets_that_are_not_given_are_those_of_the_attack(tmp_path):
    """Nine of APGD-T and FAB-T, as in AutoAttack; all of MultiTargeted."""
    names = ("apgd-t", "fab-t", "multitargeted")
    write_attacks(tmp_path, config([{"name": name, "steps": 100} for name in names]))
    found = read_attacks(tmp_path)["linf"]
    assert [attack.targets for attack in found] == [9, 9, None]
    assert [budget_text(attack) for attack in found] == [
        "apgd-t (100 steps, 9 targets)",
        "fab-t (100 steps, 9 targets)",
        "multitargeted (100 steps, all targets)",
    ]
    unset = [Attack(name=name, steps=100) for name in names[:2]]
    assert [attack.name for attack in beyond(unset, "linf", 10)] == ["apgd-ce", "square"]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_autoattack_is_known_by_its_budgets_and_order(norm):
    standard = published("standard", norm)
    assert is_standard(standard, norm)
    if norm != "l1":
        assert is_standard([Attack(name=a.name, steps=a.steps) for a in standard], norm), (
            "nine targets go without saying"
        )
    for changed in (standard[:3], standard[::-1], [*standard[:3], Attack(name="square", steps=5001)]):
        assert not is_standard(changed, norm)
    assert not is_standard([Attack(name="apgd-ce", steps=100, eot=2), *standard[1:]], norm)
    assert not is_standard(published("plus", norm), norm)


def test_an_evaluation_without_them(tmp_path):
    assert read_attacks(tmp_path) == {}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_published_lists(norm):
    """`plus` has all of `standard` and more; `rand` is two attacks, which lack the targets, the closest point, the queries."""
    for classes in (2, 10, 1000):
        assert beyond(published("standard", norm), norm, classes) == []
        assert beyond(published("plus", norm), norm, classes) == []
        assert {a.name for a in beyond(published("rand", norm), norm, classes)} >= {"apgd-t", "fab-t", "square"}
        assert beyond([], norm, classes) == published("standard", norm)


def test_an_evaluation_writes_down_what_it_ran(models, shards, folders, recorder):  # noqa: F811
    found = read_attacks(measure(models, shards, folders, recorder))
    assert {norm: [budget_text(a) for a in each] for norm, each in found.items()} == {
        "l2": ["pgd (5 steps)", "apgd-ce (6 steps)"],
        "linf": ["pgd (5 steps)", "apgd-ce (6 steps)"],
    }
