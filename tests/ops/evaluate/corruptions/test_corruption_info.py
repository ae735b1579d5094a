"""Figures under corruptions in a model-info: only of the whole benchmark, and marked by the images they are of."""

import json

import pandas as pd
import pytest

from ops.evaluate.corruption_info import with_corruptions
from ops.evaluate.corruptions.tables import CORRUPTIONS
from ops.evaluate.measurements import read_measurements, row
from ops.evaluate.model_info import ModelInfo, read_model_info, write_model_info
from tests.ops.evaluate.corruptions.cases import Linear, predictions_of

INFO = ModelInfo(dataset="shapes", clean_acc="90", footnote="AutoAttack.")


def test_the_accuracy_is_the_mean_of_all_outcomes_of_the_benchmark(measure, tmp_path):
    whole = {"corruptions": [*CORRUPTIONS, "saturate"], "severities": [1, 2, 3, 4, 5], "splits": ["validation", "test"]}
    models = {f"m/seed-{seed}": Linear(seed) for seed in (0, 1)}
    out = measure(models=models, images=6, **whole)
    found = predictions_of(out)
    found = found[(found["seed"] == 1) & (found["split"] == "test") & found["corruption"].isin(CORRUPTIONS)]
    assert len(found) == 75 * 6
    info = with_corruptions(INFO, "m/seed-1", read_measurements(out))
    assert info.percentage("corruptions_acc") == pytest.approx(100 * found["right"].mean(), abs=0.005)
    write_model_info(tmp_path / "a.json", info)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "dataset": "shapes",
        "clean_acc": "90",
        "corruptions_acc": info.corruptions_acc,
        "footnote": "AutoAttack. Corruptions are C-style, made here and no published files, of 6 images.",
    }
    assert read_model_info(tmp_path / "a.json") == info


def rows(kind="ImageNet-C", split="published", relative="alexnet", without=None):
    """Return rows as `corruptions` writes them: accuracy falls by 0.1 with the severity."""
    found = {
        f"accuracy under {name} (severity {severity})": 1 - severity / 10
        for name in CORRUPTIONS
        for severity in range(1, 6)
    }
    found |= {f"mean corruption error ({kind})": 0.3, f"mean corruption error ({kind}, relative to {relative})": 0.4321}
    return pd.DataFrame(
        [row("m/seed-1", "x", split, "all", m, (v, v, v), 50) for m, v in found.items() if m != without]
    )


def test_published_files_have_errors_relative_to_alexnets():
    info = with_corruptions(INFO, "m/seed-1", rows())
    assert (info.corruptions_acc, info.corruptions_mce) == ("70.00", "43.21")
    assert info.footnote == "AutoAttack. Corruptions are ImageNet-C, of 50 images."


def test_errors_relative_to_another_model_are_not_alexnets():
    info = with_corruptions(INFO, "m/seed-1", rows("C-style", "test", "classifier/real"))
    assert (info.corruptions_acc, info.corruptions_mce) == ("70.00", None)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("m/seed-1", {"without": "accuracy under fog (severity 4)"}),
        ("m/seed-1", {"split": "shift"}),
        ("m/seed-2", {}),
        ("external/m", {}),
    ],
)
def test_what_is_not_the_whole_benchmark_is_left_out(model, changes):
    assert with_corruptions(INFO, model, rows(**changes)) is INFO
