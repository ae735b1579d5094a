"""Imports only go down: pipelines -> assets -> ops; and nothing heavy is imported when definitions load."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "ops": {"assets", "pipelines", "dagster", "mlflow", "dvc", "tests", "benchmarks"},
    "assets": {"pipelines", "mlflow", "dvc", "tests", "benchmarks"},
    "pipelines": {"tests", "benchmarks"},
}
HEAVY = {"torch", "diffusers", "transformers", "mlflow", "great_expectations", "matplotlib", "sklearn", "pandas"}
NAMED = {"ids": lambda p: str(p.relative_to(ROOT))}
FILES = [path for floor in FORBIDDEN for path in sorted((ROOT / floor).rglob("*.py"))]
OPS = [path for path in FILES if path.relative_to(ROOT).parts[0] == "ops"]


def imports(path: Path, module_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if module_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, **NAMED)
def test_imports_only_go_down(path):
    floor = path.relative_to(ROOT).parts[0]
    assert not imports(path, module_level_only=False) & FORBIDDEN[floor]


@pytest.mark.parametrize("path", [p for p in FILES if p not in OPS], **NAMED)
def test_upper_floors_import_nothing_heavy_at_module_level(path):
    assert not imports(path, module_level_only=True) & HEAVY


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.relative_to(ROOT).parts[0] == "ops"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_ops_read_no_environment_and_load_no_pickle(path):
    source = path.read_text()
    if path.name != "runtime.py":
        assert "os.environ" not in source
        assert "os.getenv" not in source
    for call in ("torch.load(", "torch.save(", "pickle.load", "allow_pickle=True", "joblib.load"):
        assert call not in source


def test_definitions_load_without_heavy_imports(in_fresh_python):
    code = (
        f"import sys, pipelines.definitions as d; d.project(); print(sorted({HEAVY - {'pandas'}!r} & set(sys.modules)))"
    )
    assert in_fresh_python(code) == "[]"
