"""From folders of images to measurement rows, votes and pictures."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.measurements import read_measurements, write_measurements
from ops.files import content_hash
from ops.generate.preference.comparing import compare_generators
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.exports import read_votes
from ops.generate.preference.judge import Judge, judged
from ops.generate.preference.measure import panels, preference_rows, rated
from ops.generate.preference.pictures import draw_ratings, draw_win_rates
from ops.generate.preference.study import build_plan, read_plan, sides
from ops.generate.preference.votes import Vote
from ops.generate.preference.winning import win_rates


def people(plan, judge_votes, count):
    """Return votes of people who see things as a judge does, but half of the time."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        for vote, side in zip(judge_votes, sides(plan, f"p{number}"), strict=True):
            choice = vote.choice if rng.random() < 0.5 else rng.choice(["A", "B", "tie"])
            found.append(Vote(plan.study_id, plan.aspect, vote.pair, side, f"p{number}", vote.prompt_id, str(choice)))
    return found


@pytest.fixture
def study(config, sources):
    plan = build_plan(config, sources, "overall", "development")
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(shift, 1, 60) for name, shift in (("alpha", 1.0), ("beta", 0.0), ("gamma", -1.0))}
    votes = [v for name in ("x", "y") for v in judged(plan, sources, Judge(name, scores, 0.2))]
    return plan, votes + people(plan, votes[: len(plan.comparisons)], 3)


def test_people_and_each_judge_are_rated_apart(study):
    plan, votes = study
    found = panels(votes)
    assert set(found) == {"people", "judge:x", "judge:y"}
    assert set(found["people"]["rater_id"]) == {"p0", "p1", "p2"}
    assert {len(found["judge:x"]), len(found["judge:y"])} == {len(plan.comparisons)}


def test_rows_hold_ratings_and_win_rates(config, study, tmp_path):
    plan, votes = study
    part = panels(votes)["people"]
    ratings, wins = rated(config, plan, part)
    rows = preference_rows(plan, "people", "shapes", ratings, wins)
    write_measurements(tmp_path / "measurements.parquet", rows)
    table = read_measurements(tmp_path)
    assert set(table["metric"]) == {"Elo rating (overall preference, people)", "win rate (overall preference, people)"}
    assert set(table["split"]) == {"development"}
    assert set(table["dataset"]) == {"shapes"}
    elo = table[table["group"] == "all"].set_index("model")
    assert elo["value"].mean() == pytest.approx(1000)
    assert elo["n"].sum() == 2 * len(part)
    rates = table[table["group"] != "all"].set_index(["model", "group"])
    assert len(rates) == 6
    mine = part[part["pair"] == "alpha vs beta"]["choice"].map({"A": 1.0, "tie": 0.5, "B": 0.0})
    line = rates.loc[("alpha", "against=beta")]
    assert (line["value"], line["n"]) == (pytest.approx(mine.mean()), len(mine))
    assert line["value"] + rates.loc[("beta", "against=alpha"), "value"] == pytest.approx(1)
    assert elo["value"].idxmax() == "alpha"


@pytest.fixture
def folders(shard_maker, tmp_path):
    made = {name: shard_maker(tmp_path / name, {"train": 40}, seed, "made") for seed, name in enumerate(("one", "two"))}
    for folder in made.values():
        _with_captions(folder)
    return made


def _with_captions(folder):
    """Give each image of a shard folder a caption and a concept of its own."""
    table = pq.read_table(folder / "manifest.parquet")
    numbers = range(len(table))
    for column, text in (("caption", "a shape number {}"), ("name", "shape {}"), ("concept", "concept {}")):
        table = table.set_column(table.schema.get_field_index(column), column, [[text.format(n) for n in numbers]])
    pq.write_table(table, folder / "manifest.parquet")


def test_a_judged_study_of_two_folders(folders, tmp_path, recorder):
    config = PreferenceConfig(prompts=15, ratings=25, replicates=200, tie_margin=0.1)
    real = open_images(folders["one"], "train", tmp_path / "cache")
    scores = {"one": np.linspace(0, 1, 40), "two": np.linspace(0, 1, 40)[::-1] - 0.4}
    judges = {aspect: [Judge("scorer", scores, config.tie_margin)] for aspect in ("alignment", "detailed")}

    def make(out, given=None):
        return compare_generators(config, folders, judges, out, tmp_path / "cache", recorder, real, given)

    summary = make(tmp_path / "out")
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    expected = {f"{kind}/{a}.{end}" for kind, end in (("studies", "json"), ("votes", "parquet")) for a in judges}
    expected |= {f"pictures/{a}-judge-scorer-{what}.png" for a in judges for what in ("ratings", "wins")}
    assert names == expected | {"measurements.parquet"}
    assert summary.figures["generators"] == 2
    assert summary.figures["prompts (alignment)"] == 15
    assert recorder.calls == 2
    plan = read_plan(tmp_path / "out" / "studies" / "alignment.json")
    votes = read_votes(tmp_path / "out" / "votes" / "alignment.parquet", plan)
    assert len(votes) == 15
    table = read_measurements(tmp_path / "out")
    assert set(table["dataset"]) == {"shapes"}
    value = table.set_index(["model", "metric", "group"])["value"]
    won = value["one", "win rate (prompt-image alignment, judge:scorer)", "against=two"]
    assert won == pytest.approx(np.mean([{"A": 1.0, "B": 0.0, "tie": 0.5}[v.choice] for v in votes]))
    make(tmp_path / "again")
    assert content_hash(tmp_path / "again") == content_hash(tmp_path / "out"), "same seed, same bytes"
    with_people = make(tmp_path / "people", {"alignment": people(plan, votes, 2)})
    assert "Elo rating (prompt-image alignment, people)" in with_people.tables


def test_a_study_refuses_filtered_images(folders, tmp_path, recorder, shard_maker):
    shard_maker(tmp_path / "kept", {"train": 30})
    with pytest.raises(AmalgamError, match="before any filter"):
        compare_generators(
            PreferenceConfig(),
            {**folders, "kept": tmp_path / "kept"},
            {},
            tmp_path / "out",
            tmp_path / "cache",
            recorder,
        )


def test_pictures_are_drawn_for_pairs_that_never_met_too(config, study, tmp_path):
    plan, votes = study
    frame = panels(votes)["judge:x"]
    some = frame[frame["pair"] != "alpha vs gamma"]
    ratings, _ = rated(config, plan, some)
    draw_ratings(ratings, tmp_path / "ratings.png", "ratings")
    draw_win_rates(win_rates(some, plan.sources), tmp_path / "wins.png", "wins")
    for name in ("ratings", "wins"):
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"))
        assert pixels.std() > 5
