"""MLflow: one run per training, whatever happens in it."""

import pytest
from mlflow import MlflowClient

from pipelines.resources import Tracking, metric_name


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def runs(uri):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("amalgam/test")
    return client, client.search_runs([experiment.experiment_id])


def open_run(uri, name):
    return Tracking(uri=uri).run(name, "amalgam/test", {"dagster.run_id": "r"}, {"lr": 0.1, "long": "x" * 9000})


def test_curves_of_any_length_arrive(uri):
    with open_run(uri, "whole") as run:
        for step in range(1234):
            run.metrics(step, {"loss": 1 / (step + 1), "validation PSNR (dB)": 20.0})
        run.tag({"dvc.md5": "abc"})
    client, found = runs(uri)
    (whole,) = [r for r in found if r.info.run_name == "whole"]
    assert whole.info.status == "FINISHED"
    history = client.get_metric_history(whole.info.run_id, "loss")
    assert sorted((p.step, p.value) for p in history) == [(s, 1 / (s + 1)) for s in range(1234)]
    assert whole.data.metrics["validation PSNR dB"] == 20.0
    assert whole.data.tags["dvc.md5"] == "abc"


def test_a_failure_is_recorded_with_what_was_measured(uri):
    with pytest.raises(KeyboardInterrupt), open_run(uri, "killed") as run:
        run.metrics(0, {"loss": 2.0})
        raise KeyboardInterrupt
    _, found = runs(uri)
    (killed,) = [r for r in found if r.info.run_name == "killed"]
    assert killed.info.status == "FAILED"
    assert killed.data.metrics["loss"] == 2.0


def test_tracking_can_be_off():
    with Tracking(uri="sqlite:////nowhere/x.db", enabled=False).run("n", "e", {}, {}) as run:
        assert run is None


def test_names_lose_what_mlflow_refuses():
    assert metric_name("final/validation PSNR (dB)") == "final/validation PSNR dB"
    assert metric_name("a_b-c. d/e:f") == "a_b-c. d/e:f"
