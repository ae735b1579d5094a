"""`docs/results/evaluation.*`, from what `benchmarks.autoattack` has measured."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.autoattack_agreement import (
    AGREEMENT,
    AGREEMENT_L1,
    AGREEMENT_L2,
    DEPTH,
    PAIRS,
    SPEED,
    SPEED_L1,
    SPEED_L2,
    SPLIT,
    TRAIN,
    Question,
)
from benchmarks.autoattack_networks import IMAGES, STEPS
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
ORDER = (*PAIRS, *IMAGES)
"""Of networks in the tables."""


def write(command: str, found: Mapping[str, Found]) -> None:
    """Write docs/results/evaluation.json and its page, of what is `found` by part, processor and network.

    Parts that are not measured are left out.
    """
    rows: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    page = PAGE
    parts = (
        (partial(_agreement, AGREEMENT, MANY), AGREEMENT.part),
        (partial(_agreement, AGREEMENT_L2, OTHERWISE), AGREEMENT_L2.part),
        (partial(_agreement, AGREEMENT_L1, OTHERWISE), AGREEMENT_L1.part),
        (partial(_speed, SPEED, WIDE), SPEED.part),
        (partial(_speed, SPEED_L2, WIDE_OTHERWISE), SPEED_L2.part),
        (partial(_speed, SPEED_L1, WIDE_OTHERWISE), SPEED_L1.part),
        (partial(_speed, DEPTH, DEEP), DEPTH.part),
        (_networks, "networks"),
        (_attacks, "attacks"),
    )
    for make, part in parts:
        if found.get(part):
            text, more, judged = make(found[part])
            lines = "\n".join(f"- {v['claim']}: {HOLDS[v['holds']]} ({v['said']})." for v in judged)
            page += f"\n{text}\n\n{lines}\n"
            rows, verdicts = rows + more, verdicts + judged
    plain = {part: each if part in ("attacks", "networks") else _plain(each) for part, each in found.items()}
    write_result("evaluation", command, "default", rows, verdicts, page, found=plain)


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
    for processor, name, outcome in _each(found):
        theirs, mine = (np.asarray(outcome[side], bool) for side in SIDES)
        gained, lost = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
        what, seconds = f"{name}, photographs, {outcome['threat']}", outcome["seconds"]
        verdicts.append(close(f"{what}, {processor}", *paired_score(gained, lost, len(mine))))
        verdicts.append(fast(f"{what}, narrow, {processor}", seconds["reference"] / seconds["ours"]))
    return page.format(**_described(question)) + text, rows, verdicts


def _speed(question: Question, page: str, found: Found) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return text, rows and verdicts on the speed of whole ensembles."""
    text, rows = _ensembles(question, found, "s")
    verdicts = [
        fast(
            f"{name}, photographs, {outcome['threat']}, {question.widths[0]} to {question.widths[-1]} channels, {processor}",
            outcome["seconds"]["reference"] / outcome["seconds"]["ours"],
        )
        for processor, name, outcome in _each(found)
    ]
    return page.format(**_described(question)) + text, rows, verdicts


def _ensembles(question: Question, found: Found, unit: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a table of whole ensembles, with a line on revisions, and the measurement rows."""
    lines, rows = [], []
    for processor, name, outcome in _each(found):
        clean, theirs, mine = (np.asarray(outcome[key], bool) for key in ("clean", *SIDES))
        for side, robust in zip(SIDES, (theirs, mine), strict=True):
            metric, interval = f"robust accuracy ({outcome['threat']})", wilson(int(robust.sum()), len(clean))
            rows.append(row(f"{name} ({side}, {processor})", "cifar10", "test", "all", metric, interval, len(clean)))
        seconds = outcome["seconds"]
        cells = [f"{clean.mean():.4f}", f"{theirs.mean():.4f}", f"{mine.mean():.4f}"]
        cells += [str((mine & ~theirs).sum()), str((theirs & ~mine).sum())]
        cells += [f"{seconds[side]:.0f}" for side in SIDES]
        lines.append(
            [processor, name, outcome["threat"], len(clean), *cells, f"{seconds['reference'] / seconds['ours']:.2f}"]
        )
    header = [
        "processor",
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
    judged = _made(found)
    for processor, outcomes in found.items():
        if missing := [name for name in question.threats if name not in outcomes]:
            judged += f" Not measured on {processor}: {', '.join(missing)}."
    trained = sorted({outcome["trained"] for *_, outcome in _each(found)})
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
    every = list(_each_threat(found))
    for processor, name, threat, outcome in every:
        sides = outcome["sides"]
        met = sorted(sides["ours"])
        first = [attack for attack in met if attack not in ONLY_PLUS]
        for attack in [*met, "standard"]:
            chosen = first if attack == "standard" else [attack]
            theirs, mine = (np.all([sides[s][a]["survived"] for a in chosen], axis=0) for s in SIDES)
            seconds = [sum(sides[s][a]["seconds"] for a in chosen) for s in SIDES]
            gained, lost = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
            cells = [len(mine), f"{theirs.mean():.3f}", f"{mine.mean():.3f}", gained, lost]
            cells += [*(f"{s:.0f}" for s in seconds), f"{seconds[0] / seconds[1]:.2f}"]
            lines.append([processor, name, threat, attack, *cells])
            for side, survived in zip(SIDES, (theirs, mine), strict=True):
                metric, interval = f"survives {attack} ({threat})", wilson(int(survived.sum()), len(survived))
                model = f"{name} ({side}, {processor})"
                rows.append(row(model, "cifar10", SPLIT, "all", metric, interval, len(survived)))
        what = f"{name}, {threat}, each attack on all images, {processor}"
        verdicts.append(close(what, *paired_score(gained, lost, len(mine))))
    header = ["processor", "model", "threat", "attack", "images", "survive the reference", "survive ours", "only ours"]
    header += ["only the reference", "reference, core s", "ours, core s", "ratio"]
    signs = [f"- {name}, {threat}: {', '.join(outcome['signs']) or 'none'}." for _, name, threat, outcome in every]
    left = [
        f"- {name}, {threat}, {attack}: {each['outside']} images."
        for _, name, threat, outcome in every
        for attack, each in outcome["sides"]["reference"].items()
        if each.get("outside")
    ]
    told = f"{OUTSIDE}{chr(10).join(left)}\n\n" if left else ""
    by_processor: dict[str, dict[str, Found]] = {processor: {} for processor in found}
    for processor, name, threat, outcome in every:
        by_processor[processor][f"{name}, {threat}"] = outcome
    return f"{ATTACKS}{table(header, lines)}{_made(by_processor)}\n\n{told}{SIGNS}" + "\n".join(signs), rows, verdicts


def _networks(found: Found) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return text, rows and verdicts on networks of the literature's size, one processor after the other."""
    texts, rows, verdicts = [], [], []
    for processor, outcomes in found.items():
        lines = []
        for _, name, outcome in _each({processor: outcomes}):
            low, high = outcome["ratio of a round"]
            whole, seconds = outcome["whole"], outcome["seconds"]
            single = [f"{each['reference'] / each['ours']:.2f}" for each in seconds.values()]
            cells = [f"{outcome['megaflops']:.0f}", str(outcome.get("longer", 1)), *single]
            cells += [f"{whole['reference']:.1f}", f"{whole['ours']:.1f}"]
            cells += [f"{outcome['ratio']:.2f} ({low:.2f} to {high:.2f}; {outcome['rounds']})"]
            cells += [reached_by_reference(outcome), at_the_floor(outcome), with_bfloat16(outcome)]
            lines.append([name, *cells])
            rows.append(
                {"model": f"{name} ({processor})", "dataset": "random pixels", "split": "test", "group": "all"}
                | {"metric": "speed ratio", "value": outcome["ratio"], "low": low, "high": high}
                | {"n": outcome["rounds"], "seed": 0}
            )
            verdicts.append(fast(f"{name}, {processor}", outcome["ratio"], low, high))
        attacks = [f"{attack}, ratio" for attack in STEPS]
        header = ["network", "MFLOP", "steps, times", *attacks, "reference, s an image", "ours, s an image"]
        header += ["ratio (of single rounds; rounds)", "reference, share of the peak"]
        header += ["ratio at the floor", "ratio with bfloat16, at best"]
        texts.append(table(header, lines) + _made({processor: outcomes}))
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


def _each(found: Found) -> Iterator[tuple[str, str, Any]]:
    """Yield each processor, model and what is found, models in their order: JSON has another."""
    return (
        (processor, name, outcomes[name]) for processor, outcomes in found.items() for name in ORDER if name in outcomes
    )


def _each_threat(found: Found) -> Iterator[tuple[str, str, str, Any]]:
    """Yield each processor, model, threat and what single attacks found, in the order of `PAIRS`."""
    for processor, name, outcomes in _each(found):
        for threat in map(str, PAIRS[name]):
            if threat in outcomes:
                yield processor, name, threat, outcomes[threat]


def _made(found: Found) -> str:
    """Return at which revisions, on which processors and by how many threads a part was measured."""
    told = []
    for processor, outcomes in found.items():
        every = list(outcomes.values())
        revisions = {name[:12] for each in every for name in each.get("revisions", [each.get("revision")])}
        threads = {n for each in every for n in np.atleast_1d(each.get("threads", [])).tolist()}
        by = (
            f"by {', '.join(map(str, sorted(map(int, threads))))} thread{'s' * (threads != {1})} of"
            if threads
            else "on"
        )
        told.append(f"at revision {', '.join(sorted(revisions))} {by} {processor}")
    return f"\n\nMeasured {'; '.join(told)}."


def _plain(found: Found) -> dict[str, Any]:
    """Return the outcomes without arrays."""
    return {
        processor: {
            name: {k: np.asarray(v, int).tolist() if k in ("clean", *SIDES) else v for k, v in outcome.items()}
            for name, outcome in outcomes.items()
        }
        for processor, outcomes in found.items()
    }
