"""All of it on drawn shapes: rows, copies, verdicts and pictures, and the card that is written from them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard as HubCard
from PIL import Image

from ops.data.config import CuratedManifestConfig
from ops.data.curation import REMOVED_SCHEMA
from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.evaluate.measurements import read_measurements, row
from ops.files import read_json
from ops.generate.responsibility.card import write_generator_card
from ops.generate.responsibility.config import GeneratorCardConfig, MemorisationConfig, ResponsibilityConfig
from ops.generate.responsibility.measure import measure_responsibility, write_responsibility
from ops.generate.responsibility.memorisation import Verdict
from ops.generate.responsibility.representation import Perceived
from ops.generate.watermark.export import export_marked
from ops.generate.watermark.keys import key_id
from ops.progress import Silent

CONFIG = ResponsibilityConfig(memorisation=MemorisationConfig(cells=2, cell_images=5, panel=12))
FILTERS = CuratedManifestConfig()
CARD = GeneratorCardConfig(
    developers="D | E", contact="a@b", licence="apache-2.0", hardware="Two cores.", benefits="More images.",
    risks="Copies.", mitigations="A gate.",
)  # fmt: skip


def features(images: ImageSet) -> np.ndarray:
    """Return the images at a quarter of their side, as rows."""
    small = images.images.reshape(len(images), 8, 4, 8, 4, 3).mean(axis=(2, 4))
    return (small.reshape(len(images), -1) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def sets(shards, synthetic, tmp_path_factory) -> dict[str, ImageSet]:
    """Return real splits, honest images (the test split) and copies (of the training split)."""
    cache = tmp_path_factory.mktemp("cache")
    real = {split: open_images(shards, split, cache) for split in ("train", "validation", "test")}
    return {**real, "honest": open_images(synthetic, "train", cache), "copycat": real["train"].subset(range(40, 90))}


def perceived(images: int) -> Perceived:
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 2, images)
    return Perceived(("0", "1"), seen, np.arange(images) // 4, np.array([[9, 1], [2, 8]]), np.array([48, 48]))


def measured(sets, monitor=None, **changes):
    sources = {name: sets[name] for name in ("honest", "copycat")}
    names = ["train", "validation", *sources]
    spaces = {"thumbnails": {name: features(sets[name]) for name in names}}
    spaces["brightness"] = {name: array.mean(axis=1, keepdims=True) for name, array in spaces["thumbnails"].items()}
    arguments = {
        "config": CONFIG, "filters": FILTERS, "train": sets["train"], "held_out": {"validation": sets["validation"]},
        "sources": sources, "features": spaces, "perceived": {"honest": {"tone": perceived(40)}}, "dataset": "shapes",
        "judge": None, "device": torch.device("cpu"), "monitor": monitor or Silent(), **changes,
    }  # fmt: skip
    return measure_responsibility(**arguments)


def test_sources_are_measured_and_judged(sets, recorder, tmp_path):
    found = measured(sets, recorder)
    assert recorder.calls == 6
    assert found.verdicts["honest"].passed, found.verdicts["honest"].reasons
    assert not found.verdicts["copycat"].passed
    assert any("by features of thumbnails" in reason for reason in found.verdicts["copycat"].reasons)
    sources = {name: sets[name] for name in ("honest", "copycat")}
    summary = write_responsibility(CONFIG, found, sets["train"], sources, tmp_path)
    assert summary.figures["passed"] == 1
    rows = read_measurements(tmp_path)
    assert not rows.duplicated(["model", "split", "group", "metric"]).any()
    value = rows.set_index(["model", "group", "metric"])["value"]
    assert value["copycat", "all", "exact copies"] == 1
    assert value["copycat", "all", "authentic (thumbnails)"] == 0
    assert value["honest", "all", "exact copies"] == 0
    assert value["honest", "reason=any", "withheld"] == value["real/validation", "reason=any", "withheld"] == 0
    assert sum(value["honest", f"tone={t}", "share perceived"] for t in (0, 1)) == pytest.approx(1)
    assert ("copycat", "tone=0", "share perceived") not in value.index, "nobody judged its neutral images"
    copies = pq.read_table(tmp_path / "copies.parquet").to_pandas()
    mine = copies[(copies["source"] == "copycat") & (copies["space"] == "thumbnails")]
    assert len(mine) == 50
    assert (mine["id"] == mine["training_id"]).all(), "here a copy has the id of its original"
    assert mine["confirmed"].all()
    assert read_json(tmp_path / "verdicts.json")["copycat"]["reasons"]
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == [f"closest-{s}-{f}.png" for s in ("copycat", "honest") for f in ("brightness", "thumbnails")]
    assert Image.open(tmp_path / "pictures" / pictures[0]).size == (10 * 34 * 2 - 4, 4 * 34 * 2 - 4)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_inputs_same_bytes(sets, folders):
    for folder in folders("one", "two"):
        found = measured(sets)
        write_responsibility(CONFIG, found, sets["train"], {n: sets[n] for n in ("honest", "copycat")}, folder)
    assert files(folder.parent / "one") == files(folder.parent / "two")


def test_what_is_missing_is_named(sets):
    with pytest.raises(AmalgamError, match="no features"):
        measured(sets, features={})
    with pytest.raises(AmalgamError, match="the space s lacks features of validation, honest, copycat"):
        measured(sets, features={"s": {"train": features(sets["train"])}})
    with pytest.raises(AmalgamError, match="no held-out images to compare with"):
        measured(sets, held_out={"test": sets["test"]})


@pytest.fixture
def curated(tmp_path):
    """Return a folder whose list of removed images has two reasons in training, and one elsewhere."""
    folder = tmp_path / "curated"
    folder.mkdir()
    reasons = [("a", "train", "low contrast"), ("b", "train", "duplicate of x (test)"), ("c", "test", "low contrast")]
    rows = [dict(zip(("id", "split", "reason"), each, strict=True)) for each in reasons]
    pq.write_table(pa.Table.from_pylist(rows, REMOVED_SCHEMA), folder / "removed.parquet")
    return folder


def card(shards, synthetic, curated, out: Path, verdict: Verdict, model: str = "diffusion") -> str:
    out.mkdir()
    quality = [row("diffusion", "shapes", "validation", "all", "FD (pixels)", (1.5, 1.25, 2.0), 40)]
    answers = [row("diffusion", "shapes", "validation", "all", "exact copies", (0.0, 0.0, 0.1), 40)]
    rows = pd.concat(
        [pd.DataFrame(quality).assign(stage="quality"), pd.DataFrame(answers).assign(stage="responsibility")]
    )
    given = ("A model of shapes.", "class and tone")
    write_generator_card(CARD, model, *given, synthetic, shards, curated, rows, verdict, out)
    return (out / "README.md").read_text()


def test_cards_say_what_the_artefacts_say(shards, synthetic, curated, tmp_path):
    text = card(shards, synthetic, curated, tmp_path / "card", Verdict(False, ("a | b",)))
    hub = HubCard.load(tmp_path / "card" / "README.md")
    assert hub.data.license == "apache-2.0"
    (result,) = hub.data.eval_results
    assert (result.metric_type, result.metric_value) == ("FD (pixels)", 1.5)
    for field in ("Training data", "Data processing", "Hardware and software", "Evaluation", "Benefits", "Risks",
                  "Mitigations", "Safety evaluations"):  # fmt: skip
        assert f"\n## {field}\n" in text
    assert "| developed by | D \\| E |" in text
    assert "| quality | validation | FD (pixels) | all | 1.500 [1.250, 2.000] | 40 |" in text
    safety = text.split("## Safety evaluations")[1]
    assert "| responsibility | validation | exact copies | all | 0.000 [0.000, 0.100] | 40 |" in safety
    assert "FD" not in safety
    assert "the gate failed.\n\n- a | b\n" in safety
    assert "carry no watermark" in text
    facts = read_json(tmp_path / "card" / "card.json")
    assert facts["removed before training"] == {"duplicate": 1, "low contrast": 1}
    assert facts["training images"] == 96
    assert facts["training manifest"] == hashlib.sha256((shards / "manifest.parquet").read_bytes()).hexdigest()
    assert facts["measurements"][0]["value"] == 1.5
    assert facts["memorisation"] == {"passed": False, "reasons": ["a | b"]}
    assert str(tmp_path) not in text + json.dumps(facts)


def test_cards_of_exports_name_the_key(shards, synthetic, curated, tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 16)
    export_marked(synthetic, tmp_path / "key", tmp_path / "marked", Silent())
    text = card(shards, tmp_path / "marked", curated, tmp_path / "card", Verdict(True, ()))
    assert f"watermark (key `{key_id(b'k' * 16)}`)" in text
    assert "the gate passed" in text
    with pytest.raises(AmalgamError, match="nothing was measured of gan"):
        card(shards, synthetic, curated, tmp_path / "other", Verdict(True, ()), "gan")
