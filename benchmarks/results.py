"""How studies are kept: `docs/results/<name>.json`, and the page that is written from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.files import replacing, write_json
from pipelines.resources import git_commit

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
HOLDS = {True: "holds", False: "does not hold", None: "cannot tell at this scale"}


def write_result(
    name: str,
    command: str,
    profile: str,
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Mapping[str, Any]],
    page: str,
    **more: Any,
) -> None:
    """Write `<name>.json` (command, revision, profile, measurement rows, verdicts and `more`) and `<name>.md`."""
    record = {
        "command": command,
        "revision": git_commit(),
        "profile": profile,
        "rows": list(rows),
        "verdicts": list(verdicts),
        **more,
    }
    write_json(RESULTS / f"{name}.json", record)
    footer = f"\nWritten by `{command}` at revision `{record['revision'][:12]}`, profile `{profile}`.\n"
    with replacing(RESULTS / f"{name}.md") as temporary:
        temporary.write_text(page.rstrip() + "\n" + footer, encoding="utf-8")


def table(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def interval(value: float, low: float, high: float) -> str:
    """Return `0.71 [0.66, 0.75]`."""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def verdict_lines(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return the verdicts as a Markdown table; effects in percentage points."""
    return table(
        ["claim", "source and its effect", "measured here (points, 95 % interval)", "seeds", "verdict"],
        [
            [
                v["claim"],
                f"{v['source']}: {v['paper_effect']}",
                f"{100 * v['effect']:+.1f} [{100 * v['low']:+.1f}, {100 * v['high']:+.1f}]",
                v["seeds"],
                HOLDS[v["holds"]],
            ]
            for v in verdicts
        ],
    )
