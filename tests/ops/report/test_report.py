"""The report: claims first, everything escaped, the same bytes for the same inputs, no network."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.errors import AmalgamError
from ops.evaluate.comparisons import CLEAN, SCHEMA
from ops.evaluate.fairness.counting import LEFT_OUT
from ops.evaluate.fairness.differences import SCHEMA as DIFFERENCES
from ops.evaluate.measurements import UNION, row, write_measurements
from ops.files import content_hash, write_json
from ops.report.config import ReportConfig
from ops.report.html import PICTURES, TEMPLATES, write_report

EVIL = '<script>alert("x")</script>'
CLAIM = {
    "claim": "Generated data help.",
    "source": "Someone 2021",
    "paper_effect": "+1",
    "measure": "robust",
    "splits": ["test"],
    "comparison": "classifier/mixed against classifier/real",
    "effect": 0.021,
    "low": -0.01,
    "high": 0.05,
    "low over images": 0.002,
    "high over images": 0.04,
    "counted": "images and seeds",
    "p": 0.1,
    "effect by seed": [0.03, 0.012],
    "seeds": 2,
    "n": 160,
    "worst groups": {},
    "holds": None,
}


@pytest.fixture
def inputs(tmp_path):
    """Return the folders of a finished lineage, as small as the report allows."""
    home = tmp_path / "store"
    names = ["raw_images", "curated_manifest", "real_shards", "synthetic_shards", "robustness", "fairness", "claims"]
    folders = {name: home / name for name in [*names, "classifier/real/seed-0"]}
    for folder in folders.values():
        (folder / "pictures").mkdir(parents=True)
    write_json(
        folders["real_shards"] / "dataset.json",
        {
            "name": EVIL, "classes": ["a", "b"], "domains": ["d"], "groups": "tone", "licence": "none",
            "notes": {"real": "drawn & made", "arranged": "nothing"},
        },
    )  # fmt: skip
    pd.DataFrame({"id": ["q"]}).to_parquet(folders["raw_images"] / "quarantine.parquet")
    pd.DataFrame({"id": []}).to_parquet(folders["curated_manifest"] / "removed.parquet")
    splits = pd.DataFrame({"split": ["train"] * 5 + ["test"] * 3})
    splits.to_parquet(folders["curated_manifest"] / "manifest.parquet")
    splits[:4].to_parquet(folders["synthetic_shards"] / "manifest.parquet")
    rows = [
        row(f"classifier/real/seed-{s}", "x", "test", "all", "clean accuracy", (v, v - 0.1, v + 0.1), 160)
        for s, v in ((0, 0.6), (1, 0.7))
    ]
    write_measurements(folders["robustness"] / "measurements.parquet", rows)
    gaps = [row("classifier/real/seed-0", "x", "in distribution", "tone", "accuracy gap", (0.2, 0.1, 0.3), 160)]
    write_measurements(folders["fairness"] / "measurements.parquet", gaps)
    for name, schema in (("differences", DIFFERENCES), ("left_out", LEFT_OUT)):
        pq.write_table(pa.Table.from_pylist([], schema), folders["fairness"] / f"{name}.parquet")
    write_json(folders["robustness"] / "honesty.json", {"warnings": [], "signs": {}})
    write_json(folders["claims"] / "claims.json", [CLAIM])
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folders["robustness"] / "pictures" / "accuracy.png")
    return folders


def page(inputs, out, recorder, title="Amalgam report"):
    out.mkdir()
    write_report(ReportConfig(title=title), inputs, out, recorder)
    return (out / "report.html").read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Checks that every element is closed where it was opened."""

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self):
        super().__init__()
        self.open, self.found = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_stands_alone(inputs, tmp_path, recorder):
    text = page(inputs, tmp_path / "out", recorder)
    parser = Balance()
    parser.feed(text)
    assert not parser.open
    for tag, attributes in parser.found:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), "no network, no files"
        if tag == "img":
            assert attributes["alt"]
    assert not any(tag in ("script", "iframe", "link") for tag, _ in parser.found)
    ids = {attributes["id"] for _, attributes in parser.found if "id" in attributes}
    links = {a["href"][1:] for tag, a in parser.found if tag == "a"}
    assert links <= ids


def test_claims_come_first_with_verdict_effect_and_interval(inputs, tmp_path, recorder):
    text = page(inputs, tmp_path / "out", recorder)
    headings = re.findall(r"<h2[^>]*>([^<]*)", text)
    assert headings[0] == "Claims"
    assert "cannot tell at this scale" in text
    assert (
        "+2.1 [-1.0, +5.0] points over images and seeds; over images only [+0.2, +4.0]; by seed +3.0, +1.2; 160" in text
    )
    assert "Someone 2021" in text


def test_numbers_are_the_means_of_the_seeds(inputs, tmp_path, recorder):
    text = page(inputs, tmp_path / "out", recorder)
    assert "0.65 [0.55, 0.75]" in text
    assert "clean accuracy<br>160 images" in text
    assert "0.20 [0.10, 0.30]" in text


def test_everything_is_escaped(inputs, tmp_path, recorder):
    text = page(inputs, tmp_path / "out", recorder, title="a < b")
    assert EVIL not in text
    assert "&lt;script&gt;" in text
    assert "a &lt; b" in text
    assert "drawn &amp; made" in text


def test_the_same_inputs_are_the_same_bytes_and_no_path_is_told(inputs, tmp_path, recorder):
    first, second = (page(inputs, tmp_path / name, recorder) for name in ("one", "two"))
    assert first == second
    assert str(tmp_path) not in first


def test_hashes_follow_content_and_names(inputs, tmp_path):
    folder = inputs["claims"]
    before = content_hash(folder)
    data = json.loads((folder / "claims.json").read_text())
    (folder / "claims.json").rename(folder / "other.json")
    assert content_hash(folder) != before
    write_json(folder / "claims.json", data)
    (folder / "other.json").unlink()
    assert content_hash(folder) == before


def test_missing_measurements_are_named(inputs, tmp_path, recorder):
    (inputs["fairness"] / "measurements.parquet").unlink()
    with pytest.raises(AmalgamError, match=r"fairness has no measurements\.parquet"):
        page(inputs, tmp_path / "out", recorder)


def test_corruptions_have_a_section_where_they_were_measured(inputs, tmp_path, recorder):
    before = page(inputs, tmp_path / "before", recorder)
    assert "C-style" not in before
    assert 'href="#corruptions"' not in before
    folder = tmp_path / "store" / "corruptions"
    (folder / "pictures").mkdir(parents=True)
    metrics = {"accuracy without corruption": 0.9, "accuracy under fog": 0.11, "mean corruption error (C-style)": 0.37}
    rows = [
        row(f"soup/seed-{seed}", "x", "test", "all", metric, (value + seed / 50, value - 0.02, value + 0.04), 64)
        for metric, value in metrics.items()
        for seed in (0, 1)
    ]
    write_measurements(folder / "measurements.parquet", rows)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "pictures" / "corruptions.png")
    text = page({**inputs, "corruptions": folder}, tmp_path / "out", recorder)
    parser = Balance()
    parser.feed(text)
    assert not parser.open
    section = text[text.index('id="corruptions"') : text.index('id="fairness"')]
    assert "mean corruption error (C-style)<br>64 images" in section
    assert "0.38 [0.35, 0.41]" in section
    assert "only the published files are CIFAR-10-C" in section
    assert "One image under every corruption" in section
    assert "accuracy under fog" not in section, "single corruptions are in the picture"


def test_a_claim_with_one_seed_says_what_its_interval_counts(inputs, tmp_path, recorder):
    single = {**CLAIM, "seeds": 1, "counted": "images only", "effect by seed": [0.021]}
    write_json(inputs["claims"] / "claims.json", [single])
    text = page(inputs, tmp_path / "out", recorder)
    assert "+2.1 [-1.0, +5.0] points over images only; by seed +2.1; 160 images" in text


def test_a_claim_about_groups_names_the_worst(inputs, tmp_path, recorder):
    worst = {"classifier/real": "tone=5", "classifier/mixed": "tone=<4>"}
    write_json(inputs["claims"] / "claims.json", [{**CLAIM, "measure": "worst_group", "worst groups": worst}])
    text = page(inputs, tmp_path / "out", recorder)
    assert "Worst group: &lt;4&gt; (classifier/mixed), 5 (classifier/real)." in text
    assert "against classifier/real, worst group, on test" in text


def comparisons(folder, counted="images and seeds"):
    """Write comparisons of two pairs by two threats on one split, and clean on another."""
    measures = [("test", m) for m in (CLEAN, "robust accuracy (linf 4/255)", UNION)] + [("near", CLEAN)]
    lines = [
        {
            "model": model, "than": EVIL, "split": split, "measure": measure, "effect": effect, "low": effect - 0.02,
            "high": effect + 0.02, "counted": counted, "low_images": effect, "high_images": effect, "p": p / 2, "p_holm": p,
            "df": 1.0, "n": 128 if measure != CLEAN else 1332, "seeds": [0, 1], "gained": [1, 1], "lost": [0, 0],
            "p_mcnemar": [1.0, 1.0],
        }
        for split, measure in measures
        for model, effect, p in (("soup", 0.031, 0.05), ("classifier/real", -0.012, 0.3))
    ]  # fmt: skip
    (folder / "pictures").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(lines, SCHEMA), folder / "comparisons.parquet")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "pictures" / "comparisons.png")
    return folder


def test_comparisons_have_a_section_where_they_were_made(inputs, tmp_path, recorder):
    assert 'href="#comparisons"' not in page(inputs, tmp_path / "before", recorder)
    folder = comparisons(tmp_path / "store" / "comparisons")
    text = page({**inputs, "comparisons": folder}, tmp_path / "out", recorder)
    parser = Balance()
    parser.feed(text)
    assert not parser.open
    assert EVIL not in text
    section = text[text.index('<h2 id="comparisons"') : text.index('<h2 id="fairness"')]
    headings = re.findall(r'<th scope="col">([^<]*)<br>(\d+) images', section)
    assert headings == [("test: clean accuracy", "1332"), (f"test: {UNION}", "128"), ("near: clean accuracy", "1332")]
    assert section.count("<strong>+3.1 [+1.1, +5.1] *</strong>") == 3, "p is 0.05 after Holm"
    assert section.count(">-1.2 [-3.2, +0.8]<") == 3
    assert "intervals over images and seeds" in section
    assert "data:image/png" in section
    single = comparisons(tmp_path / "single", counted="images only")
    assert "over seeds where there are several" in page({**inputs, "comparisons": single}, tmp_path / "one", recorder)


def test_without_pairs_there_is_no_section(inputs, tmp_path, recorder):
    (tmp_path / "none").mkdir()
    pq.write_table(pa.Table.from_pylist([], SCHEMA), tmp_path / "none" / "comparisons.parquet")
    text = page({**inputs, "comparisons": tmp_path / "none"}, tmp_path / "out", recorder)
    assert 'id="comparisons"' not in text


def test_every_picture_that_is_read_is_shown():
    """The page names each one's place."""
    template = (TEMPLATES / "report.html.j2").read_text(encoding="utf-8")
    assert [f"{stage}/{name}" for stage, name, _ in PICTURES if f'show("{stage}/{name}")' not in template] == []
