"""Votes: what one is, and the file that holds them while people vote.

The file of a study has one JSON line for each vote, on the disk before the voter sees the next pair; a line is never
changed. Who votes twice on one comparison has changed their mind: the later vote counts. An undone vote is a line, too.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.errors import AmalgamError
from ops.generate.preference.study import EvalPlan

CHOICES = ("A", "B", "tie")
SIDES = ("AB", "BA")
UNDONE = "undone"
"""Stands in the place of the choice in a line that takes back an earlier one."""
JUDGE = "judge:"
"""Begins the rater id of every vote that no person gave."""
RATER = re.compile(r"\w(?:[\w .'-]{0,38}[\w.])?")
"""Names of people; those of judges are such a name behind `JUDGE`."""


@dataclass(frozen=True)
class Vote:
    """One answer to one comparison."""

    study_id: str
    aspect: str
    pair: str
    """`a vs b`, in the order of the plan: A is the first, B the second, wherever they stood on the screen."""
    side: str
    """`AB` if A stood on the left, else `BA`."""
    rater_id: str
    prompt_id: str
    choice: str
    """`A`, `B` or `tie`."""

    @property
    def comparison(self) -> tuple[str, str]:
        """Pair and prompt, as `Comparison.name`."""
        return self.pair, self.prompt_id


FIELDS = tuple(field.name for field in fields(Vote))


def is_judge(rater_id: str) -> bool:
    """Say whether a vote was given by a judge in the place of a person."""
    return rater_id.startswith(JUDGE)


def checker(plan: EvalPlan) -> Callable[[Vote], None]:
    """Return a function that raises AmalgamError for a vote that does not belong to `plan`."""
    known = {comparison.name for comparison in plan.comparisons}

    def check(vote: Vote) -> None:
        remedy = f"votes of study {plan.study_id} are taken by its page or its judges; use their export as it is"
        for name in FIELDS:
            if not isinstance(getattr(vote, name), str):
                raise AmalgamError(f"a vote has the {name} {getattr(vote, name)!r}, which is no text", remedy)
        if (vote.study_id, vote.aspect) != (plan.study_id, plan.aspect):
            raise AmalgamError(f"a vote is of study {vote.study_id} ({vote.aspect}), not of {plan.study_id}", remedy)
        if vote.comparison not in known:
            raise AmalgamError(f"the study has no comparison of {vote.pair} on prompt {vote.prompt_id}", remedy)
        if vote.side not in SIDES:
            raise AmalgamError(f"a vote has the side {vote.side!r}", f"{' or '.join(SIDES)}; {remedy}")
        if vote.choice not in CHOICES:
            raise AmalgamError(f"a vote has the choice {vote.choice!r}", f"{', '.join(CHOICES)}; {remedy}")
        check_rater(vote.rater_id.removeprefix(JUDGE))

    return check


def check_rater(name: str) -> None:
    """Raise AmalgamError for a name that no person or judge can have."""
    if not RATER.fullmatch(name):
        raise AmalgamError(
            f"{name!r} is no name for a rater", "use 1 to 40 letters, digits, spaces, dots, hyphens or apostrophes"
        )


class VoteStore:
    """The votes of one study, in a file that grows line by line.

    Opening repairs the last line if a kill tore it: an incomplete line was never acknowledged, and goes. One process at a
    time may have the file open. Raises AmalgamError for a second one, and for lines that are no votes of the plan.
    """

    def __init__(self, plan: EvalPlan, path: Path) -> None:
        from filelock import FileLock, Timeout

        self.plan, self.path = plan, path
        self._check = checker(plan)
        self._file: int | None = None
        self._standing: dict[tuple[str, tuple[str, str]], Vote] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise AmalgamError(
                f"{path.name} is open in another process", "end the other server of this study"
            ) from None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            _sync_folder(path.parent)
            self._load()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VoteStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._lock.release()

    def add(self, vote: Vote) -> None:
        """Write one vote; it is on the disk when this returns. Raises AmalgamError if it is not of the plan."""
        self.extend([vote])

    def extend(self, votes: Iterable[Vote]) -> None:
        """Write votes, all with one wait for the disk; none if one of them is not of the plan."""
        new = list(votes)
        for vote in new:
            self._check(vote)
        self._write([asdict(vote) for vote in new])
        for vote in new:
            self._apply(vote)

    def undo(self, rater_id: str) -> Vote | None:
        """Take back the last vote of a rater that stands; returns it, or None if there is none."""
        mine = self.of(rater_id)
        if not mine:
            return None
        self._write([{**asdict(mine[-1]), "choice": UNDONE}])
        del self._standing[rater_id, mine[-1].comparison]
        return mine[-1]

    def votes(self) -> list[Vote]:
        """Return the votes that stand, in the order in which they were given."""
        return list(self._standing.values())

    def of(self, rater_id: str) -> list[Vote]:
        """Return the votes of one rater that stand, in the order in which they were given."""
        return [vote for vote in self._standing.values() if vote.rater_id == rater_id]

    def _apply(self, vote: Vote) -> None:
        place = (vote.rater_id, vote.comparison)
        self._standing.pop(place, None)  # so that a changed vote is the last one
        self._standing[place] = vote

    def _write(self, lines: Sequence[dict[str, Any]]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        data = "".join(json.dumps({**line, "at": now}, ensure_ascii=False) + "\n" for line in lines).encode()
        if self._file is None:
            raise ValueError(f"{self.path.name} is closed")
        size = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)  # a full disk must not leave half a line in the middle of the file
            raise

    def _load(self) -> None:
        text = self.path.read_bytes()
        whole, _, torn = text.rpartition(b"\n")
        if torn:
            os.truncate(self.path, len(text) - len(torn))
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            try:
                self._read(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise AmalgamError(
                    f"line {number} of {self.path.name} is no vote: {error}", "remove that line, or restore the file"
                ) from None

    def _read(self, line: dict[str, Any]) -> None:
        choice = line["choice"]
        vote = Vote(**{name: line[name] for name in FIELDS})
        if choice == UNDONE:
            self._standing.pop((vote.rater_id, vote.comparison), None)
            return
        self._check(vote)
        self._apply(vote)


def _sync_folder(folder: Path) -> None:
    """Put the name of a new file on the disk, not only its content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
