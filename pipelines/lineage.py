"""Stages and their versions: the one truth behind Dagster, DVC and MLflow.

A stage is one asset, or one partition of it. Its code is the source of its op and of every `ops` module that op
imports; its parameters are one section of `params.yaml`. The same two lists are the stage's deps and params in
`dvc.yaml` and make the asset's code version in Dagster, so that both call the same things stale.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from pipelines.project import ROOT


@dataclass(frozen=True)
class Stage:
    """One asset, or one partition of it: a folder in the store and a stage in `dvc.yaml`."""

    asset: dg.AssetKey
    partition: str | None
    sources: tuple[str, ...]
    """Python files, relative to the project."""
    params: str
    """Dotted path of its section in `params.yaml`."""
    parents: tuple["Stage", ...]
    raw: tuple[str, ...]
    """Folders of raw data, relative to the project, that the stage reads."""

    @property
    def folder(self) -> str:
        """The stage's folder below `store/`: `diffusion`, `classifier/real/seed-0`."""
        return "/".join([*self.asset.path, *([self.partition] if self.partition else [])])

    @property
    def name(self) -> str:
        """The stage's name in `dvc.yaml`: the folder with dashes."""
        return self.folder.replace("/", "-")


@cache
def sources_of(module: str, root: Path = ROOT) -> tuple[str, ...]:
    """Return the files of `module` and of every `ops` module it imports, directly or not, relative to `root`."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, root)
        if path is None or str(path.relative_to(root)) in seen:
            continue
        seen.add(str(path.relative_to(root)))
        waiting.extend(imported for imported in _imports(path) if imported.split(".")[0] == "ops")
        seen.update(
            str(p.relative_to(root)) for p in sorted(path.parent.glob("templates/*")) if _mentions(path, p.name)
        )
    return tuple(sorted(seen))


def _file_of(module: str, root: Path) -> Path | None:
    """Return the file that defines `module`, or None if it is a name inside a module or an empty package."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"),) if path.exists()), None)


@cache  # most modules are read for many stages
def _imports(path: Path) -> tuple[str, ...]:
    """Return the names of all modules that the file imports, anywhere in it, and of all that it imports from them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _mentions(path: Path, name: str) -> bool:
    return name in path.read_text(encoding="utf-8")


def code_version(sources: Iterable[str], section: Any, root: Path = ROOT) -> str:
    """Return the hash of the bytes of `sources` and of the parameter section as it stands in `params.yaml`."""
    digest = hashlib.md5(usedforsecurity=False)
    for source in sources:
        digest.update(source.encode())
        digest.update(hashlib.md5((root / source).read_bytes(), usedforsecurity=False).digest())
    digest.update(json.dumps(section, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def stages(definitions: dg.Definitions) -> list[Stage]:
    """Return all stages, parents before children."""
    graph = definitions.resolve_asset_graph()
    made: dict[tuple[dg.AssetKey, str | None], Stage] = {}
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if node.is_external:
            continue
        partitions: list[str | None] = list(node.partitions_def.get_partition_keys()) if node.partitions_def else [None]
        for partition in partitions:
            made[key, partition] = Stage(
                asset=key,
                partition=partition,
                sources=sources_of(str(node.metadata["amalgam/op"])),
                params=str(node.metadata.get("amalgam/params", ".".join(key.path))),
                parents=tuple(_parents(graph, key, partition, made)),
                raw=tuple(sorted("/".join(p.path) for p in node.parent_keys if graph.get(p).is_external)),
            )
    return list(made.values())


def _parents(
    graph: Any, key: dg.AssetKey, partition: str | None, made: dict[tuple[dg.AssetKey, str | None], Stage]
) -> Iterator[Stage]:
    """Yield the parent stages of one stage: of the same partition where it has one, else of all partitions."""
    for parent in sorted(graph.get(key).parent_keys):
        if (parent, partition) in made:
            yield made[parent, partition]
        else:
            yield from (stage for (asset, _), stage in made.items() if asset == parent)


def digest_folder(folder: Path) -> str:
    """Return the hash that DVC gives to `folder`: md5 of the sorted list of its files' paths and md5s, and `.dir`."""
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        entries.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
