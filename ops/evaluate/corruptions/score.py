"""Errors under corruptions as one number."""

from collections.abc import Mapping, Sequence

from ops.errors import AmalgamError
from ops.evaluate.corruptions.tables import CORRUPTIONS

ALEXNET_NAME = "alexnet"
"""What a profile calls that baseline."""

ALEXNET: Mapping[str, float] = dict(
    zip(
        CORRUPTIONS,
        (
            0.886428,
            0.894468,
            0.922640,
            0.819880,
            0.826268,
            0.785948,
            0.798360,
            0.866816,
            0.826572,
            0.819324,
            0.564592,
            0.853204,
            0.646056,
            0.717840,
            0.606500,
        ),
        strict=True,
    )
)
"""Mean error of AlexNet over the five severities of ImageNet-C, to divide by (google-research/augmix, `imagenet.py`)."""


def mean_corruption_error(errors: Mapping[str, Sequence[float]], baseline: Mapping[str, float] | None = None) -> float:
    """Return the mean over corruptions of the mean error over severities.

    Without a baseline that is the convention of CIFAR-10-C: a plain mean. With one it is mCE of ImageNet-C: each
    corruption's mean error is first divided by the baseline's, so that hard corruptions do not outweigh the others; 1 is
    as bad as the baseline (papers print percent).

    Args:
        errors: for each corruption, the share of wrong predictions at each severity, in [0, 1].
        baseline: mean error of a reference model for each corruption, above 0, for example `ALEXNET`; corruptions that
            are not in `errors` are ignored.

    Raises:
        AmalgamError: nothing was measured, an error is no share, or the baseline lacks a corruption.

    Source: Hendrycks and Dietterich (2019), section 4.1.
    """
    if not errors or not all(len(levels) > 0 for levels in errors.values()):
        raise AmalgamError("there are corruptions without errors", "measure each corruption at one severity at least")
    wrong = [name for name, levels in errors.items() if not all(0 <= e <= 1 for e in levels)]
    if wrong:
        raise AmalgamError(f"errors outside [0, 1] for {', '.join(wrong)}", "pass shares of images, not percent")
    if baseline is not None and (missing := [name for name in errors if not baseline.get(name, 0) > 0]):
        raise AmalgamError(
            f"the baseline has no error above 0 for {', '.join(missing)}", "pass a baseline that was measured on all"
        )
    means = {name: sum(levels) / len(levels) for name, levels in errors.items()}
    return sum(mean / (baseline[name] if baseline else 1.0) for name, mean in means.items()) / len(means)
