"""What a user gets wrong is one clear error with a remedy, without a traceback; and a re-run finishes."""

import shutil

import pytest
import yaml

pytestmark = pytest.mark.lineage


def assert_one_clear_error(text: str, *words: str) -> None:
    assert "Traceback" not in text
    assert text.count("error: ") == 1, text
    assert "remedy: " in text
    for word in words:
        assert word in text, text


def test_missing_data(workspace):
    data = workspace.path / "data"
    kept = workspace.path / "kept"
    data.rename(kept)
    try:
        assert_one_clear_error(workspace.amalgam("run", fails=True), "data/emoji-people", "dvc pull")
    finally:
        kept.rename(data)
    assert "everything is up to date" in workspace.amalgam("run")


def test_missing_dvc_object(workspace, tmp_path):
    """The remote lacks an object: DVC names it, and a fetched remote mends it."""
    away = tmp_path / "remote"
    remote, cache, data = (workspace.path / p for p in ("dvc-remote", ".dvc/cache", "data"))
    shutil.copytree(remote, away)
    shutil.rmtree(remote)
    shutil.move(data, tmp_path / "data")
    shutil.move(cache, tmp_path / "cache")
    try:
        text = workspace.dvc("pull", "data.dvc", fails=True)
        assert "missing" in text.lower() or "failed" in text.lower()
        assert_one_clear_error(workspace.amalgam("run", fails=True), "dvc pull")
    finally:
        shutil.copytree(away, remote)
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)
        shutil.move(tmp_path / "cache", cache)
        shutil.move(tmp_path / "data", data)
    workspace.dvc("pull", "-q", "data.dvc")
    assert "everything is up to date" in workspace.amalgam("run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["diffusion"].update(stepz=3), ["diffusion.stepz", "profiles/default.yaml"]),
        (
            lambda t: t["soup"].update(ingredients=["classifier/real", "classifier/reel"]),
            ["classifier/reel", "classifier/real"],
        ),
        (lambda t: t["classifier"]["recipes"]["real"].update(initialisation="nobody"), ["nobody", "scratch"]),
    ],
)
def test_mistakes_in_params(workspace, change, words):
    original = (workspace.path / "params.yaml").read_text()
    try:
        workspace.edit_params(change)
        assert_one_clear_error(workspace.amalgam("run", fails=True), *words)
    finally:
        (workspace.path / "params.yaml").write_text(original)


def test_unknown_names_on_the_command_line(workspace):
    assert_one_clear_error(workspace.amalgam("run", "classifer/real", fails=True), "classifer/real", "classifier/real")
    assert_one_clear_error(workspace.amalgam("materialize", "classifier/real", fails=True), "--partition", "seed-0")
    assert_one_clear_error(workspace.amalgam("profile", "nonsense", fails=True), "nonsense", "fashion")


def test_truncated_shard(workspace):
    """A damaged shard is named; `run` sees that the folder is not what was recorded and makes it again."""
    before = workspace.locked()
    shard = sorted((workspace.path / "store" / "real_shards" / "train").glob("*.tar"))[0]
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[: len(data) // 2 + 100])
    shutil.rmtree(workspace.path / ".amalgam" / "cache", ignore_errors=True)
    text = workspace.amalgam("materialize", "autoencoder", fails=True)
    assert_one_clear_error(text, shard.name)
    assert "✓ real_shards" in workspace.amalgam("run")
    assert workspace.locked() == before


def test_edited_params_are_not_overwritten(workspace):
    original = (workspace.path / "params.yaml").read_text()
    try:
        workspace.edit_params(lambda t: t["seeds"].append(7))
        assert_one_clear_error(workspace.amalgam("profile", "fashion", fails=True), "edited", "--force")
        assert 7 in yaml.safe_load((workspace.path / "params.yaml").read_text())["seeds"]
    finally:
        (workspace.path / "params.yaml").write_text(original)
