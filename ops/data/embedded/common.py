"""What the builders of the embedded datasets share: verified packages in, deterministic Parquet out."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.files import replacing, write_json

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),
        ("label", pa.string()),
        ("domain", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("caption", pa.string()),
        ("concept", pa.string()),
        ("split", pa.string()),
        ("licence", pa.string()),
        ("package", pa.string()),
    ]
)


def fetch(command: Sequence[str], file: str, sha256: str, packages: Path) -> Path:
    """Return `packages/file`, made by `command` (run in `packages`) if it is not there; its hash is verified.

    Raises AmalgamError where the command fails or the bytes are not those the dataset was made from.
    """
    path = packages / file
    if not path.exists():
        packages.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            raise AmalgamError(f"{' '.join(command)} failed: {done.stderr.strip()}", f"put {file} into {packages}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise AmalgamError(
            f"{path} has sha256 {found}, not {sha256}", "remove it; the package must be this very version"
        )
    return path


def write_dataset(
    out: Path, rows: Sequence[Mapping[str, Any]], dataset: Mapping[str, Any], notices: Mapping[str, str]
) -> None:
    """Write one Parquet file for each domain of `rows`, `dataset.json`, and the licence notices by file name."""
    out.mkdir(parents=True, exist_ok=True)
    for domain in sorted({row["domain"] for row in rows}):
        mine = sorted((row for row in rows if row["domain"] == domain), key=lambda row: row["id"])
        table = pa.Table.from_pylist([{**row, "attributes": sorted(row["attributes"].items())} for row in mine], SCHEMA)
        with replacing(out / f"images-{domain}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
    write_json(out / "dataset.json", dict(dataset))
    for name, text in notices.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text.strip() + "\n", encoding="utf-8")
