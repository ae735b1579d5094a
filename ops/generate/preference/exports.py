"""Votes as tables: what is versioned, shared and rated.

An export holds the votes that stand, without the times at which they were given: equal votes are equal bytes.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import AmalgamError
from ops.files import replacing
from ops.generate.preference.study import EvalPlan
from ops.generate.preference.votes import FIELDS, Vote, checker

VOTE_SCHEMA = pa.schema([(name, pa.string()) for name in FIELDS])


def as_table(votes: Iterable[Vote]) -> pa.Table:
    """Return votes as a table (`VOTE_SCHEMA`), sorted by all columns."""
    rows = sorted((asdict(vote) for vote in votes), key=lambda row: [row[name] for name in FIELDS])
    return pa.Table.from_pylist(rows, VOTE_SCHEMA)


def as_frame(votes: Iterable[Vote]) -> pd.DataFrame:
    """Return votes as a sorted frame with the columns `FIELDS`."""
    return as_table(votes).to_pandas()


def parquet_bytes(votes: Iterable[Vote]) -> bytes:
    """Return votes as a Parquet file."""
    stream = io.BytesIO()
    pq.write_table(as_table(votes), stream, compression="zstd")
    return stream.getvalue()


def write_votes(path: Path, votes: Iterable[Vote]) -> None:
    """Write votes as Parquet."""
    with replacing(path) as temporary:
        temporary.write_bytes(parquet_bytes(votes))


def read_votes(path: Path, plan: EvalPlan) -> list[Vote]:
    """Return the votes of an export; where one rater voted twice on a comparison, the later row counts.

    Raises AmalgamError if the file is no export, or holds a vote that is not of `plan`.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise AmalgamError(f"{path.name} is no Parquet file: {error}", "export the votes again") from None
    missing = [name for name in FIELDS if name not in table.column_names]
    if missing:
        raise AmalgamError(f"{path.name} is no export of votes: no {', '.join(missing)}", "export the votes again")
    check = checker(plan)
    standing: dict[tuple[str, tuple[str, str]], Vote] = {}
    for row in table.select(FIELDS).to_pylist():
        vote = Vote(**row)
        check(vote)
        standing[vote.rater_id, vote.comparison] = vote
    return list(standing.values())


def merged(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the votes of several studies of one aspect in one frame (`as_frame`), as after adding a generator.

    Raises AmalgamError if they are of different aspects, which are never rated together.
    """
    votes = pd.concat(frames, ignore_index=True)
    aspects = sorted(set(votes["aspect"]))
    if len(aspects) > 1:
        raise AmalgamError(f"these votes are of several aspects: {', '.join(aspects)}", "rate each aspect alone")
    return votes
