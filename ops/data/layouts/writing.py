"""From a listing to a folder of raw data: a table that refers to the download, and `dataset.json`."""

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.config import UNLABELLED
from ops.data.layouts.config import ImportConfig
from ops.data.layouts.images import digests, missing_files
from ops.data.layouts.listing import COLUMNS, Listing, Sieve, named
from ops.data.layouts.splits import deal, evaluated, seen_elsewhere
from ops.errors import AmalgamError
from ops.files import read_json, replace_folder, write_json
from ops.progress import Monitor
from ops.summary import Summary

SIGN = "imported"
"""The key of `dataset.json` by which an imported folder is known."""


def write_dataset(
    layout: str, listing: Listing, config: ImportConfig, source: Path, out: Path, monitor: Monitor
) -> Summary:
    """Write `table.parquet`, `dataset.json` and `left_out.csv` to the folder `out`; it appears whole or not at all.

    Pixels are not copied: the table says where in `source` each image is, and the SHA-256 of its bytes. The same download and
    settings are the same bytes. A killed run goes on with the files that it has not read, and an earlier import is replaced.

    Raises AmalgamError if `source` is not below the folder that holds `out`, if `out` holds something else, if files are
    missing (see `config.missing`) or lead out of `source`, and if a class ends without a training image.
    """
    source, holder = source.resolve(), out.parent.resolve()
    _check_places(source, holder, out)
    sieve = Sieve(listing.table)
    _take_missing(config, sieve, source, monitor)
    sieve.table["split"] = deal(config, sieve.table)
    sieve.drop(evaluated(sieve.table), "unlabelled, but of a patient that evaluation has too")
    sieve.drop(seen_elsewhere(sieve.table), "out of distribution, but of a patient that training sources have too")
    table = sieve.table.sort_values("file", ignore_index=True)
    _check_table(table)
    temporary = out.with_name(f".{out.name}.importing")
    table["sha256"] = digests(source, table["file"].tolist(), temporary / LEDGER, monitor)
    left_out = pd.concat([listing.left_out, sieve.left_out], ignore_index=True).sort_values(["reason", "file"])
    counts = dict(sorted(Counter(left_out["reason"]).items()))
    settings = config.model_dump(mode="json") | _names_only(config)
    dataset = {
        **_describe(table, listing.dataset),
        "root": source.relative_to(holder).as_posix(),
        SIGN: {"layout": layout, "settings": settings, "left out": counts},
    }
    made = temporary / "made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(),
        made / "table.parquet",
        compression="zstd",
    )
    left_out.to_csv(made / "left_out.csv", index=False)
    write_json(made / "dataset.json", dataset)
    replace_folder(made, out)
    shutil.rmtree(temporary)
    for note in listing.notes:
        monitor.note(note)
    splits = table.groupby("split").size().reindex([s for s in ORDER if s in set(table["split"])])
    figures = {"images": len(table), **{f"{split} images": int(n) for split, n in splits.items()}}
    return Summary(figures, {"left out": [{"reason": reason, "rows": n} for reason, n in counts.items()]})


LEDGER = "digests.jsonl"
ORDER = ("train", "validation", "test", "shift", UNLABELLED)


def _check_places(source: Path, holder: Path, out: Path) -> None:
    """Raise AmalgamError unless the table can refer to the download, and may be written."""
    if source == holder or not source.is_relative_to(holder):
        raise AmalgamError(
            f"the download {source} is not below {holder}, where data are versioned",
            f"move it there (mv), or link its files there (cp -al {source} {holder}/); a symbolic link will not do",
        )
    if source.is_relative_to(out.resolve()):
        raise AmalgamError(f"{out.name} holds the download", "name another folder for the table, beside it")
    note = out / "dataset.json"
    if out.exists() and any(out.iterdir()) and not (note.exists() and SIGN in read_json(note)):
        raise AmalgamError(f"{out.name} holds something that no import made", "remove it, or name another folder")


def _take_missing(config: ImportConfig, sieve: Sieve, source: Path, monitor: Monitor) -> None:
    """Take files that are not there out of the table, or refuse."""
    missing = missing_files(source, sieve.table["file"], monitor)
    if missing.any() and config.missing == "stop":
        names = sieve.table.loc[missing, "file"].tolist()
        raise AmalgamError(
            f"{len(names)} of {len(missing)} files that the table names are missing: {named(names)}",
            "complete the download, or leave them out with --missing skip",
        )
    sieve.drop(missing, "the file is missing")


def _check_table(table: pd.DataFrame) -> None:
    """Raise AmalgamError if a file is named twice, or a class or split is empty."""
    twice = table.loc[table["file"].duplicated(), "file"].tolist()
    if twice:
        raise AmalgamError(f"{len(twice)} files are named twice: {named(twice)}", "remove the rows that repeat others")
    trained = set(table.loc[table["split"] == "train", "label"])
    for label in sorted(set(table.loc[table["split"] != UNLABELLED, "label"])):
        if label not in trained:
            raise AmalgamError(
                f"no training image is of class {label!r}", "another --seed deals patients otherwise; or bring more"
            )
    if len(trained) < 2:
        raise AmalgamError(f"all images are of one class, {named(sorted(trained))}", "there must be two at least")
    for split in ("validation", "test"):
        if split not in set(table["split"]):
            raise AmalgamError(
                f"there are too few patients for a {split} split", "every domain and class needs three at least"
            )


def _describe(table: pd.DataFrame, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return `dataset.json` with the values that occur; lists that `dataset` has already keep their order."""
    found = {
        "classes": sorted(set(table.loc[table["split"] != UNLABELLED, "label"])),
        "domains": sorted(set(table["domain"])),
        "attributes": {name: sorted(set(table[name])) for name in sorted(set(table.columns) - {*COLUMNS, "sha256"})},
        "channels": 3,
    }
    return {**found, **dataset}


def _names_only(config: ImportConfig) -> dict[str, str]:
    """Return the settings that are paths by their names: where a file was says nothing of the data."""
    return {key: value.name for key, value in config if isinstance(value, Path)}
