"""Ratings against closed forms, other libraries, published figures, and raters whose minds are known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import log_expit
from sklearn.linear_model import LogisticRegression

from ops.errors import AmalgamError
from ops.generate.preference.clusters import quantile
from ops.generate.preference.ratings import rank_table, rate
from ops.generate.preference.strength import ELO, fit, win_chance, with_prior
from ops.generate.preference.winning import share, win_rates

TRUE = np.array([1120.0, 1040.0, 960.0, 880.0])
NAMES = [f"m{n}" for n in range(len(TRUE))]


def votes_of(pair, choices, rater="r"):
    prompts = [f"p{n}" for n in range(len(choices))]
    return pd.DataFrame({"pair": pair, "choice": list(choices), "rater_id": rater, "prompt_id": prompts})


def expected_ratings(strengths, spread, ties):
    """Return win rates and their Bradley-Terry ratings when raters and prompts shift strengths by normal draws."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    odds = (strengths[:, None] - strengths[None]) / ELO
    chance = 1 / (1 + np.exp(-(odds[..., None] + 2 * spread * nodes)))  # four draws of variance spread^2 add up
    wins = (1 - ties) * (chance * weights).sum(axis=-1) / weights.sum() + ties / 2
    return wins, 1000 + ELO * fit((wins * (1 - np.eye(len(strengths))))[None])[0]


def test_two_models_have_a_closed_form():
    """With prior 1, R_a - R_b = 400 log10((wins + 1/2) / (losses + 1/2)); a tie is half of both."""
    found = rate(votes_of("a vs b", "A" * 30 + "B" * 9), ["a", "b"], 1.0, 200, 0)
    assert found.ratings[0] - found.ratings[1] == pytest.approx(400 * np.log10(30.5 / 9.5))
    assert found.ratings.mean() == pytest.approx(1000)
    tied = rate(votes_of("a vs b", ["A"] * 30 + ["B"] * 9 + ["tie"] * 6), ["a", "b"], 2.0, 200, 0)
    assert tied.ratings[0] - tied.ratings[1] == pytest.approx(400 * np.log10(34 / 13))
    assert tied.votes.tolist() == [45, 45]


@settings(max_examples=40, deadline=None)
@given(arrays(np.float64, (3, 4, 4), elements=st.floats(0, 200, width=32)), st.sampled_from([0.01, 1.0, 5.0]))
def test_strengths_maximise_the_likelihood(wins, prior):
    wins = with_prior(wins * (1 - np.eye(4)), prior)
    found = fit(wins)
    for table, strengths in zip(wins, found, strict=True):

        def loss(free, table=table):
            t = np.append(free, -free.sum())
            return -(table * log_expit(t[:, None] - t[None])).sum()

        best = minimize(loss, np.zeros(3), method="BFGS")
        assert strengths.sum() == pytest.approx(0, abs=1e-9)
        assert loss(strengths[:3]) <= best.fun + 1e-6 * (1 + abs(best.fun))


def test_strengths_are_those_of_a_logistic_regression(simulate):
    votes = simulate(np.random.default_rng(0), TRUE, 50, raters=2)
    first = votes["pair"].str.slice(1, 2).astype(int).to_numpy()
    second = votes["pair"].str.slice(-1).astype(int).to_numpy()
    design = np.eye(4)[first] - np.eye(4)[second]
    sides = np.concatenate([design, -design])  # both orders, as the regression wants two classes
    won = np.concatenate([votes["choice"] == "A", votes["choice"] == "B"])
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(sides, won)
    found = rate(votes, NAMES, 1e-9, 200, 0)
    expected = regression.coef_[0] - regression.coef_[0].mean()
    np.testing.assert_allclose((found.ratings - 1000) / ELO, expected, atol=1e-4)


def test_the_scale_is_the_published_one():
    """Elo and win rates of Imagen 3 on GenAI-Bench (2408.07009): a joint fit gives its pairs back to two points."""
    elo = np.array([1098, 1047, 1028, 1027, 941, 860])
    printed = np.array([57.8, 60.0, 58.0, 69.9, 77.7])
    assert np.abs(100 * win_chance(elo)[0, 1:] - printed).max() < 2.5
    assert win_chance(np.array([1114.0, 1000.0]))[0, 1] == pytest.approx(0.658, abs=5e-4)
    assert win_chance(np.array([1400.0, 1000.0]))[0, 1] == pytest.approx(10 / 11)


def test_names_and_order_do_not_matter(simulate):
    votes = simulate(np.random.default_rng(1), TRUE, 40, raters=3, ties=0.2)
    found = rate(votes, NAMES, 1.0, 1000, 0)
    renamed = votes.assign(
        pair=votes["pair"].str.replace("m", "x").str.split(" vs ").map(lambda p: f"{p[1]} vs {p[0]}"),
        choice=votes["choice"].map({"A": "B", "B": "A", "tie": "tie"}),
    ).sample(frac=1, random_state=0)
    other = rate(renamed, ["x2", "x0", "x3", "x1"], 1.0, 1000, 0)
    np.testing.assert_allclose(other.ratings, found.ratings[[2, 0, 3, 1]])
    np.testing.assert_allclose(other.high - other.low, (found.high - found.low)[[2, 0, 3, 1]], rtol=0.1)
    wins, turned = win_rates(votes, NAMES), win_rates(renamed, ["x2", "x0", "x3", "x1"])
    order = np.ix_([2, 0, 3, 1], [2, 0, 3, 1])
    np.testing.assert_allclose(turned.low, wins.low[order])
    assert (turned.ties == wins.ties[order]).all()


def test_who_was_never_beaten_is_finite_with_a_wide_interval():
    found = rate(votes_of("a vs b", ["A"] * 50), ["a", "b"], 1.0, 2000, 0)
    assert found.ratings[0] - found.ratings[1] == pytest.approx(400 * np.log10(50.5 / 0.5))
    assert 300 < found.high[0] - found.low[0] < 1500
    close = rate(votes_of("a vs b", ["A", "B"] * 25), ["a", "b"], 1.0, 2000, 0)
    assert found.high[0] - found.low[0] > 3 * (close.high[0] - close.low[0])


def test_who_never_met_is_joined_by_the_prior_only():
    votes = pd.concat([votes_of("a vs b", ["A", "B"] * 10), votes_of("c vs d", ["A"] * 15 + ["B"] * 5)])
    found = rate(votes, ["a", "b", "c", "d"], 1.0, 500, 0)
    assert np.isfinite(found.ratings).all()
    assert found.ratings[0] == pytest.approx(found.ratings[1])
    assert found.ratings[2] > 1000 > found.ratings[3]
    assert not found.better[0].any()
    assert not found.better[:, 0].any()
    with pytest.raises(ValueError, match="never"):
        fit(np.array([[[0.0, 5.0], [0.0, 0.0]]]))


@pytest.mark.parametrize(("raters", "each", "spread", "ties"), [(1, 200, 0.0, 0.2), (12, 40, 0.5, 0.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(simulate, raters, each, spread, ties):
    wins, truth = expected_ratings(TRUE, spread, ties)
    held, shares = [], []
    for seed in range(80):
        votes = simulate(np.random.default_rng(seed), TRUE, 60 if raters == 1 else 40, raters, each, spread, ties)
        found, of_pairs = rate(votes, NAMES, 1.0, 150, seed), win_rates(votes, NAMES)
        held.append((found.low <= truth) & (truth <= found.high))
        shares.append(((of_pairs.low <= wins) & (wins <= of_pairs.high))[np.triu_indices(4, 1)])
    assert found.counted == ("prompts only" if raters == 1 else "raters and prompts")
    assert 0.92 <= np.mean(held) <= 0.99
    assert 0.92 <= np.mean(shares) <= 0.99


def test_intervals_that_forget_raters_hold_it_too_rarely(simulate):
    """Votes of one rater are alike: to call them all one person's makes intervals too narrow."""
    _, truth = expected_ratings(TRUE, 1.0, 0.0)
    held, forgetful = [], []
    for seed in range(30):
        votes = simulate(np.random.default_rng(seed), TRUE, 40, raters=8, each=100, spread=1.0)
        for found, data in ((held, votes), (forgetful, votes.assign(rater_id="r", prompt_id=range(len(votes))))):
            rated = rate(data, NAMES, 1.0, 150, seed)
            found.append((rated.low <= truth) & (truth <= rated.high))
    assert np.mean(forgetful) < 0.8
    assert np.mean(held) > 0.9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=60))
def test_win_rate_intervals_are_wilsons(scores):
    """Without clusters the ends x solve |p - x| = t sqrt(x (1 - x) / n), n = p (1 - p) (N - 1) / sample variance."""
    score = np.array(scores)
    p, low, high = share(score, votes_of("a vs b", ["A"] * len(scores)))
    assert p == pytest.approx(score.mean())
    variance = score.var(ddof=1) / len(score)
    n = p * (1 - p) / variance if variance > 0 else len(score)
    for x in (low, high):
        at_p = abs(x - p) < 1e-12  # p is 0 or 1, and so is the end
        assert at_p or abs(p - x) == pytest.approx(quantile(len(score) - 1) * (x * (1 - x) / n) ** 0.5)
    assert 0 <= low <= p <= high <= 1
    assert high - low > 0


def test_win_rates_count_each_pair_on_its_own():
    votes = pd.concat([votes_of("a vs b", ["A", "A", "tie", "B"]), votes_of("c vs a", ["A"])], ignore_index=True)
    found = win_rates(votes, ["a", "b", "c"])
    assert found.rate[0, 1] == pytest.approx(2.5 / 4)
    assert found.rate[1, 0] == pytest.approx(1.5 / 4)
    assert found.rate[2, 0] == 1.0
    assert found.low[2, 0] < 0.5, "one vote shows nothing"
    assert np.isnan(found.rate[1, 2])
    assert found.votes.tolist() == [[0, 4, 1], [4, 0, 0], [1, 0, 0]]
    assert found.ties[0, 1] == found.ties[1, 0] == 1


def test_the_rank_table_says_which_ranks_are_possible():
    votes = [
        votes_of(f"m{i} vs m{j}", ["A"] * a + ["B"] * b)
        for i, j, a, b in [(0, 1, 90, 10), (0, 2, 90, 10), (1, 2, 51, 49)]
    ]
    table = rank_table(rate(pd.concat(votes), ["m2", "m1", "m0"], 1.0, 500, 0))
    assert [line["generator"] for line in table] == ["m0", "m1", "m2"]
    assert [(line["from"], line["to"]) for line in table] == [(1, 1), (2, 3), (2, 3)]
    assert [line["votes"] for line in table] == [200, 200, 200]


def test_what_cannot_be_rated_is_said():
    votes = votes_of("a vs b", ["A"])
    with pytest.raises(AmalgamError, match="no votes yet"):
        rate(votes.iloc[:0], ["a", "b"], 1.0, 100, 0)
    with pytest.raises(AmalgamError, match="unknown generators: b"):
        rate(votes, ["a", "c"], 1.0, 100, 0)
    with pytest.raises(AmalgamError, match="two generators or more"):
        rate(votes, ["a"], 1.0, 100, 0)


def test_equal_votes_and_seeds_are_equal_numbers(simulate):
    votes = simulate(np.random.default_rng(2), TRUE, 30, raters=3)
    first, again, other = (rate(votes, NAMES, 1.0, 300, seed) for seed in (0, 0, 1))
    assert (first.low == again.low).all()
    assert (first.low != other.low).any()
    assert (first.ratings == other.ratings).all()
