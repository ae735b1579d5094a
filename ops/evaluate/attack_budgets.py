"""What attacks of an evaluation were given: kept beside its figures, as text, and compared with AutoAttack's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.attack.attacks import TARGETED, Attack, published
from ops.attack.threat import Norm
from ops.evaluate.config import RobustnessConfig
from ops.files import read_json, write_json

DEFAULT_TARGETS = 9
"""Of apgd-t and fab-t."""

FILE = "attacks.json"
"""The attacks in their order, by norm: `{"linf": [{"name": "pgd", "steps": 40, "restarts": 1}]}`."""


def write_attacks(folder: Path, config: RobustnessConfig) -> None:
    """Write the attacks that the threats of `config` meet, names of lists resolved, to `attacks.json`."""
    norms = sorted({threat.norm for threat in config.threats})
    write_json(folder / FILE, {norm: [_record(attack) for attack in config.attacks_in(norm)] for norm in norms})


def read_attacks(folder: Path) -> dict[str, list[Attack]]:
    """Return the attacks of an evaluation by norm; nothing where it did not write them down."""
    path = folder / FILE
    found: Mapping[str, Sequence[Mapping[str, object]]] = read_json(path) if path.exists() else {}
    return {norm: [Attack.model_validate(attack) for attack in attacks] for norm, attacks in found.items()}


def _record(attack: Attack) -> dict[str, object]:
    """Return what was set, and the budget even where it was not."""
    budget = {"steps": attack.steps, "restarts": attack.restarts}
    aimed = {"targets": targets_of(attack)} if attack.name in TARGETED else {}
    return attack.model_dump(mode="json", exclude_unset=True) | budget | aimed


def targets_of(attack: Attack) -> int | None:
    """Return at how many wrong classes a targeted attack aims at most; None: at all."""
    return DEFAULT_TARGETS if attack.targets is None and attack.name != "multitargeted" else attack.targets


def beyond(attacks: Sequence[Attack], norm: Norm, classes: int) -> list[Attack]:
    """Return the attacks of AutoAttack, version standard, that `attacks` do not come up to.

    One comes up to another of its name if it has at least as many steps, restarts and targets; targets beyond the number of
    wrong classes count for nothing.
    """
    return [each for each in published("standard", norm) if not any(_reaches(a, each, classes - 1) for a in attacks)]


def _reaches(attack: Attack, other: Attack, wrong_classes: int) -> bool:
    """Say whether an attack is the other one, with at least its budget."""
    targets, needed = (min(targets_of(each) or wrong_classes, wrong_classes) for each in (attack, other))
    enough = targets >= needed or other.name not in TARGETED
    return attack.name == other.name and attack.steps >= other.steps and attack.restarts >= other.restarts and enough


def is_standard(attacks: Sequence[Attack], norm: Norm) -> bool:
    """Say whether these are the attacks of AutoAttack, version standard, in its order and with just its budgets."""
    ours, theirs = ([(budget_text(a), a.eot) for a in given] for given in (attacks, published("standard", norm)))
    return ours == theirs


def budget_text(attack: Attack) -> str:
    """Return an attack with its budget, such as `apgd-t (100 steps, 9 targets)`."""
    parts = [f"{attack.steps} {'queries' if attack.name == 'square' else 'steps'}"]
    parts += [f"{attack.restarts} restarts"] if attack.restarts > 1 else []
    parts += [f"{targets_of(attack) or 'all'} targets"] if attack.name in TARGETED else []
    return f"{attack.name} ({', '.join(parts)})"
