"""Plans: even, shuffled, repeatable; tiers never meet; references have the same content."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import AmalgamError
from ops.generate.preference.assignment import next_comparison, workload
from ops.generate.preference.sources import open_sources, prompts_of
from ops.generate.preference.study import _spread, build_plan, check_images, read_plan, sides, write_plan
from ops.generate.preference.tiers import pool, wording
from ops.generate.preference.votes import Vote


def voted(plan, comparison, rater, choice="A"):
    return Vote(plan.study_id, plan.aspect, comparison.name[0], "AB", rater, comparison.prompt_id, choice)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(2, 30), st.integers(1, 100))
def test_ratings_are_spread_evenly_over_prompts_and_pairs(pairs, prompts, ratings):
    plan = _spread([("a", f"b{n}") for n in range(pairs)], [str(n) for n in range(prompts)], ratings)
    of_pair, of_prompt = Counter(), Counter({str(n): 0 for n in range(prompts)})
    for comparison in plan:
        of_pair[comparison.pair] += comparison.wanted
        of_prompt[comparison.prompt_id] += comparison.wanted
        assert abs(comparison.wanted - ratings / prompts) < 1
    assert set(of_pair.values()) == {ratings}
    assert max(of_prompt.values()) - min(of_prompt.values()) <= 1
    assert len({c.name for c in plan}) == len(plan)


def test_a_plan_depends_on_seed_and_images_only(config, sources, make_images):
    plan = build_plan(config, sources, "overall", "development")
    again = build_plan(config, dict(reversed(sources.items())), "overall", "development")
    assert again == plan
    other_seed = build_plan(config.model_copy(update={"seed": 1}), sources, "overall", "development")
    assert [p.prompt_id for p in other_seed.prompts] != [p.prompt_id for p in plan.prompts]
    changed = {**sources, "beta": make_images("beta", seed=7)}
    other_images = build_plan(config, changed, "overall", "development")
    assert replace(other_images, study_id="") == replace(plan, study_id="")
    assert other_images.study_id != plan.study_id
    check_images(plan, sources)
    with pytest.raises(AmalgamError, match="not those of study"):
        check_images(plan, changed)


def test_a_plan_is_the_same_after_writing_and_reading(config, sources, tmp_path):
    plan = build_plan(config, sources, "appeal", "assurance")
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "other.json").write_text('{"prompts": 3}')
    with pytest.raises(AmalgamError, match="no plan of a study"):
        read_plan(tmp_path / "other.json")


def test_no_wording_is_asked_twice(config, make_images):
    doubled = {name: make_images(name, wordings=3) for name in ("alpha", "beta")}
    plan = build_plan(config.model_copy(update={"prompts": 60}), doubled, "overall", "development")
    captions = [wording(p.caption) for p in plan.prompts]
    assert len(captions) == len(set(captions)) < 20


def test_both_sides_equally_often_and_otherwise_for_each_rater(config, sources):
    plan = build_plan(config, sources, "overall", "development")
    seen = []
    for rater in ("ada", "bob", "cleo", "dan"):
        drawn = sides(plan, rater)
        assert drawn == sides(plan, rater)
        for pair in {c.pair for c in plan.comparisons}:
            mine = [s for s, c in zip(drawn, plan.comparisons, strict=True) if c.pair == pair]
            assert abs(2 * mine.count("AB") - len(mine)) <= 1
        seen.append(tuple(drawn))
    assert len(set(seen)) == 4
    agree = np.mean([a == b for a, b in zip(seen[0], seen[1], strict=True)])
    assert 0.2 < agree < 0.8


def test_tiers_never_meet_whatever_the_seed(config, sources):
    development, assurance = [], []
    for seed in range(4):
        each = config.model_copy(update={"seed": seed, "prompts": 60})
        development.append(build_plan(each, sources, "overall", "development"))
        assurance.append(build_plan(each, sources, "overall", "assurance", earlier=development))
    for field in ("caption", "concept"):
        of = [{getattr(p, field) for plan in plans for p in plan.prompts} for plans in (development, assurance)]
        assert of[0]
        assert of[1]
        assert not of[0] & of[1]


@pytest.mark.parametrize("tier", ["development", "assurance"])
def test_a_study_refuses_prompts_that_the_other_tier_used(config, sources, tier):
    other = "assurance" if tier == "development" else "development"
    plan = build_plan(config, sources, "overall", tier)
    spent = replace(plan, tier=other, study_id="spent")
    with pytest.raises(AmalgamError, match=r"has 20 prompts of the .* study spent"):
        build_plan(config, sources, "overall", tier, earlier=[spent])
    build_plan(config, sources, "overall", tier, earlier=[plan])  # its own tier may have used them
    shouted = replace(spent, prompts=tuple(replace(p, caption=f" {p.caption.upper()}  ") for p in plan.prompts))
    with pytest.raises(AmalgamError, match="20 prompts"):
        build_plan(config, sources, "overall", tier, earlier=[shouted])
    reworded = replace(spent, prompts=tuple(replace(p, caption=f"other {p.prompt_id}") for p in plan.prompts))
    with pytest.raises(AmalgamError, match="concepts"):
        build_plan(config, sources, "overall", tier, earlier=[reworded])


def test_captions_of_development_are_never_kept_back(config, sources):
    table = prompts_of(sources).copy()
    table["concept"] = [f"own {n}" for n in range(len(table))]
    table["caption"] = [f"class {n % 3}" for n in range(len(table))]
    with pytest.raises(AmalgamError, match="no prompt is left for the tier assurance"):
        pool(table, "assurance", "concept", 0.4)
    parts = [set(pool(table, tier, "caption", 0.4)["caption"]) for tier in ("development", "assurance")]
    assert sorted(parts[0] | parts[1]) == ["class 0", "class 1", "class 2"]
    assert not parts[0] & parts[1]


def test_references_have_the_same_content(config, sources, make_images):
    real = make_images("real", rows=45)
    real.table["caption"] = "worded otherwise"
    plan = build_plan(config, sources, "detailed", "development", real)
    rows = real.table.set_index("id")
    table = sources["alpha"].table.set_index("key")
    for prompt in plan.prompts:
        for column in ("name", "label", "domain", "attributes"):
            assert rows.loc[prompt.reference, column] == table.loc[prompt.prompt_id, column]
    assert all(int(p.prompt_id) < 45 for p in plan.prompts)
    with pytest.raises(AmalgamError, match="needs real images"):
        build_plan(config, sources, "detailed", "development")
    assert {p.reference for p in build_plan(config, sources, "overall", "development", real).prompts} == {""}


def test_pairs_can_be_given(config, sources):
    plan = build_plan(config, sources, "overall", "development", pairs=[("gamma", "alpha"), ("alpha", "gamma")])
    assert {c.pair for c in plan.comparisons} == {("alpha", "gamma")}
    for wrong in (("alpha", "alpha"), ("alpha", "delta")):
        with pytest.raises(AmalgamError, match="no pair of two sources"):
            build_plan(config, sources, "overall", "development", pairs=[wrong])


@pytest.mark.parametrize("column", ["key", "caption", "label", "domain", "name", "concept", "attributes"])
def test_sources_of_other_plans_are_refused(sources, make_images, column):
    other = make_images("beta")
    other.table.at[17, column] = {"tone": "9"} if column == "attributes" else "other"
    with pytest.raises(AmalgamError, match=f"differ in {column} at image 00000017"):
        prompts_of({"alpha": sources["alpha"], "beta": other})


def test_sources_that_cannot_be_compared_are_refused(sources, make_images):
    alpha = sources["alpha"]
    with pytest.raises(AmalgamError, match="two generators or more"):
        prompts_of({"alpha": alpha})
    with pytest.raises(AmalgamError, match="no name for a generator"):
        prompts_of({"alpha": alpha, "b vs c": alpha})
    with pytest.raises(AmalgamError, match="alpha has 60 images, beta has 59"):
        prompts_of({"alpha": alpha, "beta": make_images("beta", rows=59)})
    double = make_images("beta")
    double.table.loc[3, "key"] = double.table.loc[2, "key"]
    with pytest.raises(AmalgamError, match="two images with one key"):
        prompts_of({"beta": double, "alpha": double})


def test_sources_are_opened_from_shards(shard_maker, tmp_path):
    folders = {name: shard_maker(tmp_path / name, {"train": 12}, seed) for seed, name in enumerate(("z", "a"))}
    opened = open_sources(folders, tmp_path / "cache")
    assert list(opened) == ["a", "z"]
    assert opened["a"].images.shape == (12, 32, 32, 3)
    shard_maker(tmp_path / "b", {"train": 10})
    with pytest.raises(AmalgamError, match="12 images"):
        open_sources({"a": folders["a"], "b": tmp_path / "b"}, tmp_path / "cache")


def test_raters_who_stop_midway_leave_an_even_spread(config, sources):
    plan = build_plan(config, sources, "overall", "development")
    votes = []
    for rater in ("ada", "bob", "cleo", "dan", "eve", "judge:x"):
        for _ in range(17):
            comparison = next_comparison(plan, votes, rater, 100)
            if rater != "judge:x":
                assert comparison == next_comparison(plan, votes, rater, 100), "the same until they vote"
            votes.append(voted(plan, comparison, rater))
    people = Counter(v.comparison for v in votes if not v.rater_id.startswith("judge:"))
    lacking = [c.wanted - people[c.name] for c in plan.comparisons]
    assert max(lacking) - min(lacking) <= 1


def test_a_rater_sees_each_comparison_once_and_no_more_than_asked(config, sources):
    plan = build_plan(config, sources, "overall", "development")
    votes = []
    while (comparison := next_comparison(plan, votes, "ada", 1000)) is not None:
        votes.append(voted(plan, comparison, "ada"))
    assert {v.comparison for v in votes} == {c.name for c in plan.comparisons}
    assert len(votes) == len(plan.comparisons) == workload(plan, 1000)
    assert next_comparison(plan, votes[:7], "ada", 7) is None
    orders = [next_comparison(plan, [], rater, 9).name for rater in ("ada", "bob", "cleo", "dan", "eve")]
    assert len(set(orders)) > 1
