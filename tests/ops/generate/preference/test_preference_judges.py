"""Judges in the place of people, metrics against votes, and generators that join later."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from ops.errors import AmalgamError
from ops.generate.preference.adaptive import first_pairs, neighbour_pairs
from ops.generate.preference.agreement import agreement_share, agreements, metric_verdict, vote_verdict
from ops.generate.preference.exports import as_frame, merged
from ops.generate.preference.judge import Judge, judged
from ops.generate.preference.ratings import Ratings, rate
from ops.generate.preference.scoring import asked_label_judge, nearest_real_judge
from ops.generate.preference.study import build_plan, sides
from ops.generate.preference.votes import VoteStore, checker
from ops.generate.preference.winning import win_rates


@pytest.fixture
def plan(config, sources):
    return build_plan(config, sources, "alignment", "development")


def scored(sources, strengths, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(strengths[name], 1, len(images)) for name, images in sources.items()}


def test_a_judge_votes_for_the_higher_score_whatever_the_side(plan, sources, tmp_path):
    scores = scored(sources, {"alpha": 0.5, "beta": 0.0, "gamma": -0.5})
    judge = Judge("oracle", scores, margin=0.3)
    votes = judged(plan, sources, judge)
    assert len(votes) == len(plan.comparisons)
    expected = {"A": 0, "B": 0, "tie": 0}
    for vote, comparison, side in zip(votes, plan.comparisons, sides(plan, "judge:oracle"), strict=True):
        row = int(comparison.prompt_id)
        gap = scores[comparison.pair[0]][row] - scores[comparison.pair[1]][row]
        assert vote.choice == ("tie" if -0.3 <= gap <= 0.3 else "A" if gap > 0 else "B")
        assert (vote.comparison, vote.side, vote.rater_id) == (comparison.name, side, "judge:oracle")
        expected[vote.choice] += 1
    assert min(expected.values()) > 3
    with VoteStore(plan, tmp_path / "v.jsonl") as store:
        store.extend(votes)  # the same store, the same form
        assert store.of("judge:oracle") == votes
    for vote in votes:
        checker(plan)(vote)


def test_a_judges_preference_is_that_of_its_scores(plan, sources):
    votes = judged(plan, sources, Judge("oracle", scored(sources, {"alpha": 0, "beta": 3, "gamma": -3}), 0.0))
    found = rate(as_frame(votes), plan.sources, 1.0, 200, 0)
    assert [plan.sources[i] for i in np.argsort(-found.ratings)] == ["beta", "alpha", "gamma"]
    assert found.counted == "prompts only"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("beta"), "no scores of beta"),
        (lambda s: s.update(beta=s["beta"][:-1]), "one number for each of 60 images"),
        (lambda s: s["beta"].__setitem__(0, np.nan), "one number for each of 60 images"),
        (lambda s: s.update(beta=np.stack([s["beta"]] * 2)), "one number for each of 60 images"),
    ],
)
def test_scores_that_do_not_fit_are_refused(plan, sources, change, message):
    scores = scored(sources, {"alpha": 0, "beta": 0, "gamma": 0})
    change(scores)
    with pytest.raises(AmalgamError, match=message):
        judged(plan, sources, Judge("oracle", scores, 0.0))


def test_a_judge_needs_a_name_and_a_margin(plan, sources):
    scores = scored(sources, {"alpha": 0, "beta": 0, "gamma": 0})
    with pytest.raises(AmalgamError, match="margin"):
        judged(plan, sources, Judge("oracle", scores, -0.1))
    with pytest.raises(AmalgamError, match="no name for a rater"):
        judged(plan, sources, Judge("judge:x", scores, 0.1))


def test_a_classifier_prefers_what_shows_more_of_the_asked_label(config, plan, sources):
    rng = np.random.default_rng(5)
    probabilities = {name: rng.dirichlet([1, 1], len(images)) for name, images in sources.items()}
    judge = asked_label_judge(config, "classifier", sources, probabilities)
    assert judge.margin == config.tie_margin
    for vote in judged(plan, sources, judge):
        row = int(vote.prompt_id)
        first, second = (probabilities[name][row, row % 2] for name in vote.pair.split(" vs "))
        expected = "tie" if abs(first - second) <= config.tie_margin else "A" if first > second else "B"
        assert vote.choice == expected
    for wrong in ({}, {**probabilities, "beta": probabilities["beta"][:, :1]}):
        with pytest.raises(AmalgamError, match="have the shape"):
            asked_label_judge(config, "classifier", sources, wrong)


def test_nearness_to_real_images_is_that_of_the_nearest():
    rng = np.random.default_rng(6)
    real, features = rng.normal(size=(50, 4)), {name: rng.normal(size=(20, 4)) for name in ("alpha", "beta")}
    judge = nearest_real_judge("near", features, real, 0.1)
    for name, part in features.items():
        distance = np.linalg.norm(part[:, None] - real[None], axis=2).min(axis=1)
        np.testing.assert_allclose(judge.scores[name], -distance, atol=1e-6)
    for wrong in (real[:0], real[:, :3]):
        with pytest.raises(AmalgamError, match="do not match"):
            nearest_real_judge("near", features, wrong, 0.1)


@pytest.mark.parametrize(("shift", "expected"), [(0.6, "win"), (-0.6, "loss"), (0.0, "tie")])
def test_a_metric_says_what_its_one_sided_tests_say(shift, expected):
    rng = np.random.default_rng(3)
    second = rng.normal(size=80)
    first = second + shift + rng.normal(size=80) * 0.8
    assert metric_verdict(first, second) == expected
    directed = [side for side in ("greater", "less") if wilcoxon(first, second, alternative=side).pvalue < 0.025]
    assert directed == {"win": ["greater"], "loss": ["less"], "tie": []}[expected]
    assert metric_verdict(second, second) == "tie"


def test_agreement_with_votes_is_the_share_of_equal_verdicts(simulate):
    strengths = np.array([1250.0, 1000.0, 995.0, 700.0])
    names = [f"m{n}" for n in range(4)]
    wins = win_rates(simulate(np.random.default_rng(0), strengths, 60, raters=6), names)
    rng = np.random.default_rng(1)
    good = {name: rng.normal(s / 100, 1, 60) for name, s in zip(names, strengths, strict=True)}
    found = agreements(wins, good)
    assert [pair.pair for pair in found] == list(combinations(names, 2))
    assert [pair.votes for pair in found] == ["win", "win", "win", "tie", "win", "win"]
    assert agreement_share(found)[0] == 1.0
    reversed_scores = {name: -scores for name, scores in good.items()}
    turned = agreements(wins, reversed_scores)
    assert agreement_share(turned)[0] == pytest.approx(1 / 6), "only the tie stays"
    assert np.isnan(agreement_share([])[0])
    with pytest.raises(AmalgamError, match="no scores of m0"):
        agreements(wins, {name: good[name] for name in names[1:]})
    with pytest.raises(AmalgamError, match="different prompts"):
        agreements(wins, good | {"m2": good["m2"][:-1]})


def test_a_win_rate_is_a_tie_where_its_interval_holds_one_half():
    assert [vote_verdict(*ends) for ends in ((0.51, 0.6), (0.4, 0.49), (0.4, 0.6), (0.5, 0.6))] == [
        "win",
        "loss",
        "tie",
        "tie",
    ]


def ratings_of(scale):
    numbers = np.array(list(scale.values()), float)
    none = np.zeros((len(scale),) * 2, bool)
    return Ratings(tuple(scale), numbers, numbers, numbers, none, np.ones(len(scale), int), "prompts only")


@pytest.mark.parametrize("place", [0, 1, 3, 5, 9, 11])
def test_neighbours_are_four_above_and_four_below(place):
    scale = {f"g{n}": 1000.0 - 10 * n for n in np.random.default_rng(place).permutation(11)}
    scale["new"] = 1005.0 - 10 * place
    found = neighbour_pairs(ratings_of(scale), "new")
    ranked = [f"g{n}" for n in range(11)]
    expected = [name for name in ranked[max(place - 4, 0) : place + 4] if name != "g0"]
    assert found == [("new", name) for name in expected]
    old = {name: value for name, value in scale.items() if name != "new"}
    assert first_pairs(ratings_of(old), "new") == [("new", "g0")]
    with pytest.raises(AmalgamError, match="rated already"):
        first_pairs(ratings_of(scale), "new")
    with pytest.raises(AmalgamError, match="not rated yet"):
        neighbour_pairs(ratings_of(old), "new")


def test_a_generator_that_joins_later_finds_its_place(make_images, config):
    """With the best first and then its neighbours only, the newcomer's rating is that of a full comparison."""
    many = {f"g{n:02d}": make_images(f"g{n:02d}", rows=200) for n in range(10)}
    every = {**many, "new": make_images("new", rows=200)}
    strength = {name: -0.25 * number for number, name in enumerate(many)} | {"new": -0.6}
    judge = Judge("oracle", scored(every, strength), 0.0)
    wide = config.model_copy(update={"prompts": 100, "ratings": 100})

    def voted(sources, pairs=None):
        return as_frame(
            judged(plan := build_plan(wide, sources, "overall", "development", pairs=pairs), sources, judge)
        ), plan

    def rating(votes):
        return rate(votes, sorted(set(" vs ".join(votes["pair"]).split(" vs "))), 1.0, 200, 0)

    old, _ = voted(many)
    first, plan = voted(every, first_pairs(rating(old), "new"))
    assert {c.pair for c in plan.comparisons} == {("g00", "new")}
    pairs = neighbour_pairs(rating(merged([old, first])), "new")
    assert 4 <= len(pairs) <= 8
    second, _ = voted(every, pairs)
    found, full = rating(merged([old, first, second])), rating(voted(every)[0])
    place, wanted = found.sources.index("new"), full.sources.index("new")
    assert found.low[place] <= full.ratings[wanted] <= found.high[place]
    assert found.votes[place] < full.votes[wanted]
