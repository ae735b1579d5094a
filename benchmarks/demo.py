"""Measure the demo as a newcomer meets it: a fresh clone, `make demo`, `make demo` again.

    python -m benchmarks.demo [--folder FOLDER]

Writes `docs/results/demo.json` and `demo.md`: wall time of the installation and of each stage, peak memory, the share
of the time that is not spent inside ops, and the numbers that the lineage found. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.results import ROOT, interval, table, verdict_lines, write_result
from ops.evaluate.fairness.names import ACCURACY, IN, OUT, axis_of, gap, worst_group
from ops.report.comparisons import comparison_table

COMMAND = "python -m benchmarks.demo"
AXIS = "tone"
GROUPS = (worst_group(ACCURACY), gap(ACCURACY))
READ = """
import json
import dagster as dg
from pipelines.definitions import project
from pipelines.running import open_instance
found = []
with open_instance() as instance:
    for stage in project().stages:
        key, partitions = stage.asset, [stage.partition] if stage.partition else None
        filters = dg.AssetRecordsFilter(asset_key=key, asset_partitions=partitions)
        record = instance.fetch_materializations(filters, limit=1).records[0]
        metadata = {name: value.value for name, value in record.asset_materialization.metadata.items()}
        wanted = ("seconds", "publishing (s)", "peak memory (MiB)", "size (bytes)")
        found.append({"stage": stage.folder, **{name: metadata[name] for name in wanted}})
print(json.dumps(found))
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to clone to (kept); default: a temporary folder")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        measure(folder or Path(temporary) / "amalgam")


def measure(folder: Path) -> None:
    """Clone to `folder`, run the demo twice, and write what was measured."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    env = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME", "VIRTUAL_ENV")}
    times = {name: timed(["make", name, f"PYTHON={sys.executable}"], folder, env) for name in ("install", "demo")}
    times["second demo"] = timed(["make", "demo"], folder, env)
    python = str(folder / ".venv" / "bin" / "python")
    done = subprocess.run([python, "-c", READ], cwd=folder, env=env, check=True, capture_output=True, text=True)
    stages = json.loads(done.stdout.splitlines()[-1])
    # children so far are the installation, the lineage and DVC: the largest of them
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    inside = sum(stage["seconds"] for stage in stages)
    figures = {
        "install (s)": round(times["install"], 1),
        "demo (s)": round(times["demo"], 1),
        "second demo (s)": round(times["second demo"], 1),
        "inside ops (s)": round(inside, 1),
        "orchestration overhead": round(1 - inside / times["demo"], 4),
        "peak memory (MiB)": round(peak),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    names = ("robustness", "corruptions", "comparisons")
    rows = [row for name in names for row in read_rows(folder / "store" / name)]
    rows += [row for row in read_rows(folder / "store" / "fairness") if row["metric"] in GROUPS and by_tone(row)]
    compared = comparison_table({"comparisons": folder / "store" / "comparisons"})
    verdicts = json.loads((folder / "store" / "claims" / "claims.json").read_text(encoding="utf-8"))
    page = render(figures, stages, pd.DataFrame(rows), compared, verdicts)
    write_result("demo", COMMAND, "default", rows, verdicts, page, figures=figures, stages=stages)
    print(page)


def timed(command: list[str], folder: Path, env: dict[str, str]) -> float:
    """Run a command and return its wall time in seconds."""
    start = time.monotonic()
    subprocess.run(command, cwd=folder, env=env, check=True)
    return time.monotonic() - start


def by_tone(row: dict[str, Any]) -> bool:
    """Say whether a measurement of fairness is of tones, in or out of distribution."""
    return axis_of(row["group"]) == AXIS and row["split"] in (IN, OUT)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the measurement rows of an artefact."""
    return pd.read_parquet(folder / "measurements.parquet").to_dict("records")


def render(
    figures: dict[str, Any],
    stages: list[dict[str, Any]],
    rows: pd.DataFrame,
    compared: dict[str, Any],
    verdicts: list[dict[str, Any]],
) -> str:
    """Return the page."""
    minutes = f"{figures['install (s)'] / 60:.1f} min installation, {figures['demo (s)'] / 60:.1f} min lineage"
    wide = rows[~rows["metric"].str.startswith("accuracy after")]
    accuracy = wide[(wide["group"] == "all") & wide["metric"].str.contains("clean|robust accuracy \\(")]
    accuracy = accuracy[~accuracy["metric"].str.contains("gap|worst|difference")]
    gaps = rows[rows["metric"].isin(GROUPS)]
    corruptions = rows[rows["metric"].isin(["accuracy without corruption", "mean corruption error (C-style)"])]
    return "\n".join(
        [
            "# The demo, measured",
            "",
            f"`make demo` on a fresh clone: {minutes}; a second `make demo` (nothing to do): "
            f"{figures['second demo (s)']:.0f} s. Peak memory of a process: {figures['peak memory (MiB)']} MiB. "
            f"{100 * figures['orchestration overhead']:.1f} % of the lineage's time was not inside ops. "
            f"Measured once on {figures['cores']} cores ({figures['machine']}), Python {figures['python']}, "
            "packages from a near mirror.",
            "",
            "## Time and memory",
            "",
            "Publishing is hashing, `dvc commit` and MLflow. Memory is the peak of the whole process up to then.",
            "",
            table(
                ["stage", "seconds", "publishing (s)", "peak memory (MiB)", "size (KiB)"],
                [
                    [
                        s["stage"],
                        f"{s['seconds']:.1f}",
                        f"{s['publishing (s)']:.1f}",
                        s["peak memory (MiB)"],
                        s["size (bytes)"] // 1024,
                    ]
                    for s in stages
                ],
            ),
            "",
            "## Accuracy",
            "",
            "Means over the seeds; in brackets the mean of the seeds' 95 % Wilson intervals. Robust means: survives PGD "
            "(40 steps) and APGD-CE. Training never saw the concepts of `test`, the styles of `shift_seen` and `shift_unseen`; "
            "`near` are near-duplicates of training images in unseen tones.",
            "",
            pivot(accuracy),
            "",
            "## Common corruptions",
            "",
            "Mean error under the 15 corruptions at the severities of the profile. C-style: the published parameters for "
            "32x32 images; only the published files are CIFAR-10-C.",
            "",
            pivot(corruptions),
            "",
            "## Groups (by skin tone of the drawing)",
            "",
            "In distribution are `test` and `near` together, out of it `shift_seen` and `shift_unseen`. Intervals hold worst "
            "group and gap of all groups at once; of groups that are alike the estimate of a gap is too large.",
            "",
            pivot(gaps),
            "",
            "## Comparisons",
            "",
            "Differences between models on the same images in points, with 95 % intervals over images and training seeds; "
            "* significant at 5 % after Holm's correction for all pairs of a column. Two seeds make wide intervals.",
            "",
            comparison_lines(compared),
            "",
            "## Claims",
            "",
            "Intervals are over images and training seeds, as a paper claims something of a method and not of some weights. "
            "At this scale most differences are within the noise, and the page says so.",
            "",
            verdict_lines(verdicts),
        ]
    )


def comparison_lines(compared: dict[str, Any]) -> str:
    """Return the table of `ops.report.comparisons` in Markdown."""
    header = ["models", *[f"{column['split']}: {column['measure']}" for column in compared["columns"]]]
    lines = []
    for line in compared["lines"]:
        cells = [f"{cell['text']} *" if cell["significant"] else cell["text"] for cell in line["cells"]]
        lines.append([f"{line['model']} \N{MINUS SIGN} {line['than']}", *cells])
    return table(header, lines)


def pivot(rows: pd.DataFrame) -> str:
    """Return a table of model by metric, one line for each model and split."""
    metrics = list(dict.fromkeys(rows["metric"]))
    lines = []
    for (split, model), part in rows.groupby(["split", "model"], sort=False):
        cells: list[object] = [split, model]
        for metric in metrics:
            mine = part[part["metric"] == metric]
            found = [float(mine[c].mean()) for c in ("value", "low", "high")]
            cells.append(interval(*found) if len(mine) else "–")
        lines.append(cells)
    return table(["split", "model", *metrics], lines)


if __name__ == "__main__":
    main()
