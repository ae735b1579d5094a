"""Is the evaluation as strong as AutoAttack, and how much faster? Against `pyautoattack`.

    python -m benchmarks.autoattack [--cifar10 ZIP] [--parts PART ...] [--photographs 4000]
    python -m benchmarks.autoattack --json [--quick]     # one line; --quick: few images, a twentieth of the steps

Parts: `attacks` (each attack on its own), `agreement`, `speed` and `depth` (whole ensembles; the former two in other norms,
too), all on photographs: they need a zip with the JPEG class folders of CIFAR-10; and `networks` (the speed on networks of the
literature's size). --json and --quick attack the robust network of the lineage (needs `make demo` first). What is measured is
kept in `.amalgam/studies/autoattack`, so that a stopped run goes on; `docs/results/evaluation.*` is written from all that is
there, and of other processors and parts says what it said before.
"""

import argparse
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from ops.runtime import prepare_threads

prepare_threads()

from benchmarks import autoattack_agreement, autoattack_attacks, autoattack_networks  # noqa: E402
from benchmarks.autoattack_agreement import AGREEMENT, AGREEMENT_L1, AGREEMENT_L2, DEPTH, SPEED, SPEED_L1, SPEED_L2  # noqa: E402
from benchmarks.autoattack_page import Found, summary, write  # noqa: E402
from benchmarks.results import RESULTS  # noqa: E402
from ops.attack.attacks import Attack, published  # noqa: E402
from ops.errors import AmalgamError  # noqa: E402
from ops.files import read_json  # noqa: E402
from ops.runtime import configure_torch  # noqa: E402

QUESTIONS = (AGREEMENT, AGREEMENT_L2, AGREEMENT_L1, SPEED, SPEED_L2, SPEED_L1, DEPTH)
ENSEMBLES = {question.part: question for question in QUESTIONS}
DEFAULTS = "default: " + ", ".join(f"{part} {question.images}" for part, question in ENSEMBLES.items())
PARTS = ("attacks", "networks", *ENSEMBLES)
COMMAND = "python -m benchmarks.autoattack"


def main() -> None:
    """Measure, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=256, help="--json: images of the embedded dataset")
    parser.add_argument("--photographs", type=int, help=f"of whole ensembles: test images ({DEFAULTS})")
    parser.add_argument("--cifar10", type=Path, metavar="ZIP", help="JPEG class folders of CIFAR-10")
    parser.add_argument("--page", action="store_true", help="only write the page from what is there")
    parser.add_argument("--json", action="store_true", help="print one line instead of writing the page")
    parser.add_argument("--quick", action="store_true", help="the robust model, 24 images, a twentieth of the steps")
    chosen = parser.parse_args()
    configure_torch()
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    if chosen.json or chosen.quick:
        try:
            print(json.dumps(summary(robust(24 if chosen.quick else chosen.images, chosen.quick))))
        except AmalgamError as error:
            raise SystemExit(str(error)) from None
        return
    if not chosen.page:
        try:
            measure(chosen)
        except AmalgamError as error:
            raise SystemExit(str(error)) from None
    measured = {part: autoattack_agreement.outcomes(question) for part, question in ENSEMBLES.items()}
    measured |= {"attacks": autoattack_attacks.outcomes(), "networks": autoattack_networks.kept()}
    write(COMMAND, with_published(measured))


def measure(chosen: argparse.Namespace) -> None:
    """Measure what the command line asks for, and keep it."""
    if "attacks" in chosen.parts:
        autoattack_attacks.measure(chosen.cifar10)
    if "networks" in chosen.parts:
        autoattack_networks.measure_all()
    for part, question in ENSEMBLES.items():
        if part in chosen.parts:
            autoattack_agreement.measure(question, chosen.cifar10, chosen.photographs or question.images)


def with_published(measured: Mapping[str, Found]) -> dict[str, Found]:
    """Return what is measured, by part, processor and network, and what the page says of others already."""
    path = RESULTS / "evaluation.json"
    before = read_json(path)["found"] if path.exists() else {}
    every: dict[str, Found] = {}
    for part, found in measured.items():
        told = before.get(part, {})
        every[part] = {
            processor: {**told.get(processor, {}), **found.get(processor, {})} for processor in sorted({*told, *found})
        }
    return every


def robust(count: int, quick: bool) -> autoattack_attacks.Outcome:
    """Return what both sides find on the robust model of the lineage."""
    threat = autoattack_attacks.EMBEDDED
    attacks = published("standard", threat.norm)
    chosen = [shortened(attack) for attack in attacks] if quick else attacks
    return autoattack_attacks.compare("robust", *autoattack_attacks.embedded(count), chosen, threat, time.perf_counter)


def shortened(attack: Attack) -> Attack:
    """Return the attack with a twentieth of its steps."""
    return attack.model_copy(update={"steps": attack.steps // 20})


if __name__ == "__main__":
    main()
