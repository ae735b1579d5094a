"""The report's section on fairness: worst groups by name, gaps, differences, and who was left out."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ops.evaluate.fairness.counting import LEFT_OUT
from ops.evaluate.fairness.differences import SCHEMA
from ops.evaluate.measurements import row, write_measurements
from ops.report.fairness import fairness_section
from ops.report.html import PICTURES, TEMPLATES

DATASET = {"attribute_names": {"tone": {"0": "default", "5": "<dark>"}}}
IN, OUT = "in distribution", "out of distribution"


def difference(split, axis, measure, p_holm):
    numbers = {"low": -0.12, "high": 0.02, "low_images": -0.1, "high_images": 0.0, "p": 0.01, "df": 3.0, "n": 90}
    return {
        **numbers, "model": "soup", "than": "classifier/real", "split": split, "axis": axis, "measure": measure,
        "effect": -0.05, "counted": "images and seeds", "p_holm": p_holm, "seeds": [0, 1], "by_seed": [-0.04, -0.06],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    rows = []
    for model, move in (("classifier/real", 0.0), ("soup", 0.1)):
        for seed in (0, 1):
            name = f"{model}/seed-{seed}"
            worst = "5" if model == "soup" or seed else "0"

            def add(split, group, metric, value, name=name, move=move):
                value += move
                rows.append(row(name, "d", split, group, metric, (value, value - 0.05, value + 0.05), 90))

            for split, value in ((IN, 0.7), (OUT, 0.5)):
                add(split, "all", "accuracy", value)
                add(split, f"tone={worst}", "worst-group accuracy", value - 0.2 + 0.02 * seed)
                add(split, "tone", "accuracy gap", 0.3)
                add(split, "tone", "AUROC gap", 0.1)
                add(split, "tone", "equalised odds difference", 0.2)
                add(split, "tone+gender=5+man", "worst-group accuracy", value - 0.4)
                add(split, "tone+gender", "accuracy gap", 0.5)
            add("test", "tone", "accuracy gap", 0.9)
            add("test", f"tone={worst}", "worst-group accuracy", 0.01)
    write_measurements(tmp_path / "measurements.parquet", rows)
    lines = [
        difference(IN, "tone", "accuracy gap", 0.04),
        difference(OUT, "tone", "accuracy gap", 0.4),
        difference(IN, "all", "AUROC", 0.4),
        difference(IN, "tone+gender", "accuracy gap", 0.001),
    ]
    pq.write_table(pa.Table.from_pylist(lines, SCHEMA), tmp_path / "differences.parquet")
    small = [
        {"split": IN, "axis": "tone", "group": "tone=5", "metric": m, "count": n, "needed": 10}
        for m, n in (("sensitivity (a)", 4), ("sensitivity (b)", 0))
    ]
    pq.write_table(pa.Table.from_pylist(small, LEFT_OUT), tmp_path / "left_out.parquet")
    return tmp_path


def test_the_worst_group_is_named_in_and_out_of_distribution(folder):
    section = fairness_section(folder, DATASET)
    tone, both = section["tables"]
    assert (tone["axis"], tone["parts"], both["axis"]) == ("tone", [IN, OUT], "tone and gender")
    real, soup = tone["lines"]
    assert real["model"] == "classifier/real"
    assert real["cells"] == [
        *("0.70 [0.65, 0.75]", "0.51 [0.46, 0.56] default / <dark>", "0.30 [0.25, 0.35]"),
        *("0.50 [0.45, 0.55]", "0.31 [0.26, 0.36] default / <dark>", "0.30 [0.25, 0.35]"),
    ]
    assert soup["cells"][1] == "0.61 [0.56, 0.66] <dark>"
    assert both["lines"][0]["cells"][1] == "0.30 [0.25, 0.35] <dark>, man"


def test_other_measures_and_differences_are_along_the_first_axis(folder):
    section = fairness_section(folder, DATASET)
    assert [(table["part"], table["columns"]) for table in section["gaps"]] == [
        (part, ["AUROC", "equalised odds difference"]) for part in (IN, OUT)
    ]
    assert section["gaps"][0]["lines"][0]["cells"] == ["0.10 [0.05, 0.15]", "0.20 [0.15, 0.25]"]
    found = section["differences"]
    assert [tuple(column.values()) for column in found["columns"]] == [
        (IN, "accuracy gap"), (OUT, "accuracy gap"), (IN, "AUROC"),
    ]  # fmt: skip
    (line,) = found["lines"]
    assert [cell["significant"] for cell in line["cells"]] == [True, False, False]
    assert line["cells"][0]["text"] == "-5.0 [-12.0, +2.0]"
    (left,) = section["left_out"]
    assert left == {
        "split": IN, "by": "tone", "left out of": "sensitivity, 2 classes", "groups": "<dark>", "fewest": 0, "needed": 10,
    }  # fmt: skip


def test_the_section_is_in_the_page_and_escaped(folder):
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"signed": str, "group": str}
    names = ("claims", "robustness", "doubts", "corruptions", "comparisons", "sweeps", "curves", "lineage", "worst")
    told = {
        "title": "t", "curation": {}, "generator": {}, "pictures": {}, "shift": {}, **{name: [] for name in names},
        "dataset": {"name": "d", "classes": [], "domains": [], "groups": "g", "notes": {}, "licence": ""},
    }  # fmt: skip
    template = environment.get_template("report.html.j2")
    page = template.render(**told, fairness=fairness_section(folder, DATASET))
    section = page[page.index('<h2 id="fairness"') : page.index('<h2 id="generator"')]
    assert "0.61 [0.56, 0.66] &lt;dark&gt;" in section
    assert "<strong>-5.0 [-12.0, +2.0] *</strong>" in section
    assert "sensitivity, 2 classes" in section
    assert "0.90" not in section, "single splits are in the file"
    assert {picture for stage, picture, _ in PICTURES if stage == "fairness"} == {"groups", "utility"}


def test_a_single_model_has_no_differences(folder):
    pq.write_table(pa.Table.from_pylist([], SCHEMA), folder / "differences.parquet")
    pq.write_table(pa.Table.from_pylist([], LEFT_OUT), folder / "left_out.parquet")
    section = fairness_section(folder, {})
    assert section["differences"] == {}
    assert section["left_out"] == []
    assert section["tables"][0]["lines"][1]["cells"][1] == "0.61 [0.56, 0.66] 5", "values without a name"
    assert len(pd.DataFrame(section["tables"][0]["lines"])) == 2
