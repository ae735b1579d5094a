"""`python -m pipelines model-info`: from what was measured, and only while that is up to date."""

import json

import pytest

pytestmark = pytest.mark.lineage


def test_the_file_is_of_what_was_measured(workspace, tmp_path):
    out = tmp_path / "info.json"
    workspace.amalgam("model-info", "classifier/real/seed-0", str(out))
    found = json.loads(out.read_text())
    assert (found["dataset"], found["eps"], found["name"]) == ("emoji-people", "4/255", "real")
    assert "autoattack_acc" not in found, "the attacks of this profile are others"
    assert "pgd (5 steps)" in found["footnote"]
    before = (workspace.path / "params.yaml").read_text()
    try:
        workspace.edit_params(lambda tree: tree["robustness"].update(attacks="standard"))
        text = workspace.amalgam("model-info", "classifier/real/seed-0", str(tmp_path / "other.json"), fails=True)
        assert "robustness is stale" in text
        assert "Traceback" not in text
        assert not (tmp_path / "other.json").exists()
    finally:
        (workspace.path / "params.yaml").write_text(before)
