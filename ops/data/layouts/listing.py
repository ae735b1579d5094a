"""What a reader makes of a download: the images that it takes, and the rows that it leaves out, with reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ops.errors import AmalgamError

COLUMNS = ("file", "label", "domain", "split", "caption", "concept")
"""The columns of a listing that are no attributes."""
NAMED = 5
"""At most so many values are named in a message."""


@dataclass(frozen=True)
class Listing:
    """The images of a download."""

    table: pd.DataFrame
    """`COLUMNS` and attributes, all text. `file` is relative to the folder of the download; `split` is empty where the
    image is to be dealt out with its concept, which is a patient wherever one is known; `label` is in the split unlabelled."""
    left_out: pd.DataFrame
    """`file` and `reason` of the rows that are no images of the dataset."""
    dataset: Mapping[str, Any]
    """`dataset.json` but for the values that follow from the table."""
    notes: Sequence[str] = field(default=())
    """Lines for whoever runs the import."""


class Sieve:
    """A table that rows are taken out of, each with a reason; it has a column `file`."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table.reset_index(drop=True)
        self._out: list[pd.DataFrame] = []

    def drop(self, rows: pd.Series, reason: str) -> None:
        """Take out the rows for which `rows` is true."""
        self._out.append(self.table.loc[rows, ["file"]].assign(reason=reason))
        self.table = self.table[~rows].reset_index(drop=True)

    @property
    def left_out(self) -> pd.DataFrame:
        """`file` and `reason` of what was taken out."""
        return pd.concat([pd.DataFrame({"file": [], "reason": []}, dtype=str), *self._out], ignore_index=True)


def header_of(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file; AmalgamError if there is none, or if it is no CSV."""
    return [str(name) for name in _read(path, nrows=0).columns if not str(name).startswith("Unnamed: ")]


def read_columns(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Return those columns of a CSV file as text, empty where there is nothing.

    Raises AmalgamError if there is no such file, if it is no CSV, if it has no rows, or if a required column is missing.
    """
    found = header_of(path)
    missing = [name for name in required if name not in found]
    if missing:
        raise AmalgamError(
            f"{path.name} lacks the column(s) {', '.join(missing)}",
            f"it has: {', '.join(found)}; is this the right file?",
        )
    table = _read(path, usecols=[name for name in (*required, *optional) if name in found])
    if table.empty:
        raise AmalgamError(f"{path.name} has no rows", "download it again")
    return table.apply(lambda column: column.str.strip())


def _read(path: Path, **options: Any) -> pd.DataFrame:
    try:
        return pd.read_csv(path, index_col=False, dtype=str, keep_default_na=False, encoding="utf-8-sig", **options)
    except FileNotFoundError:
        raise AmalgamError(f"there is no {path.name} in {path.parent}", "name the folder that holds it") from None
    except (ValueError, OSError) as error:  # what pandas raises for files that are no tables, encodings included
        raise AmalgamError(f"{path.name} is no CSV file: {str(error)[:200]}", "download it again") from None


def named(values: Sequence[str]) -> str:
    """Return a few of `values` for a message."""
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return ", ".join(map(str, values[:NAMED])) + more
