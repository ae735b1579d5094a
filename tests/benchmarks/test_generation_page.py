"""The page of the generation benchmark: a part that is measured alone leaves the others, and says when they were measured."""

import json

import pytest

import benchmarks.generation_page as page
import benchmarks.results as results


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Pages go to a folder of their own, and revisions are what the test says."""
    found = json.loads((results.RESULTS / "generation.json").read_text())["found"]
    for module in (page, results):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    revisions = iter(["1" * 40, "1" * 40, "2" * 40, "2" * 40])
    for module in (page, results):
        monkeypatch.setattr(module, "git_commit", lambda: next(revisions))
    return tmp_path, found


def test_a_part_that_is_measured_alone_leaves_the_others(elsewhere):
    folder, found = elsewhere
    page.write(found)
    first = json.loads((folder / "generation.json").read_text())
    page.write({"cost": {**found["cost"], "flat": True, "images/s": 123.0}})
    second = json.loads((folder / "generation.json").read_text())
    assert {part: second["found"][part] for part in ("training", "sampling")} == {
        part: first["found"][part] for part in ("training", "sampling")
    }
    assert second["revisions"] == {"training": "1" * 40, "sampling": "1" * 40, "cost": "2" * 40}
    text = (folder / "generation.md").read_text()
    assert "123.0 images/s" in text
    assert "Memory is flat" in text
    assert "training at `111111111111`, sampling at `111111111111`, cost at `222222222222`" in text


def test_memory_that_grows_is_said_to_grow(elsewhere):
    folder, found = elsewhere
    page.write({**found, "cost": {**found["cost"], "flat": False}})
    assert "Memory grows by" in (folder / "generation.md").read_text()


def test_a_part_alone_needs_a_page(elsewhere):
    _, found = elsewhere
    with pytest.raises(FileNotFoundError):
        page.write({"cost": found["cost"]})
