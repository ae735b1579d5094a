"""What the watermark of exports is worth, and why marked images must not be trained on.

    python -m benchmarks.watermark [--quick]

Writes `docs/results/watermark.json` and `watermark.md`. On real images of both embedded datasets: how often the mark is found
after edits, singly and pooled, and how often where it is not. Then, on Fashion-MNIST, trainings that differ only in the
mark: probes that tell "real" from "generated" images, and classifiers one of whose classes is mostly "generated". There the
generated images are other real ones, as a perfect generator's would be: whatever is learnt beyond chance is the mark.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import numpy as np  # noqa: E402

from benchmarks.results import interval, table, verdict_lines, write_result  # noqa: E402
from benchmarks.watermark_shortcut import KEY, SHORTCUT, Images, probe_study, rare_study  # noqa: E402
from ops.data.hashing import decode  # noqa: E402
from ops.data.sources import as_png, open_source  # noqa: E402
from ops.evaluate.measurements import NO_SEED  # noqa: E402
from ops.generate.watermark.config import WatermarkConfig  # noqa: E402
from ops.generate.watermark.evaluation import Detection, FalseAlarms, detections, false_alarms, watermark_rows  # noqa: E402
from ops.generate.watermark.marking import mark, psnr  # noqa: E402
from ops.progress import Silent  # noqa: E402
from ops.runtime import configure_torch, derive_seed  # noqa: E402
from pipelines.project import ROOT  # noqa: E402

COMMAND = "python -m benchmarks.watermark"
SIZE, SHARD, DECOYS = 32, 25, 100
SEARCHES = (0, 1)


@dataclass(frozen=True)
class Scale:
    """How much is run."""

    images: int = 1000
    """For detection, of each dataset."""
    probe: int = 4000
    """Training images of the probes."""
    epochs: int = 8
    """Of networks."""
    train: int = 600
    """Training images of each class."""
    classes: int = 10
    """Classes that are the rare one in turn."""


QUICK = Scale(images=100, probe=600, epochs=1, train=60, classes=2)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few images, one epoch or two; writes nothing")
    quick = parser.parse_args().quick
    configure_torch()
    scale = QUICK if quick else Scale()
    rows: list[dict[str, Any]] = []
    sections = []
    for name in ("emoji-people", "fashion-mnist"):
        found = detection_study(name, scale)
        rows += found[0]
        sections.append(found[1])
    fashion = embedded("fashion-mnist", lambda r: r["split"] in ("train", "test"))
    probe_rows, probe_page = probe_study(fashion, scale.probe, scale.epochs)
    rare_rows, rare_page, verdict = rare_study(fashion, scale.train, scale.classes)
    page = "\n\n".join(["# The watermark of exports", INTRODUCTION, *sections, SHORTCUT, probe_page, rare_page,
                        verdict_lines([verdict])])  # fmt: skip
    print(page)
    if not quick:
        write_result("watermark", COMMAND, "none", rows + probe_rows + rare_rows, [verdict], page)


INTRODUCTION = (
    f"Marked at 40 dB PSNR and found with the key only (`ops/generate/watermark`). Shares of images that are found, with 95 % "
    f"Wilson intervals, at a threshold that at most 1 in 1000 unmarked images passes, whatever the image; pooled: the images "
    f"of a shard of {SHARD} together. Detection looks at images as they are and mirrored; `search 1` also shifts them by up to "
    f"a pixel, which raises the threshold. Real images: edges and flat ground are the hard case."
)


def embedded(name: str, wanted: Callable[[dict[str, Any]], bool]) -> Images:
    """Return the `wanted` images of an embedded dataset, in an order that follows from their names."""
    dataset, rows, _ = open_source(ROOT / "data" / name)
    chosen = sorted((r for r in rows if wanted(r)), key=lambda r: derive_seed("watermark", r["id"]))
    pixels = np.stack([decode(as_png(r["data"], SIZE)[0]) for r in chosen])
    labels = np.array([dataset["classes"].index(r["label"]) for r in chosen])
    return Images(pixels, labels, dataset["classes"])


def detection_study(name: str, scale: Scale) -> tuple[list[dict[str, Any]], str]:
    """Return measurement rows and a section on one dataset."""
    images = embedded(name, lambda r: derive_seed("sample", r["id"]) % 4 == 0).pixels[: scale.images]
    rows, found = [], {}
    for search in SEARCHES:
        config = WatermarkConfig(search=search)
        hits = detections(images, KEY, SHARD, config, 0, Silent())
        alarms = false_alarms(images, KEY, SHARD, config, DECOYS, 0)
        found[search] = (hits, alarms)
        for each in watermark_rows(name, "all", images, mark(images, KEY, config), hits, alarms):
            rows.append({**each, "model": f"watermark, search {search}", "seed": NO_SEED})
    noise = psnr(images, mark(images, KEY))
    return rows, _detection_section(name, len(images), noise, found)


def _detection_section(
    name: str, count: int, noise: np.ndarray, found: dict[int, tuple[list[Detection], FalseAlarms]]
) -> str:
    header = ["edit", *(f"{kind}, search {s}" for s in SEARCHES for kind in ("singly", "pooled"))]
    lines = [
        [found[0][0][i].edit, *(interval(*share) for s in SEARCHES for share in (found[s][0][i].single, found[s][0][i].pooled))]
        for i in range(len(found[0][0]))
    ]  # fmt: skip
    alarms = "; ".join(
        f"search {s}: {100 * a.share:.3f} % of images under {a.decoys} keys that marked nothing ({100 * a.worst_key:.2f} % "
        f"under the worst of them) and {a.pooled[0] * a.shards:.0f} of {a.shards} shards pass the threshold of "
        f"{a.threshold:.2f}; {a.calibrated:.2f} would do for 1 in 1000 of these images"
        for s, (_, a) in found.items()
    )
    return "\n\n".join(
        [
            f"## {name}",
            f"{count} images; PSNR {noise.mean():.2f} dB on average, {noise.min():.2f} at least.",
            table(header, lines),
            f"False alarms, {alarms}.",
        ]
    )


if __name__ == "__main__":
    main()
