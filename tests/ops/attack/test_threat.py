"""Threats: what they read, what they refuse, how they are printed."""

import pytest

from ops.attack.threat import Threat


def test_threats_read_fractions():
    assert Threat(norm="linf", eps="8/255").eps == pytest.approx(8 / 255)
    assert Threat(norm="l2", eps="128 / 255").eps == pytest.approx(128 / 255)
    assert Threat(norm="l1", eps="12").eps == 12


@pytest.mark.parametrize(
    ("norm", "eps", "message"),
    [
        ("linf", 8, "did you mean 8/255"),
        ("linf", 1, "did you mean 1/255"),
        ("linf", 0, "greater than 0"),
        ("linf", float("nan"), "greater than 0"),
        ("l2", 128, "did you mean 128/255"),
        ("l2", float("inf"), "L2 eps of inf"),
        ("l1", 8 / 255, "looks like an eps for L-inf"),
        ("l1", 3060, "did you mean 3060/255"),
        ("linf", "8/0", "write it like 8/255"),
        ("linf", "eight/255", "write it like 8/255"),
        ("l0", 8, "norm"),
    ],
)
def test_threats_refuse_confusions(norm, eps, message):
    with pytest.raises(ValueError, match=message):
        Threat(norm=norm, eps=eps)


@pytest.mark.parametrize(
    ("norm", "eps", "printed"),
    [("linf", "8/255", "linf 8/255"), ("l2", "128/255", "l2 128/255"), ("l1", 12, "l1 12"), ("l1", 0.5, "l1 0.5")],
)
def test_threats_are_printed_as_in_the_papers(norm, eps, printed):
    assert str(Threat(norm=norm, eps=eps)) == printed


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 5), ("l1", 255)])
def test_published_radii_are_accepted(norm, eps):
    """MNIST's L-inf, ImageNet's largest L2 and L1."""
    assert Threat(norm=norm, eps=eps).eps == eps
