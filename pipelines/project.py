"""Where the project's files are, and the environment its tools run in."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "store"
STATE = ROOT / ".amalgam"
DAGSTER_HOME = ROOT / ".dagster"
MLFLOW_URI = f"sqlite:///{ROOT / 'mlflow.db'}"

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def prepare_environment() -> None:
    """Set what Dagster, DVC, MLflow and torch read from the environment; what the user has set is kept.

    The instance lives in `.dagster`, configured by the `dagster.yaml` of the project.
    """
    from ops.runtime import prepare_threads

    prepare_threads()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "DAGSTER_HOME" not in os.environ:
        os.environ["DAGSTER_HOME"] = str(DAGSTER_HOME)
    home = Path(os.environ["DAGSTER_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        shutil.copyfile(ROOT / "dagster.yaml", settings)


def tool(module: str, *arguments: str) -> list[str]:
    """Return the command line of a Python tool, run by this interpreter."""
    return [sys.executable, "-m", module, *arguments]
