"""The whole lineage at tiny scale: Dagster, DVC and MLflow tell the same story."""

import json

import pytest
import yaml

pytestmark = pytest.mark.lineage

RECIPE = {"classifier/mixed/seed-0", "classifier/mixed/seed-1"}
AFTER_RECIPE = {
    *RECIPE,
    *{"robustness", "corruptions", "shift", "fairness", "comparisons", "model_card"},
    *{"claims", "training_study", "report"},
}

AFTER_FAIRNESS = {"fairness", "model_card", "claims", "report"}


def ran(text: str) -> set[str]:
    """Return the stages that `dvc repro` says it ran."""
    return {line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")}


def set_learning_rate(value: float):
    def change(tree):
        tree["classifier"]["recipes"]["mixed"]["schedule"]["lr"] = value

    return change


def test_everything_is_made_and_all_agree(workspace):
    status = workspace.status()
    assert {s["dagster"] for s in status.values()} == {"fresh"}
    assert not any(s["dvc_changed"] for s in status.values())
    assert (workspace.path / "store" / "report" / "report.html").stat().st_size > 10_000
    assert "up to date" in workspace.dvc("status")
    assert set(workspace.locked()) == {name.replace("/", "-") for name in status}


def test_nothing_is_done_twice(workspace):
    before = workspace.locked()
    assert ran(workspace.dvc("repro")) == set()
    assert "everything is up to date" in workspace.amalgam("run")
    assert workspace.locked() == before


def test_dvc_lock_is_what_dvc_itself_would_write(workspace):
    """A commit by DVC's own command changes no byte, and writes an entry that was taken out as it was."""
    path = workspace.path / "dvc.lock"
    written = path.read_bytes()
    workspace.dvc("commit", "--force", "--quiet")
    assert path.read_bytes() == written
    lock = yaml.safe_load(written)
    path.write_text(yaml.safe_dump(lock | {"stages": {k: v for k, v in lock["stages"].items() if k != "manifest"}}))
    workspace.dvc("commit", "--force", "--quiet", "manifest")
    assert yaml.safe_load(path.read_text()) == lock
    path.write_bytes(written)


def test_data_versions_are_dvc_hashes(workspace):
    code = """
import json
from pipelines.definitions import project
from pipelines.running import open_instance
from pipelines.state import recorded_version
with open_instance() as instance:
    print(json.dumps({s.name: recorded_version(instance, s.asset, s.partition) for s in project().stages}))
"""
    assert json.loads(workspace.python(code)) == workspace.locked()


def test_one_mlflow_run_for_each_training(workspace):
    code = """
import json
from mlflow import MlflowClient
from pipelines.project import MLFLOW_URI
client = MlflowClient(MLFLOW_URI)
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
print(json.dumps([{"name": r.info.run_name, "status": r.info.status, "tags": r.data.tags, "params": r.data.params,
                   "curve": max((len(client.get_metric_history(r.info.run_id, k)) for k in r.data.metrics), default=0)}
                  for r in runs]))
"""
    runs = {run["name"]: run for run in json.loads(workspace.python(code))}
    training = {
        f"{a}/seed-{n}"
        for a in ("classifier/real", "classifier/mixed", "classifier/scorer", "ingredient/l2", "soup")
        for n in (0, 1)
    }
    assert set(runs) == training | {"autoencoder", "diffusion"}
    locked = workspace.locked()
    for name, run in runs.items():
        assert run["status"] == "FINISHED"
        assert run["tags"]["dvc.md5"] == locked[name.replace("/", "-")]
        assert run["tags"]["dagster.run_id"]
        assert run["tags"]["git.commit"]
        assert run["params"]["seed"] in {"0", "1"}
        if not name.startswith("soup"):
            assert run["curve"] >= 2, f"{name} has no curve"


def test_one_learning_rate_reruns_one_recipe_and_what_depends_on_it(workspace):
    original = (workspace.path / "params.yaml").read_text()
    before = workspace.locked()
    workspace.edit_params(set_learning_rate(0.0123))
    status = workspace.status()
    assert {name for name, s in status.items() if s["dagster"] == "stale"} == RECIPE
    assert {name for name, s in status.items() if s["dvc_changed"]} == RECIPE
    text = workspace.amalgam("run")
    assert {line.split()[1] for line in text.splitlines() if line.startswith("✓")} == AFTER_RECIPE
    changed = {name for name, md5 in workspace.locked().items() if md5 != before[name]}
    assert changed == {name.replace("/", "-") for name in AFTER_RECIPE}
    assert ran(workspace.dvc("repro")) == set()

    # back again: DVC's run cache brings the old outputs without running anything, and Dagster is told
    (workspace.path / "params.yaml").write_text(original)
    assert ran(workspace.dvc("repro")) == set()
    assert workspace.locked() == before
    assert any(s["dagster"] == "stale" for s in workspace.status().values())
    workspace.amalgam("sync")
    assert {s["dagster"] for s in workspace.status().values()} == {"fresh"}
    assert "everything is up to date" in workspace.amalgam("run")


def test_dvc_reruns_the_same_and_dagster_agrees(workspace):
    original = (workspace.path / "params.yaml").read_text()
    before = workspace.locked()
    workspace.edit_params(lambda tree: tree["fairness"].update(replicates=tree["fairness"]["replicates"] + 1))
    assert ran(workspace.dvc("repro")) == AFTER_FAIRNESS
    assert {s["dagster"] for s in workspace.status().values()} == {"fresh"}
    assert "everything is up to date" in workspace.amalgam("run")
    changed = {name for name, md5 in workspace.locked().items() if md5 != before[name]}
    assert changed == AFTER_FAIRNESS - {"claims"}, "which are judged on predictions, not on intervals of groups"
    (workspace.path / "params.yaml").write_text(original)
    workspace.amalgam("run")
    assert "up to date" in workspace.dvc("status")


def test_a_lost_folder_is_made_again_with_the_same_bytes(workspace):
    import shutil

    before = workspace.locked()
    shutil.rmtree(workspace.path / "store" / "sampling_plan")
    text = workspace.amalgam("run")
    assert "✓ sampling_plan" in text
    assert "✓ synthetic_shards" not in text, "same bytes, so its children have nothing to do"
    assert workspace.locked() == before


def test_rays_workers_make_the_shards_that_the_step_made(workspace):
    import shutil

    original = (workspace.path / "params.yaml").read_text()
    before = workspace.locked()
    shutil.rmtree(workspace.path / "store" / "synthetic_shards")
    workspace.edit_params(lambda tree: tree["compute"].update(ray={"workers": 2, "cpus": 1}))
    text = workspace.amalgam("run", "synthetic_shards")
    assert "2 Ray worker(s)" in text
    assert workspace.locked() == before
    (workspace.path / "params.yaml").write_text(original)
    assert "everything is up to date" in workspace.amalgam("run")
