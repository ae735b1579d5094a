"""The report says of the generator what was measured, and nothing where it was not judged."""

import pandas as pd
import pytest

from ops.evaluate.measurements import row, write_measurements
from ops.files import write_json
from ops.report.generator import generator_section, quality_table, representation_table


@pytest.fixture
def inputs(tmp_path):
    folders = {name: tmp_path / name for name in ("diffusion", "generator_report", "responsibility")}
    for folder in folders.values():
        folder.mkdir()
    write_json(folders["diffusion"] / "generator.json", {"lineage": "trained for 3 steps"})
    write_json(folders["responsibility"] / "verdicts.json", {"diffusion": {"passed": False, "reasons": ["it copies"]}})
    score = "classification accuracy score"
    rows = [
        row("diffusion", "d", "validation", "all", "coverage (pca)", (0.5, 0.4, 0.6), 50),
        row("diffusion", "d", "validation", "all", "coverage (pca) gap (tone)", (0.1, 0.0, 0.2), 50),
        row("diffusion", "d", "validation", "all", "Fréchet distance (pca)", (75.2, 70.0, 80.0), 50),
        row("diffusion", "d", "validation", "all", score, (0.6, 0.5, 0.7), 50),
        row("diffusion", "d", "validation", "tone=1", f"worst-group {score}", (0.3, 0.2, 0.4), 50),
        row("real", "d", "validation", "all", score, (0.8, 0.7, 0.9), 50),
        row("real", "d", "train", "all", "coverage (pca)", (0.9, 0.8, 1.0), 50),
    ]
    write_measurements(folders["generator_report"] / "measurements.parquet", rows)
    shares = [
        row("diffusion", "d", "neutral", "tone=0", metric, interval, 20)
        for metric, interval in (
            ("share in the data", (0.2, 0.2, 0.2)),
            ("share perceived", (0.5, 0.4, 0.6)),
            ("share corrected", (0.4, 0.3, 0.6)),
        )
    ]
    write_measurements(folders["responsibility"] / "measurements.parquet", shares)
    return folders


def test_the_section_has_lineage_quality_and_verdicts(inputs):
    found = generator_section(inputs)
    assert found["lineage"] == "trained for 3 steps"
    assert found["verdicts"]["diffusion"]["reasons"] == ["it copies"]
    quality = found["quality"]
    score = "classification accuracy score"
    assert quality["columns"] == [score, f"worst-group {score}", "Fréchet distance (pca)", "coverage (pca)"]
    lines = {line["model"]: line["cells"] for line in quality["lines"]}
    assert list(lines) == ["real", "diffusion"]
    assert lines["diffusion"] == ["0.60 [0.50, 0.70]", "0.30 [0.20, 0.40]", "75.2 [70.0, 80.0]", "0.50 [0.40, 0.60]"]
    assert lines["real"][2:] == ["–", "–"], "the row of another split is not shown"


def test_shares_stand_beside_the_data(inputs):
    (line,) = generator_section(inputs)["representation"]
    assert line["group"] == "tone 0"
    assert line["cells"] == ["0.20", "0.50 [0.40, 0.60]", "0.40 [0.30, 0.60]"]


def test_nothing_is_said_of_a_generator_that_was_not_judged(inputs):
    assert generator_section({"diffusion": inputs["diffusion"]}) == {}
    empty = pd.DataFrame(columns=["model", "split", "group", "metric", "value", "low", "high"]).astype(str)
    assert representation_table(empty) == []
    with pytest.raises(StopIteration):
        quality_table(empty)
