"""Fixtures shared by all tests; the `workspace` is a copy of the project in a folder of its own, as a clone has it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

import pipelines  # noqa: F401  (prepares the environment before anything imports torch)

ROOT = Path(__file__).resolve().parent.parent
PRIVATE = ("DAGSTER_HOME", "DVC_STAGE", "DVC_ROOT", "GIT_DIR", "GIT_WORK_TREE")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def in_fresh_python():
    """Return a function that runs Python code in a new interpreter in the project and returns what it prints."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@dataclass
class Workspace:
    """A clone in which the real Dagster, DVC and MLflow run."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str) -> subprocess.Popen:
        """Start a Python module in the workspace, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.path,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, *command: str, fails: bool = False) -> str:
        """Run a Python module in the workspace and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=self.path, env=self.env, capture_output=True, text=True, check=False
        )
        text = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, text
        return text

    def amalgam(self, *arguments: str, fails: bool = False) -> str:
        return self.call("pipelines", *arguments, fails=fails)

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        return self.call("dvc", *arguments, fails=fails)

    def status(self) -> dict[str, dict]:
        """Return each stage as Dagster and DVC see it."""
        text = self.amalgam("status", "--json")
        return json.loads(text[text.index("{") :])

    def locked(self) -> dict[str, str]:
        """Return the md5 of each stage's output in dvc.lock."""
        lock = yaml.safe_load((self.path / "dvc.lock").read_text())
        return {name: entry["outs"][0]["md5"] for name, entry in lock["stages"].items()}

    def edit_params(self, change) -> None:
        """Apply `change` to the tree of params.yaml."""
        path = self.path / "params.yaml"
        tree = yaml.safe_load(path.read_text())
        change(tree)
        path.write_text(yaml.safe_dump(tree, sort_keys=False))

    def python(self, code: str) -> str:
        """Run Python code in the workspace and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.path, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def clone(path: Path) -> Workspace:
    """Copy every file that git tracks (or would) to `path`, as a repository of its own, and fetch the data."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    for compiled in ROOT.glob(
        "ops/models/kernels/__pycache__/*.nb?"
    ):  # valid as long as size and time of the source are
        place = path / compiled.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, place)
    env = {k: v for k, v in os.environ.items() if k not in PRIVATE}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["DVC_SITE_CACHE_DIR"] = str(path / ".dvc" / "site")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "clone"]):
        subprocess.run([*git, *command], cwd=path, env=env, check=True, capture_output=True)
    return Workspace(path, env)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Workspace:
    """Return a clone whose whole lineage has been materialized once; tests leave it fresh."""
    made = clone(tmp_path_factory.mktemp("clone"))
    made.dvc("pull", "-q", "data.dvc")
    made.amalgam("profile", "smoke")
    made.first_run = made.amalgam("run")  # type: ignore[attr-defined]
    return made
