"""What is claimed of the evaluation beside AutoAttack, and what the measurements say of it."""

from math import sqrt
from typing import Any

from scipy.optimize import brentq
from scipy.stats import norm

from ops.evaluate.intervals import Interval

GOAL = 3.0
CLOSER, HIGHER = 0.002, 0.001
"""Largest difference of robust accuracies, and by how much ours may be the higher one."""
Z = float(norm.ppf(0.975))


def paired_score(gained: int, lost: int, count: int) -> Interval:
    """Return (gained - lost) / count with its 95 % score interval (Tango 1998).

    `gained` of `count` pairs are successes of the first only, `lost` of the second only. The interval holds the differences
    that a score test of paired proportions does not reject; unlike Wald's, it has a width where nothing differs.
    """
    effect = (gained - lost) / count

    def score(delta: float) -> float:
        """Return the statistic of the test that the difference is `delta`, in (-1, 1) and not `effect`."""
        a, b = 2 * count, -gained - lost + (2 * count - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        second = (sqrt(b**2 - 4 * a * c) - b) / (2 * a)  # the most likely share of pairs that only the second has
        return float((gained - lost - count * delta) / sqrt(count * (2 * second + delta * (1 - delta))))

    edge, near = 1 - 1e-12, 1e-12
    low = brentq(lambda d: score(d) - Z, -edge, effect - near)
    high = brentq(lambda d: score(d) + Z, effect + near, edge)
    return effect, float(low), float(high)


def close(name: str, effect: float, low: float, high: float) -> dict[str, Any]:
    """Return the verdict on the agreement of one model."""
    within = low >= -CLOSER and high <= HIGHER
    outside = low > HIGHER or high < -CLOSER
    return {
        "claim": f"{name}: robust accuracy within {100 * CLOSER:g} points of AutoAttack's, and not {100 * HIGHER:g} higher",
        "source": "design goal",
        "paper_effect": "0",
        "effect": effect,
        "low": low,
        "high": high,
        "seeds": 1,
        "holds": True if within else False if outside else None,
        "said": f"{100 * effect:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]",
    }


def fast(name: str, ratio: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Return the verdict on the speed with one model, whose single rounds had ratios from `low` to `high`.

    Nothing can be told where some rounds reach the goal and others do not.
    """
    low, high = ratio if low is None else low, ratio if high is None else high
    rounds = "" if low == high else f", rounds from {low:.2f}x to {high:.2f}x"
    return {
        "claim": f"{name}: at least {GOAL:g}x as fast",
        "source": "design goal",
        "paper_effect": f"{GOAL:g}x",
        "effect": ratio,
        "low": low,
        "high": high,
        "seeds": 1,
        "holds": True if low >= GOAL else False if high < GOAL else None,
        "said": f"{ratio:.2f}x{rounds}",
    }
