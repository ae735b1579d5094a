"""A step's ledger outlives a change of parameters, not of code; and how many pictures the event log keeps."""

from types import SimpleNamespace

import dagster as dg
import pytest
from PIL import Image

from ops.summary import Summary
from pipelines import steps
from pipelines.lineage import Stage
from pipelines.results import PICTURES, result


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Return a file of code, and a function that gives the ledger of a step with these parameters."""
    source = tmp_path / "op.py"
    source.write_text("one = 1")
    stage = Stage(dg.AssetKey("robustness"), None, (str(source),), "robustness", (), ())
    monkeypatch.setattr(steps, "STATE", tmp_path / "state")

    def of(**section):
        code = steps.code_version(stage.sources, section)
        step = SimpleNamespace(stage=stage, _section=section, code=code)
        return steps.RunningStep.ledger.fget(step)

    return source, of


def test_a_ledger_is_of_the_code_only(ledger):
    source, of = ledger
    first = of(images=1)
    (first / "kept").write_text("kept")
    assert of(images=2) == first
    assert (first / "kept").exists()
    source.write_text("one = 2")
    second = of(images=2)
    assert second != first
    assert [path.name for path in second.parent.iterdir()] == [second.name], "that of the old code is removed"


def test_the_event_log_keeps_so_many_pictures_and_paths_of_the_others(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(PICTURES + 3):
        Image.new("RGB", (2, 2)).save(tmp_path / "pictures" / f"p{number:02d}.png")
    metadata = result(Summary(), tmp_path, "digest", {}, None, None).metadata
    kinds = [type(metadata[f"p{number:02d}"]) for number in range(PICTURES + 3)]
    assert kinds == [dg.MarkdownMetadataValue] * PICTURES + [dg.PathMetadataValue] * 3
