"""Expectations as Dagster asset checks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from ops.data.expectations import ExpectationOutcome


def check_results(
    outcomes: Sequence["ExpectationOutcome"], *, contract: str, quality: str
) -> list[dg.AssetCheckResult]:
    """Gather `outcomes` into two checks: `contract` fails on a critical one (and blocks), `quality` warns."""
    results = []
    for name, severity, chosen in (
        (contract, dg.AssetCheckSeverity.ERROR, [o for o in outcomes if o.severity == "critical"]),
        (quality, dg.AssetCheckSeverity.WARN, [o for o in outcomes if o.severity != "critical"]),
    ):
        failed = [o for o in chosen if not o.success]
        rows = [f"| {'✓' if o.success else '✗'} | {o.name} | {_short(o.observed)} |" for o in chosen]
        metadata: dict[str, dg.MetadataValue | int | str] = {
            "expectations": len(chosen),
            "failed": len(failed),
            "failed examples": ", ".join(str(i) for o in failed for i in o.failed_ids[:5]) or "none",
            "table": dg.MetadataValue.md("\n".join(["| | expectation | observed |", "|---|---|---|", *rows])),
        }
        results.append(dg.AssetCheckResult(check_name=name, passed=not failed, severity=severity, metadata=metadata))
    return results


def honesty_result(doubts: Sequence[str], *, name: str) -> dg.AssetCheckResult:
    """Return the check that warns of models that show signs of masked gradients."""
    lines = dg.MetadataValue.md("\n".join(f"- {doubt}" for doubt in doubts) or "none")
    metadata: dict[str, dg.MetadataValue | int | str] = {"signs": len(doubts), "which": lines}
    severity = dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(check_name=name, passed=not doubts, severity=severity, metadata=metadata)


def memorisation_result(passed: bool, reasons: Sequence[str], *, name: str) -> dg.AssetCheckResult:
    """Return the check that warns of a generator that repeats its training images."""
    lines = dg.MetadataValue.md("\n".join(f"- {reason}" for reason in reasons) or "none")
    metadata: dict[str, dg.MetadataValue | int | str] = {"reasons": lines}
    return dg.AssetCheckResult(check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=metadata)


def _short(observed: object, limit: int = 120) -> str:
    """Return `observed` on one line that fits a table cell."""
    text = str(observed).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= limit else text[: limit - 1] + "…"
