"""How fast is a sampling plan made of a large manifest, and in how much memory? Streamed, against a whole table in pandas.

    python -m benchmarks.planning --json [--quick]

Manifests of two sizes, the larger four times the smaller, are written to a temporary folder: ten classes, four domains, two
attributes of six and two values, in the schema of every stage. Ours is the stage's: `count_cells` streams the columns that
count. The baseline is what other stages do, which need the whole table: `read_manifest` and pandas' groupby. A plan of a
tenth as many images follows. Each measurement is a process of its own, two threads, sides in turns; rows per second are
medians over rounds (`--quick`: one round of small manifests), `memory` is the process's peak in MB, libraries included.
`ratio` compares the sides at the smaller size.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.manifest import MANIFEST_SCHEMA, read_manifest
from ops.files import read_json, write_json
from ops.progress import Silent
from ops.sample.cells import count_cells, grid_of
from ops.sample.config import SamplingPlanConfig
from ops.sample.plan import plan_samples

SIZES, QUICK_SIZES = (1_000_000, 4_000_000), (100_000, 400_000)
ROUNDS = 3
BLOCK = 250_000
FACTORS = ["domain", "tone", "sex"]
DATASET: dict[str, Any] = {
    "classes": [f"class {k}" for k in range(10)],
    "domains": [f"site {k}" for k in range(4)],
    "attributes": {"sex": ["f", "m"], "tone": [str(k) for k in range(6)]},
    "groups": "tone",
    "notes": {},
}
MULTIPLE = 0.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")
    parser.add_argument("--quick", action="store_true", help="one round of small manifests")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], Path(arguments.measure[1]))))
        return
    found = compare(QUICK_SIZES, 1) if arguments.quick else compare(SIZES, ROUNDS)
    if arguments.json:
        print(json.dumps(found))
        return
    for each in found["sizes"]:
        print(
            f"{each['rows']:,} rows: counted at {each['rows/s']:,}/s in {each['memory']} MB, by pandas at "
            f"{each['pandas rows/s']:,}/s in {each['pandas memory']} MB; {each['planned']:,} images planned in "
            f"{each['plan s']} s and {each['plan memory']} MB"
        )


def compare(sizes: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Return speed and memory of all sides at each size."""
    lines = []
    with TemporaryDirectory() as home:
        for rows in sizes:
            folder = write_manifest(Path(home) / str(rows), rows)
            found: dict[str, list[dict[str, float]]] = {"count": [], "pandas": [], "plan": []}
            for _ in range(rounds):
                for what, measured in found.items():
                    measured.append(in_a_process(what, folder))
            seconds = {what: statistics.median(each["seconds"] for each in m) for what, m in found.items()}
            memory = {what: round(max(each["memory"] for each in m)) for what, m in found.items()}
            lines.append(
                {
                    "rows": rows,
                    "rows/s": round(rows / seconds["count"]),
                    "memory": memory["count"],
                    "pandas rows/s": round(rows / seconds["pandas"]),
                    "pandas memory": memory["pandas"],
                    "planned": round(MULTIPLE * rows),
                    "plan s": round(seconds["plan"], 1),
                    "plan memory": memory["plan"],
                }
            )
    ours, baseline = lines[0]["rows/s"], lines[0]["pandas rows/s"]
    ratio = round(ours / baseline, 2)
    return {
        "name": "planning",
        "ratio": ratio,
        "ours": ours,
        "baseline": baseline,
        "unit": "rows/s",
        "n": rounds,
        "sizes": lines,
    }


def in_a_process(what: str, folder: Path) -> dict[str, float]:
    """Return seconds and memory of one measurement in a new process."""
    command = [sys.executable, "-m", "benchmarks.planning", "--measure", what, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(what: str, folder: Path) -> dict[str, float]:
    """Count the cells of the manifest in `folder`, count them with pandas, or plan; return seconds and megabytes."""
    pa.set_cpu_count(2)
    begun = time.perf_counter()
    dataset = read_json(folder / "dataset.json")
    if what == "count":
        images = count_cells(folder / "manifest.parquet", dataset, grid_of(FACTORS, dataset), Silent()).images.sum()
    elif what == "pandas":
        table = read_manifest(folder)
        table = table[table["split"] == "train"]
        images = table.groupby(["label", "domain", "attribute:tone", "attribute:sex"]).size().sum()
    else:
        config = SamplingPlanConfig(multiple=MULTIPLE)
        with TemporaryDirectory(dir=folder) as out:
            images = float(plan_samples(config, folder, Path(out), Silent()).figures["planned"]) / MULTIPLE
    seconds = time.perf_counter() - begun
    assert round(images) == pq.ParquetFile(folder / "manifest.parquet").metadata.num_rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"seconds": seconds, "memory": peak}


def write_manifest(folder: Path, rows: int) -> Path:
    """Write the manifest of `rows` training images and its vocabularies."""
    folder.mkdir()
    write_json(folder / "dataset.json", DATASET)
    rng = np.random.default_rng(rows)
    with pq.ParquetWriter(folder / "manifest.parquet", MANIFEST_SCHEMA, compression="zstd") as writer:
        for start in range(0, rows, BLOCK):
            writer.write_table(_block(start, min(BLOCK, rows - start), rng))
    return folder


def _block(start: int, count: int, rng: np.random.Generator) -> pa.Table:
    def drawn(values: list[str]) -> pa.Array:
        return pa.array(values).take(pa.array(rng.integers(0, len(values), count)))

    number = pa.array(np.arange(start, start + count)).cast(pa.string())
    names = sorted(DATASET["attributes"])
    by_name = pa.concat_arrays([drawn(DATASET["attributes"][name]) for name in names])
    items = by_name.take(pa.array(np.arange(2 * count).reshape(2, count).T.ravel()))
    attributes = pa.MapArray.from_arrays(
        pa.array(np.arange(0, 2 * count + 1, 2), pa.int32()), pa.array(names * count, pa.string()), items
    )
    columns = {
        **{name: number for name in ("id", "key", "name", "caption", "concept", "sha256", "phash")},
        **{
            name: pa.array([text] * count)
            for name, text in (("split", "train"), ("source", "real"), ("provenance", ""))
        },
        "shard": pa.array([f"train/train-{start // 1000:06d}.tar"] * count),
        "label": drawn(DATASET["classes"]),
        "domain": drawn(DATASET["domains"]),
        "attributes": attributes,
        "weight": pa.array(rng.choice([0.5, 1.0], count).astype(np.float32)),
        **{name: pa.array(np.full(count, 32, np.int32)) for name in ("width", "height")},
    }
    return pa.table({name: columns[name] for name in MANIFEST_SCHEMA.names}, schema=MANIFEST_SCHEMA)


if __name__ == "__main__":
    main()
