"""Signs that a robustness figure cannot be trusted, in the table of all outcomes of a model."""

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from ops.evaluate.honesty import BATCH, BLACK_BOX_ONLY, Sign
from ops.evaluate.measurements import NO_THREAT

BLACK_BOX = "square"


def outcome_signs(outcomes: pd.DataFrame, attacks: Sequence[str], random: bool) -> list[Sign]:
    """Return the signs in the outcomes of one model on one split: rows of images as they are, and rows of each threat.

    `attacks` are in the order in which they ran, each with a column of survivals. Of models that are expected to be
    `random`, answers that differ are no surprise.

    Raises ValueError for an image that stands after an attack and did not stand before: then the evaluation is wrong.
    """
    attacked = outcomes[outcomes["threat"] != NO_THREAT]
    _check_order(attacked, attacks)
    black_box = black_box_sign(attacked, attacks)
    return [*([] if random else [batch_sign(outcomes)]), *([black_box] if black_box else [])]


def black_box_sign(attacked: pd.DataFrame, attacks: Sequence[str]) -> Sign | None:
    """Return the share of images that only Square turns, after all attacks before it, under the threat with the most.

    None if Square was not run, or as the first. `attacked` has one row for each image and threat, with a column of
    survivals for each of `attacks`, in the order in which they ran.
    """
    if BLACK_BOX not in attacks or attacks.index(BLACK_BOX) == 0:
        return None
    before = attacks[attacks.index(BLACK_BOX) - 1]
    shares = (attacked[before] & ~attacked[BLACK_BOX]).groupby(attacked["threat"]).mean()
    return Sign(BLACK_BOX_ONLY, float(shares.max()))


def batch_sign(outcomes: pd.DataFrame) -> Sign:
    """Return the share of attacked images whose answer before the attack is not that in the pass over the whole split.

    Both are of the image as it is; only the images beside it in the batch are others.
    """
    alone = outcomes[outcomes["threat"] == NO_THREAT].set_index("id")
    attacked = outcomes[outcomes["threat"] != NO_THREAT].set_index("id")
    same = alone.loc[attacked.index]
    differs = (attacked["clean"] != same["clean"]) | (attacked["predicted"] != same["predicted"])
    return Sign(BATCH, float(differs.groupby(level="id").any().mean()))


def _check_order(attacked: pd.DataFrame, attacks: Sequence[str]) -> None:
    """Raise ValueError unless every image that survives an attack, or all, is right and survived those before."""
    for earlier, later in pairwise(["clean", *attacks, "robust"]):
        risen = attacked[later] & ~attacked[earlier]
        if risen.any():
            first = attacked[risen].iloc[0]
            raise ValueError(f"{first['id']} ({first['threat']}) counts as {later}, but not as {earlier}")
