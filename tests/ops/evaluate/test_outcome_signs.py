"""Signs in tables of outcomes that are written down here."""

import numpy as np
import pandas as pd
import pytest

from ops.evaluate.honesty import BATCH, BLACK_BOX_ONLY, Sign
from ops.evaluate.outcome_signs import batch_sign, black_box_sign, outcome_signs

ATTACKS = ["apgd-ce", "square"]


def rows(threat, clean, predicted=None, **columns):
    """Return rows of images i0, i1, ... under a threat; attacks that are not given leave everything as it is."""
    clean = np.asarray(clean, bool)
    columns = {name: np.asarray(columns.get(name.replace("-", "_"), clean), bool) for name in ATTACKS}
    robust = np.logical_and.reduce([clean, *columns.values()])
    predicted = np.where(clean, "a", "b") if predicted is None else predicted
    ids = [f"i{n}" for n in range(len(clean))]
    return pd.DataFrame(
        {"id": ids, "threat": threat, "clean": clean, "predicted": predicted, **columns, "robust": robust}
    )


def standing(count, fallen):
    return np.arange(count) >= fallen


def value(signs, name):
    (found,) = [sign for sign in signs if sign.name == name]
    return found.value


def test_the_black_box_is_judged_under_each_threat():
    """3 of 1000 images under one threat are more than AutoAttack's 0.2 %, and stay so beside a threat with none."""
    first, second = rows("linf", [True] * 1000, square=standing(1000, 3)), rows("l2", [True] * 1000)
    for order in ([first, second], [second, first]):
        sign = black_box_sign(pd.concat(order), ATTACKS)
        assert sign == Sign(BLACK_BOX_ONLY, 0.003)
        assert sign.raised
    limit = rows("linf", [True] * 1000, square=standing(1000, 2))
    assert not black_box_sign(pd.concat([limit, second]), ATTACKS).raised


def test_only_what_square_turns_alone_counts():
    table = rows("linf", [True] * 10, apgd_ce=standing(10, 1), square=standing(10, 3))
    assert black_box_sign(table, ATTACKS).value == pytest.approx(0.2)
    assert black_box_sign(table, ["apgd-ce"]) is None
    assert black_box_sign(table, ["square", "apgd-ce"]) is None


def test_answers_that_hold_in_any_batch_are_no_sign():
    """The pass over the whole split has more images, in another order."""
    whole = rows("none", standing(20, 4)).iloc[::-1]
    sample = rows("linf", standing(10, 4))
    assert batch_sign(pd.concat([whole, sample, sample.assign(threat="l2")])) == Sign(BATCH, 0.0)


def test_answers_that_depend_on_the_batch_are_counted_once_an_image():
    """i0 is right in one pass only, under both threats; i5 is another wrong class under one of them."""
    whole = rows("none", standing(20, 6))
    first = rows("linf", [True, *standing(9, 5)])
    wrong = np.where(first["clean"], "a", "b").astype(object)
    wrong[5] = "c"
    second = rows("l2", first["clean"], predicted=wrong)
    sign = batch_sign(pd.concat([whole, first, second]))
    assert sign.value == pytest.approx(0.2)
    assert sign.raised


def test_random_models_may_answer_differently():
    table = pd.concat([rows("none", [True, True]), rows("linf", [True, False])])
    assert value(outcome_signs(table, ATTACKS, random=False), BATCH) == 0.5
    assert [sign.name for sign in outcome_signs(table, ATTACKS, random=True)] == [BLACK_BOX_ONLY]


@pytest.mark.parametrize(
    ("earlier", "later"), [("clean", "apgd-ce"), ("apgd-ce", "square"), ("square", "robust"), ("clean", "robust")]
)
def test_no_image_stands_again(earlier, later):
    """What survives was right as it was, and survived the attacks before."""
    table = pd.concat([rows("none", [True] * 4), rows("linf", [True] * 4)], ignore_index=True)
    outcome_signs(table, ATTACKS, random=False)
    chain = ["clean", *ATTACKS, "robust"]
    table.loc[6, chain[chain.index(earlier) : chain.index(later)]] = False
    with pytest.raises(ValueError, match=rf"i2 \(linf\) counts as {later}"):
        outcome_signs(table, ATTACKS, random=False)
