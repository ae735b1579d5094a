"""What the measurements under distribution shift are called: for those who write them, draw them and report them."""

from collections.abc import Sequence

ACCURACY = "accuracy"
WORST_DOMAIN = "worst-domain accuracy"
WORST_CLASS = "worst-class accuracy"
SAME_MIX = "same class mix"
"""Ends the name of a drop in which each class counts as often as in distribution."""

PLAIN = "accuracy under label shift"
EM = f"{PLAIN}, priors estimated"
KNOWN = f"{PLAIN}, priors known"
WORST = f"worst {PLAIN}"
GAIN_EM = "gain of estimated priors"
GAIN_KNOWN = "gain of known priors"
ERROR = "error of estimated priors"
"""Total variation between estimate and truth, half the sum of absolute differences."""

SOURCE = "source"
"""The class prior that posteriors stand for in `priors.parquet`, which is no target."""


def drop_metric(split: str) -> str:
    """Return what the loss of accuracy against `split` is called."""
    return f"accuracy drop from {split}"


def single_first(priors: Sequence[tuple[str, str]]) -> list[str]:
    """Return what is shown of priors, given name and family: single ones, then families, whose members are averaged."""
    single = [name for name, family in priors if name == family]
    return [*single, *dict.fromkeys(family for name, family in priors if name != family)]
