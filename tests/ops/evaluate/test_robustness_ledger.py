"""What a change of settings makes an evaluation do again, and that the result is that of a fresh run."""

import shutil

import pytest

from ops.evaluate import probing
from ops.evaluate import robustness as module
from ops.evaluate.robustness import measure_robustness
from tests.ops.conftest import Recorder
from tests.ops.evaluate.test_evaluation import CPU, config
from tests.ops.evaluate.test_worst_examples import trained  # noqa: F401 (a fixture)

LINF, L2, L1 = {"norm": "linf", "eps": 4 / 255}, {"norm": "l2", "eps": 0.3}, {"norm": "l1", "eps": 3}
PGD, APGD = {"name": "pgd", "steps": 3}, {"name": "apgd-ce", "steps": 4}
BASE = {
    "threats": [LINF, L2],
    "attacks": [PGD, APGD],
    "images": 12,
    "attacked": ["test"],
    "honesty": {"images": 6, "steps": 2},
    "examples": 2,
}
BOTH = {"linf 4/255", "l2 76.5/255"}
CASES = {
    "nothing": ({}, set(), set(), False),
    "a threat added": ({"threats": [LINF, L2, L1]}, {"l1 3"}, set(), False),
    "a threat put first": ({"threats": [L1, LINF, L2]}, {"l1 3"}, set(), True),
    "another eps": ({"threats": [LINF, {**L2, "eps": 0.2}]}, {"l2 51/255"}, set(), False),
    "more probes": ({"honesty": {"images": 7, "steps": 2}}, set(), set(), True),
    "longer probes": ({"honesty": {"images": 6, "steps": 3}}, set(), set(), True),
    "steps of an attack": ({"attacks": [PGD, {**APGD, "steps": 5}]}, BOTH, set(), False),
    "an attack added": ({"attacks": [PGD, APGD, {"name": "square", "steps": 5}]}, BOTH, {"test"}, False),
    "a split added": ({"splits": ["test", "validation"]}, set(), {"validation"}, False),
    "other temperatures": ({"temperature_split": "test"}, set(), {"test"}, False),
    "more images": ({"images": 14}, BOTH, set(), False),
    "more examples": ({"examples": 3}, set(), set(), False),
    "another seed": ({"seed": 1}, BOTH, {"test"}, True),
    "another batch": ({"batch": 5}, BOTH, {"test"}, True),
    "several draws": ({"draws": 3}, BOTH, {"test"}, True),
}
FILES = ("predictions", "probabilities", "measurements", "compute", "curve", "worst_examples")


@pytest.fixture(scope="module", autouse=True)
def _no_figures():
    """Rendering them would take longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: path.touch())
        yield


@pytest.fixture(scope="module")
def two(trained):  # noqa: F811
    return {name: trained[name] for name in ("classifier/mixed/seed-0", "classifier/real/seed-1")}


@pytest.fixture
def evaluate(two, shards, folders, recorder_type):
    """Return a function that evaluates in a ledger and returns the artefact."""

    def run(tag, ledger, stop_after=None, **changes):
        out, cache = folders(f"robustness-{tag}", "cache")
        settings = config(**(BASE | changes))
        measure_robustness(settings, two, shards, out, ledger, cache, CPU, recorder_type(stop_after=stop_after))
        return out

    return run


@pytest.fixture(scope="module")
def known(two, shards, tmp_path_factory):
    """Return the ledger of an evaluation with the settings `BASE`."""
    out, ledger, cache = (tmp_path_factory.mktemp(name) for name in ("known", "ledger", "cache"))
    measure_robustness(config(**BASE), two, shards, out, ledger, cache, CPU, Recorder())
    return ledger


def below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_only_what_a_change_concerns_is_done_again(case, two, known, evaluate, tmp_path, folders, monkeypatch):
    """The attacks of the threats, the looks at the splits and the probes; all else, and every byte, is as in a fresh run."""
    changes, threats, splits, probed = CASES[case]
    ledger, (empty,) = tmp_path / "ledger", folders("fresh-ledger")
    shutil.copytree(known, ledger)
    attacked, classified, probes = [], [], []
    attack, classify, probe = module.attack_images, module.classify_images, probing._probe
    monkeypatch.setattr(module, "attack_images", lambda *a: attacked.append((a[1], str(a[4]))) or attack(*a))
    monkeypatch.setattr(module, "classify_images", lambda *a: classified.append((a[1], a[3])) or classify(*a))
    monkeypatch.setattr(probing, "_probe", lambda *a: probes.append(a[1]) or probe(*a))
    out = evaluate("changed", ledger, **changes)
    assert sorted(attacked) == sorted((name, threat) for name in two for threat in threats)
    assert sorted(classified) == sorted((name, split) for name in two for split in splits)
    assert probes == (list(two.values()) if probed else [])
    fresh = evaluate("fresh", empty, **changes)
    for name in (*[f"{file}.parquet" for file in FILES], "honesty.json", "temperatures.json"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes(), name
    kept = {name for name in below(empty) if not name.endswith(".json") or "temperature" in name or "honesty" in name}
    assert below(ledger) == below(empty) == kept, "what is not needed is forgotten, what has been going on too"


def test_what_was_killed_under_other_settings_is_forgotten(evaluate, folders, known):
    (ledger,) = folders("killed-ledger")
    with pytest.raises(KeyboardInterrupt):
        evaluate("killed", ledger, stop_after=4, seed=3)
    assert any("linf" in name and name.endswith(".json") for name in below(ledger))
    evaluate("after", ledger)
    assert below(ledger) == below(known)
