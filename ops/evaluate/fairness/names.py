"""What the measurements of fairness are called: for those who write them, draw them and report them."""

from collections.abc import Mapping
from typing import Any

ACCURACY = "accuracy"
AUROC = "AUROC"
SENSITIVITY = "sensitivity"
SPECIFICITY = "specificity"
SELECTION = "selection rate"
HIGH_RISK = "high-risk sensitivity"
CALIBRATION = "calibration error"
SCALED = "calibration error (temperature scaled)"
ODDS = "equalised odds difference"
PARITY = "demographic parity difference"

LOWER_IS_BETTER = (CALIBRATION, SCALED)
"""Of these the worst group has the most."""
COMPARABLE = (ACCURACY, AUROC, SENSITIVITY, SPECIFICITY, HIGH_RISK, *LOWER_IS_BETTER)
"""What is measured of each group, and has a worst group and a gap."""

IN, OUT = "in distribution", "out of distribution"
"""The splits of these measurements: the images of several splits together."""

EVERYONE = "all"
"""The group of measurements of all images; also the axis along which there is only this group."""
BY_DOMAIN = "domain"
"""The axis that is no attribute."""
EVERYTHING = "every measure"
"""What a group that is too small is left out of."""


def robust(threat: str) -> str:
    """Return what robust accuracy under a threat is called."""
    return f"robust accuracy ({threat})"


def of_class(metric: str, label: str) -> str:
    """Return what a measure of one class against the rest is called."""
    return f"{metric} ({label})"


def worst_group(metric: str) -> str:
    """Return what a measure of the group where it is worst is called."""
    return f"worst-group {metric}"


def gap(metric: str) -> str:
    """Return what the largest less the smallest value of a measure among groups is called."""
    return f"{metric} gap"


def disparity(metric: str) -> str:
    """Return what the standard deviation of a measure over groups is called."""
    return f"{metric} disparity"


def moved(metric: str) -> str:
    """Return what a measure out of distribution less the same in distribution is called."""
    return f"difference in {metric} from {IN}"


def axis_name(columns: list[str] | tuple[str, ...]) -> str:
    """Return the name of an axis: `tone`, or `tone+gender` for the groups that both make."""
    return "+".join(columns)


def group_name(axis: str, value: str) -> str:
    """Return the name of a group in measurements: `tone=5`, `tone+gender=5+woman`."""
    return f"{axis}={value}"


def axis_of(group: str) -> str:
    """Return the axis of a group, or of what is measured along the whole axis (`tone`)."""
    return group.partition("=")[0]


def shown(group: str, names: Mapping[str, Mapping[str, str]]) -> str:
    """Return the name of a group for people: `dark, woman` for `tone+gender=5+woman`.

    `names` are the `attribute_names` of `dataset.json`: the names of values, by attribute.
    """
    axis, _, value = group.partition("=")
    columns = axis.split("+")
    values = value.split("+", len(columns) - 1)
    return ", ".join(names.get(c, {}).get(v, v) for c, v in zip(columns, values, strict=True)) if value else axis


def names_of(dataset: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    """Return the names of the values of each attribute, from `dataset.json`; those of values without one are not in it."""
    found: Mapping[str, Mapping[str, str]] = dataset.get("attribute_names", {})
    return found
