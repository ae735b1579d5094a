"""`docs/results/evaluation.*`, from what `benchmarks.autoattack` has measured."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.autoattack_agreement import (
    AGREEMENT,
    AGREEMENT_L1,
    AGREEMENT_L2,
    DEPTH,
    SPEED,
    SPEED_L1,
    SPEED_L2,
    SPLIT,
    TRAIN,
    Question,
)
from benchmarks.autoattack_networks import STEPS
from benchmarks.autoattack_sides import SIDES
from benchmarks.autoattack_texts import (
    ATTACKS,
    DEEP,
    MANY,
    NETWORKS,
    OTHERWISE,
    OUTSIDE,
    PAGE,
    SIGNS,
    WIDE,
    WIDE_OTHERWISE,
)
from benchmarks.autoattack_verdicts import close, fast, paired_score
from benchmarks.results import HOLDS, table, write_result
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row

Found = Mapping[str, Any]
ONLY_PLUS = ("apgd-dlr", "fab")


def write(command: str, attacks: Found, ensembles: Mapping[str, Found], networks: Mapping[str, Found]) -> None:
    """Write docs/results/evaluation.json and its page; parts that are not measured are left out.

    `networks` is by the CPU's instruction set.
    """
    rows: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    page = PAGE
    parts = (
        (partial(_agreement, AGREEMENT, MANY), ensembles[AGREEMENT.part]),
        (partial(_agreement, AGREEMENT_L2, OTHERWISE), ensembles[AGREEMENT_L2.part]),
        (partial(_agreement, AGREEMENT_L1, OTHERWISE), ensembles[AGREEMENT_L1.part]),
        (partial(_speed, SPEED, WIDE), ensembles[SPEED.part]),
        (partial(_speed, SPEED_L2, WIDE_OTHERWISE), ensembles[SPEED_L2.part]),
        (partial(_speed, SPEED_L1, WIDE_OTHERWISE), ensembles[SPEED_L1.part]),
        (partial(_speed, DEPTH, DEEP), ensembles[DEPTH.part]),
        (_networks, networks),
        (_attacks, attacks),
    )
    for make, found in parts:
        if found:
            text, more, judged = make(found)
            lines = "\n".join(f"- {v['claim']}: {HOLDS[v['holds']]} ({v['said']})." for v in judged)
            page += f"\n{text}\n\n{lines}\n"
            rows, verdicts = rows + more, verdicts + judged
    found = {"attacks": attacks, "networks": networks, **{part: _plain(each) for part, each in ensembles.items()}}
    write_result("evaluation", command, "default", rows, verdicts, page, found=found)


def summary(found: Found) -> dict[str, Any]:
    """Return what benchmarks print of one model: images a second on both sides, all attacks on all images."""
    speed = {side: found["images"] / _seconds(found["sides"][side]) for side in SIDES}
    return {
        "name": "autoattack",
        "ratio": round(speed["ours"] / speed["reference"], 2),
        "ours": round(speed["ours"], 3),
        "baseline": round(speed["reference"], 3),
        "unit": "images/s",
        "n": 1,
    }


def _agreement(question: Question, page: str, found: Found) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return text, rows and verdicts on the robust accuracy of many images."""
    text, rows = _ensembles(question, found, "core s")
    verdicts = []
    for name, outcome in found.items():
        theirs, mine = (np.asarray(outcome[side], bool) for side in SIDES)
        gained, lost = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
        verdicts.append(close(f"{name}, photographs, {outcome['threat']}", *paired_score(gained, lost, len(mine))))
        seconds = outcome["seconds"]
        verdicts.append(
            fast(f"{name}, photographs, {outcome['threat']}, narrow", seconds["reference"] / seconds["ours"])
        )
    return page.format(**_described(question)) + text, rows, verdicts


def _speed(question: Question, page: str, found: Found) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return text, rows and verdicts on the speed of whole ensembles."""
    text, rows = _ensembles(question, found, "s")
    verdicts = [
        fast(
            f"{name}, photographs, {outcome['threat']}, {question.widths[0]} to {question.widths[-1]} channels",
            outcome["seconds"]["reference"] / outcome["seconds"]["ours"],
        )
        for name, outcome in found.items()
    ]
    return page.format(**_described(question)) + text, rows, verdicts


def _ensembles(question: Question, found: Found, unit: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a table of whole ensembles, with a line on revisions, and the measurement rows."""
    lines, rows = [], []
    for name, outcome in found.items():
        clean, theirs, mine = (np.asarray(outcome[key], bool) for key in ("clean", *SIDES))
        for side, robust in zip(SIDES, (theirs, mine), strict=True):
            metric, interval = f"robust accuracy ({outcome['threat']})", wilson(int(robust.sum()), len(clean))
            rows.append(row(f"{name} ({side})", "cifar10", "test", "all", metric, interval, len(clean)))
        seconds = outcome["seconds"]
        cells = [f"{clean.mean():.4f}", f"{theirs.mean():.4f}", f"{mine.mean():.4f}"]
        cells += [str((mine & ~theirs).sum()), str((theirs & ~mine).sum())]
        cells += [f"{seconds[side]:.0f}" for side in SIDES]
        lines.append([name, outcome["threat"], len(clean), *cells, f"{seconds['reference'] / seconds['ours']:.2f}"])
    header = [
        "model",
        "threat",
        "images",
        "right",
        "robust, reference",
        "robust, ours",
        "only ours",
        "only the reference",
    ]
    header += [f"reference, {unit}", f"ours, {unit}", "ratio"]
    judged = _made(found.values())
    if missing := [name for name in question.threats if name not in found]:
        judged += f" Not measured: {', '.join(missing)}."
    trained = sorted({outcome["trained"] for outcome in found.values()})
    return f"{table(header, lines)}{judged} Networks trained at {', '.join(trained)}.", rows


def _described(question: Question) -> dict[str, Any]:
    """Return what the page says of a question."""
    *first, last = question.widths
    return {
        "widths": f"{', '.join(map(str, first))} and {last}",
        "epochs": question.epochs,
        "steps": question.attack_steps,
        "portion": question.portion,
        "batch": RobustnessConfig.model_fields["batch"].default,
        "train": TRAIN,
        "norm": next(iter(question.threats.values())).norm,
    }


def _attacks(found: Found) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return text, rows and verdicts on single attacks."""
    rows, lines, verdicts = [], [], []
    for name, outcomes in found.items():
        for threat, outcome in outcomes.items():
            sides = outcome["sides"]
            first = [attack for attack in sides["ours"] if attack not in ONLY_PLUS]
            for attack in [*sides["ours"], "standard"]:
                chosen = first if attack == "standard" else [attack]
                theirs, mine = (np.all([sides[s][a]["survived"] for a in chosen], axis=0) for s in SIDES)
                seconds = [sum(sides[s][a]["seconds"] for a in chosen) for s in SIDES]
                gained, lost = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
                cells = [len(mine), f"{theirs.mean():.3f}", f"{mine.mean():.3f}", gained, lost]
                cells += [*(f"{s:.0f}" for s in seconds), f"{seconds[0] / seconds[1]:.2f}"]
                lines.append([name, threat, attack, *cells])
                for side, survived in zip(SIDES, (theirs, mine), strict=True):
                    metric, interval = f"survives {attack} ({threat})", wilson(int(survived.sum()), len(survived))
                    rows.append(row(f"{name} ({side})", "cifar10", SPLIT, "all", metric, interval, len(survived)))
            verdicts.append(
                close(f"{name}, {threat}, each attack on all images", *paired_score(gained, lost, len(mine)))
            )
    header = ["model", "threat", "attack", "images", "survive the reference", "survive ours", "only ours"]
    header += ["only the reference", "reference, core s", "ours, core s", "ratio"]
    every = [(name, threat, outcome) for name, outcomes in found.items() for threat, outcome in outcomes.items()]
    signs = [f"- {name}, {threat}: {', '.join(outcome['signs']) or 'none'}." for name, threat, outcome in every]
    left = [
        f"- {name}, {threat}, {attack}: {each['outside']} images."
        for name, threat, outcome in every
        for attack, each in outcome["sides"]["reference"].items()
        if each.get("outside")
    ]
    told = f"{OUTSIDE}{chr(10).join(left)}\n\n" if left else ""
    measured = _made(outcome for *_, outcome in every)
    return f"{ATTACKS}{table(header, lines)}{measured}\n\n{told}{SIGNS}" + "\n".join(signs), rows, verdicts


def _networks(found: Found) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return text, rows and verdicts on networks of the literature's size, CPU by CPU."""
    texts, rows, verdicts = [], [], []
    for instructions, outcomes in found.items():
        lines = []
        for name, outcome in outcomes.items():
            low, high = outcome["ratio of a round"]
            whole, seconds = outcome["whole"], outcome["seconds"]
            single = [f"{each['reference'] / each['ours']:.2f}" for each in seconds.values()]
            cells = [f"{outcome['megaflops']:.0f}", str(outcome.get("longer", 1)), *single]
            cells += [f"{whole['reference']:.1f}", f"{whole['ours']:.1f}"]
            cells += [f"{outcome['ratio']:.2f} ({low:.2f} to {high:.2f}; {outcome['rounds']})"]
            cells += [reached_by_reference(outcome), at_the_floor(outcome), with_bfloat16(outcome)]
            lines.append([name, *cells])
            rows.append(
                {"model": f"{name} ({instructions})", "dataset": "random pixels", "split": "test", "group": "all"}
                | {"metric": "speed ratio", "value": outcome["ratio"], "low": low, "high": high}
                | {"n": outcome["rounds"], "seed": 0}
            )
            verdicts.append(fast(f"{name}, {instructions}", outcome["ratio"], low, high))
        attacks = [f"{attack}, ratio" for attack in STEPS]
        header = ["network", "MFLOP", "steps, times", *attacks, "reference, s an image", "ours, s an image"]
        header += ["ratio (of single rounds; rounds)", "reference, share of the peak"]
        header += ["ratio at the floor", "ratio with bfloat16, at best"]
        texts.append(table(header, lines) + _made(outcomes.values()))
    return NETWORKS + "\n\n".join(texts), rows, verdicts


def reached_by_reference(outcome: Found) -> str:
    """Return what the reference's passes reach of the machine's best direct convolution."""
    if "convolution GFLOP/s" not in outcome:
        return "not measured"
    speed = outcome["passes"] * outcome["megaflops"] / 1e3 / outcome["whole"]["reference"]
    return f"{speed / outcome['convolution GFLOP/s']:.2f}"


def at_the_floor(outcome: Found) -> str:
    """Return the ratio if our passes took only the multiplications that they need, at the machine's peak."""
    if "fewest megaflops" not in outcome:
        return "not measured"
    fewest = outcome["passes"] * outcome["fewest megaflops"] / 1e3 / outcome["convolution GFLOP/s"]
    return f"{outcome['whole']['reference'] / fewest:.2f}"


def with_bfloat16(outcome: Found) -> str:
    """Return the ratio if passes of all attacks but Square took as much less time as passes in bfloat16 do."""
    if "bfloat16 gain" not in outcome:
        return "not measured"
    gain, seconds = outcome["bfloat16 gain"]["both"], outcome["seconds"]
    ours = sum(each["ours"] / (1 if attack == "square" else max(gain, 1)) for attack, each in seconds.items())
    return f"{sum(each['reference'] for each in seconds.values()) / ours:.2f}"


def _seconds(side: Found) -> float:
    return float(sum(outcome["seconds"] for outcome in side.values()))


def _made(measured: Iterable[Found]) -> str:
    """Return at which revisions, and on which CPUs, a part was measured."""
    measured = list(measured)
    revisions = sorted(
        {revision[:12] for each in measured for revision in each.get("revisions", [each.get("revision")])}
    )
    sets = sorted({name for each in measured for name in np.atleast_1d(each["instructions"]).tolist()})
    return f"\n\nMeasured at revision {', '.join(revisions)} on a CPU with {', '.join(sets)}."


def _plain(agreement: Found) -> dict[str, Any]:
    """Return the outcomes without arrays."""
    return {
        name: {k: np.asarray(v, int).tolist() if k in ("clean", *SIDES) else v for k, v in outcome.items()}
        for name, outcome in agreement.items()
    }
