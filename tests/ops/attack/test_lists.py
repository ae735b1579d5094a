"""The published lists of attacks, against what the public code is set to when it runs them."""

from itertools import product

import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from ops.attack.attacks import published

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def observed(version: str, norm: str) -> list[dict[str, int | str]]:
    """Return the settings of each attack at the moment when AutoAttack starts it on a model of twelve classes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12)).eval()
    x = torch.rand(2, 3, 2, 2)
    whole = AutoAttack(model, norm=norm, eps=0.1, version=version, seed=0)
    seen: list[dict[str, int | str]] = []

    def note(part, name):
        def perturb(images, labels):
            row = {"name": name(), "restarts": part.n_restarts, "eot": getattr(part, "eot_iter", 1)}
            row["steps"] = part.n_queries if part is whole.square else part.n_iter
            row["targets"] = part.n_target_classes if row["name"].endswith("-t") else 0
            seen.append(row)
            return images

        part.perturb = perturb

    note(whole.apgd, lambda: f"apgd-{whole.apgd.loss}")
    note(whole.apgd_targeted, lambda: "apgd-t")
    note(whole.fab, lambda: "fab-t" if whole.fab.targeted else "fab")
    note(whole.square, lambda: "square")
    whole.run_standard_evaluation(x, model(x).argmax(dim=1))
    return seen


@pytest.mark.parametrize(("version", "norm"), product(["standard", "plus", "rand"], NORMS))
def test_attacks_have_the_order_and_the_budgets_of_autoattack(version, norm):
    expected = observed(version, NORMS[norm])
    assert len(expected) == {"standard": 4, "plus": 6, "rand": 2}[version]
    ours = [
        {**attack.model_dump(include={"name", "restarts", "eot", "steps"}), "targets": attack.targets or 9}
        if attack.name.endswith("-t")
        else {**attack.model_dump(include={"name", "restarts", "eot", "steps"}), "targets": 0}
        for attack in published(version, norm)
    ]
    assert ours == expected
