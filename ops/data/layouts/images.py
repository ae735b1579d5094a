"""The files of a download: are they there, and what are their bytes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from ops.data.layouts.listing import named
from ops.data.sources import image_path
from ops.errors import AmalgamError
from ops.progress import Monitor
from ops.runtime import usable_cores

SUFFIXES = (".jpg", ".jpeg", ".png")
PORTION = 512
"""Files between two entries of the ledger."""


def index_images(folder: Path, places: Sequence[str] = ("",)) -> dict[str, list[str]]:
    """Return the paths (relative to `folder`) of all images below `places` in it, by their names without suffix."""
    found: dict[str, list[str]] = {}
    for place in places:
        for path in sorted((folder / place).rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                found.setdefault(path.stem, []).append(path.relative_to(folder).as_posix())
    return found


def missing_files(folder: Path, files: pd.Series, monitor: Monitor) -> pd.Series:
    """Say for each of `files` whether it is missing in `folder` (resolved).

    Raises AmalgamError if a name leads out of the folder, or if not one of the files is there.
    """
    absent = []
    for number, name in enumerate(files, start=1):
        absent.append(not image_path(folder, name).is_file())
        if number % PORTION == 0 or number == len(files):
            monitor.progress(number, len(files), "file looked for")
    missing = pd.Series(absent, index=files.index, dtype=bool)
    if missing.all():
        raise AmalgamError(
            f"no image found: not one of the {len(files)} files that the table names is in {folder}, such as "
            f"{named(files.tolist())}",
            "unpack the images too, laid out as the publisher does",
        )
    return missing


def digests(folder: Path, files: Sequence[str], ledger: Path, monitor: Monitor) -> list[str]:
    """Return the SHA-256 of the bytes of each of `files`.

    What is known is kept in `ledger`, with size and time of each file, so that a killed run goes on where it was.
    """
    known = dict(_read_ledger(ledger))
    states = {name: (found.st_size, found.st_mtime_ns) for name in files if (found := (folder / name).stat())}
    waiting = [name for name in files if known.get(name, (None, ""))[0] != states[name]]
    done = len(files) - len(waiting)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with ledger.open("a", encoding="utf-8") as lines, ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(waiting), PORTION):
            portion = waiting[start : start + PORTION]
            for name, digest in zip(portion, pool.map(lambda name: _digest(folder / name), portion), strict=True):
                known[name] = (states[name], digest)
                lines.write(json.dumps([name, *states[name], digest]) + "\n")
            lines.flush()
            done += len(portion)
            monitor.progress(done, len(files), "file read")
    return [known[name][1] for name in files]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_ledger(path: Path) -> Iterator[tuple[str, tuple[tuple[int, int], str]]]:
    """Yield name, (size, time) and digest of each line; a last one that a kill cut short is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            name, size, time, digest = json.loads(line)
        except ValueError:
            continue
        yield name, ((size, time), digest)
