"""The section on distribution shift: the numbers of the measurements, in tables by split and by prior."""

import numpy as np
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ops.evaluate.measurements import row, write_measurements
from ops.evaluate.shift.label_shift import write_priors
from ops.evaluate.shift.names import EM, KNOWN, PLAIN
from ops.evaluate.shift.priors import Prior
from ops.report.html import PICTURES, TEMPLATES, shift_tables

DROP = "accuracy drop from test (same class mix)"


@pytest.fixture
def folder(tmp_path):
    """Return an artefact with two seeds of one model: two domains, one shifted split, one family of two priors."""
    rows = []
    for seed in (0, 1):
        up = 0.02 * seed
        for split, group, metric, value, count in (
            ("test", "all", "accuracy", 0.8, 100),
            ("test", "domain=noto", "accuracy", 0.8, 100),
            ("test", "label=hand", "accuracy", 0.11, 30),
            ("shift", "all", "accuracy", 0.5, 90),
            ("shift", "domain=<b>", "accuracy", 0.4, 60),
            ("shift", "domain=<b>", "worst-domain accuracy", 0.4, 60),
            ("shift", "all", DROP, 0.3, 90),
            ("test", "prior=balanced", PLAIN, 0.61, 100),
            ("test", "prior=balanced", EM, 0.55, 100),
            ("test", "prior=balanced", KNOWN, 0.65, 100),
            ("test", "prior=dirichlet 1", PLAIN, 0.71, 100),
            ("test", "prior=dirichlet 1 no. 1", PLAIN, 0.17, 100),
        ):
            interval = (value + up, value + up - 0.1, value + up + 0.1)
            rows.append(row(f"soup/seed-{seed}", "d", split, group, metric, interval, count))
    (tmp_path / "shift" / "pictures").mkdir(parents=True)
    write_measurements(tmp_path / "shift" / "measurements.parquet", rows)
    even = np.array([0.5, 0.5])
    priors = [Prior("source", "source", even), Prior("dirichlet 1 no. 1", "dirichlet 1", even)]
    write_priors(tmp_path / "shift" / "priors.parquet", [*priors, Prior("balanced", "balanced", even)], ("a", "b"))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "shift" / "pictures" / "domains.png")
    return tmp_path / "shift"


def test_domains_are_columns_and_seeds_are_averaged(folder):
    test, shift = shift_tables({"shift": folder})["domains"]
    assert [(c["name"], c["n"]) for c in test["columns"]] == [("all", 100), ("noto", 100)]
    assert test["lines"] == [{"model": "soup", "cells": ["0.81 [0.71, 0.91]"] * 2}]
    assert [(c["name"], c["n"]) for c in shift["columns"]] == [("all", 90), ("<b>", 60), (DROP, 90)]
    assert shift["lines"][0]["cells"] == ["0.51 [0.41, 0.61]", "0.41 [0.31, 0.51]", "+0.31 [+0.21, +0.41]"]


def test_priors_are_columns_families_last_and_members_left_out(folder):
    table = shift_tables({"shift": folder})["priors"]
    assert table["columns"] == ["balanced", "dirichlet 1"]
    assert [(line["variant"], line["cells"]) for line in table["lines"]] == [
        ("as it is", ["0.62 [0.52, 0.72]", "0.72 [0.62, 0.82]"]),
        ("priors estimated", ["0.56 [0.46, 0.66]", "–"]),
        ("priors known", ["0.66 [0.56, 0.76]", "–"]),
    ]
    assert (table["name"], table["n"]) == ("test", 100)


def test_there_is_no_section_without_the_stage():
    assert shift_tables({}) == {}


def test_the_section_is_in_the_page_and_escaped(folder):
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"signed": str, "group": str}
    told = {
        "title": "t",
        "dataset": {"name": "d", "classes": [], "domains": [], "groups": "g", "notes": {}, "licence": ""},
    }
    empty = {
        name: []
        for name in (
            "claims",
            "robustness",
            "doubts",
            "corruptions",
            "comparisons",
            "sweeps",
            "curves",
            "lineage",
            "worst",
        )
    }
    empty |= {
        "curation": {},
        "generator": {},
        "pictures": {},
        "fairness": {"tables": [], "gaps": [], "differences": {}, "left_out": []},
    }
    template = environment.get_template("report.html.j2")
    with_section = template.render(**told, **empty, shift=shift_tables({"shift": folder}))
    section = with_section[with_section.index('<h2 id="shift"') : with_section.index('<h2 id="fairness"')]
    assert "&lt;b&gt;<br>60 images" in section
    assert "+0.31 [+0.21, +0.41]" in section
    assert "0.17" not in section, "single priors of a family are not shown"
    assert "0.12" not in section, "nor single classes"
    assert 'href="#shift"' in with_section
    assert 'id="shift"' not in template.render(**told, **empty, shift={})
    assert {picture for stage, picture, _ in PICTURES if stage == "shift"} == {"domains", "label_shift"}
