"""What Dagster records of a finished step, and shows in its UI."""

import base64
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ops.summary import Figure, Summary
from pipelines.project import ROOT

if TYPE_CHECKING:
    from pipelines.resources import TrackingRun

PICTURE_BYTES = 150_000
PICTURES = 16
"""So many of an artefact are kept in the event log, the first by name; of the others there is the path."""


def result(
    summary: Summary,
    folder: Path,
    digest: str,
    seconds: Mapping[str, float],
    run: "TrackingRun | None",
    checks: list[dg.AssetCheckResult] | None,
) -> dg.MaterializeResult:
    """Return the materialisation of `folder`: figures, tables, texts, pictures, hash, time and where to find it."""
    shown = folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else str(folder)
    metadata: dict[str, Any] = dict(summary.figures)
    metadata |= {name: dg.MetadataValue.md(table(rows)) for name, rows in summary.tables.items() if rows}
    metadata |= {name: dg.MetadataValue.md(text) for name, text in summary.texts.items()}
    pictures = enumerate(sorted((folder / "pictures").glob("*.png")))
    metadata |= {path.stem: picture(path, shown=number < PICTURES) for number, path in pictures}
    metadata |= {
        "folder": dg.MetadataValue.path(shown),
        "dvc md5": digest,
        "size (bytes)": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        **{name: round(value, 2) for name, value in seconds.items()},
        "peak memory (MiB)": round(peak_memory() / 2**20),
    }
    if run:
        metadata["mlflow run"] = run.run_id
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(digest), check_results=checks or [])


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def table(rows: Sequence[Mapping[str, Figure]]) -> str:
    """Return `rows` as a Markdown table."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(c, "")) for c in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Figure) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def picture(path: Path, *, shown: bool = True) -> dg.MetadataValue:
    """Return a picture that the UI shows in place; its path if not `shown`, or where it is too big for the event log."""
    data = path.read_bytes()
    if not shown or len(data) > PICTURE_BYTES:
        return dg.MetadataValue.path(path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path))
    return dg.MetadataValue.md(f"![{path.stem}](data:image/png;base64,{base64.b64encode(data).decode()})")
