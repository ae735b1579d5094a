"""The whole report on drawn shapes: what is good, wrong, copied and noise must come out as that."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ops.errors import AmalgamError
from ops.evaluate.measurements import write_measurements
from ops.generate.quality.alignment import alignment_rows
from ops.generate.quality.checks import prepare
from ops.generate.quality.distances import distance_rows
from ops.generate.quality.encoders import colour_space, make_spaces
from ops.generate.quality.groups import outcome_rows
from ops.generate.quality.measure import measure_quality, notes_on
from ops.generate.quality.pictures import draw_quality, samples
from ops.generate.quality.summary import quality_summary
from ops.generate.quality.utility import METRIC, trained
from ops.progress import Silent

CPU = torch.device("cpu")


class Listener(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.fixture(scope="module")
def report(quick, train, held_out, good, wrong, noise, cache):
    """Return the rows of four sources as a frame and as they are, and what was noted."""
    sources, listener = {"good": good, "wrong": wrong, "noise": noise, "copies": train}, Listener()
    rows = measure_quality(quick, "shapes", train, {"validation": held_out}, sources, {}, "tone", cache, CPU, listener)
    return pd.DataFrame(rows), rows, listener.notes


def value(frame, metric, model, split="validation", group="all", field="value"):
    mine = frame[
        (frame["metric"] == metric) & (frame["model"] == model) & (frame["split"] == split) & (frame["group"] == group)
    ]
    assert len(mine) == 1, f"{len(mine)} rows of {metric} of {model}"
    return mine[field].iloc[0]


def test_sources_come_out_as_what_they_are(report, quick, tmp_path):
    frame, rows, notes = report
    write_measurements(tmp_path / "measurements.parquet", rows)
    assert not frame.duplicated(["model", "split", "group", "metric"]).any()
    assert set(frame["model"]) == {"real", "good", "wrong", "noise", "copies"}
    for space in ("pca", "colours"):
        distance = f"Fréchet distance ({space})"
        floor = value(frame, distance, "real")
        assert value(frame, distance, "good") < 1.5 * floor < value(frame, distance, "noise")
        assert value(frame, f"kernel distance ({space})", "noise", field="low") > 0
        assert value(frame, f"kernel distance ({space})", "good") < 0.05 * value(
            frame, f"kernel distance ({space})", "noise"
        )
        assert value(frame, f"coverage ({space})", "noise") < 0.1
        assert value(frame, f"coverage ({space})", "copies", "train") > 0.9
    assert (frame[frame["metric"].str.startswith("Fréchet")]["n"] == 40).all()
    assert value(frame, METRIC, "real") > 0.85
    assert value(frame, METRIC, "good") > 0.85
    assert value(frame, METRIC, "wrong") < 0.15, "labels are what was asked for"
    for factor in ("class", "tone"):
        assert value(frame, f"alignment ({factor})", "good") > 0.9
        assert value(frame, f"alignment ({factor})", "wrong") < 0.1
        assert value(frame, f"alignment ({factor})", "real") > 0.9
    assert value(frame, "alignment (all factors)", "good") <= value(frame, "alignment (domain)", "good")
    assert any("of 40 images on both sides" in note for note in notes)
    assert any("no numbers" in note for note in notes)
    figures = quality_summary(quick, rows)
    assert figures.figures["most useful source"] in ("good", "copies")
    assert "numbers in captions" in figures.texts


def test_groups_have_rows_and_gaps(report):
    frame, _, _ = report
    for metric in (METRIC, "alignment (tone)"):
        by_tone = {tone: value(frame, metric, "good", group=f"tone={tone}") for tone in "01"}
        gap = value(frame, f"{metric} gap (tone)", "good")
        assert gap == pytest.approx(abs(by_tone["0"] - by_tone["1"]))
        worst = frame[(frame["metric"] == f"worst-group {metric}") & (frame["model"] == "good")]
        assert worst["value"].tolist() == [min(by_tone.values())]
    for factor, values in (("tone", "01"), ("class", ("bar", "disc"))):
        mine = [value(frame, "coverage (pca)", "good", group=f"{factor}={v}") for v in values]
        assert value(frame, f"coverage (pca) gap ({factor})", "good") == pytest.approx(max(mine) - min(mine))
    cells = frame[(frame["metric"] == "coverage (pca)") & frame["group"].str.startswith("tone=")]
    assert cells["n"].nunique() == 1, "groups are compared at one number of images"
    assert value(frame, "kernel distance (pca)", "noise", group="tone=1", field="low") > 0
    assert value(frame, "kernel distance (pca) gap (tone)", "good", field="low") >= 0


def test_pictures_are_drawn_and_the_same_again(report, train, good, tmp_path):
    frame, _, _ = report
    rows = frame[frame["model"].isin(["real", "good"])].to_dict("records")
    for name in ("a", "b"):
        draw_quality(rows, ["pca"], train, {"good": good}, "tone", {"0": "blue"}, tmp_path / name)
    names = {p.name for p in (tmp_path / "a").iterdir()}
    kinds = ("distances", "manifolds", "utility", "alignment", "groups", "samples-real", "samples-good")
    assert names == {f"{kind}.png" for kind in kinds}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    rows_of = samples(good, "tone", {"0": "blue"}, 5, 0)
    assert list(rows_of) == ["bar", "disc", "tone blue", "tone 1", "domain paper", "domain slate"]
    assert rows_of["bar"].shape == (5, 32, 32, 3)
    slate = np.asarray(good.images[np.flatnonzero(good.table["domain"] == "slate")])
    assert all((slate == image).all(axis=(1, 2, 3)).any() for image in rows_of["domain slate"])
    alone = replace(good, table=good.table.assign(domain="paper"))
    assert list(samples(alone, "tone", {}, 4, 0)) == ["bar", "disc", "tone 0", "tone 1"]


def test_the_same_again_is_the_same(quick, train, held_out, good, tmp_path):
    def run(seed):
        short = quick.utility.schedule.model_copy(update={"epochs": 2})
        utility = quick.utility.model_copy(update={"schedule": short})
        config = quick.model_copy(update={"seed": seed, "images": 40, "utility": utility})
        return measure_quality(
            config, "shapes", train, {"validation": held_out}, {"good": good}, {}, "tone", tmp_path, CPU, Silent()
        )

    assert run(0) == run(0)
    assert run(0) != run(1)


def aligned(config, train, held_out, sources, tmp_path, monitor=None):
    """Return the alignment rows of sources as a frame."""
    sets = prepare(config, train, {"validation": held_out}, sources, "tone")
    spaces = make_spaces(config, train.images, {}, {}, CPU)
    sets = sets.embedded(lambda x: {name: s.embed(x, tmp_path, Silent()) for name, s in spaces.items()})
    return pd.DataFrame(alignment_rows(config, "shapes", sets, monitor or Silent()))


def test_combinations_are_split_by_how_often_training_saw_them(quick, train, held_out, good, tmp_path):
    cell = (train.table["label"] == "disc") & (train.table["attribute:tone"] == "1")
    few = train.subset(np.flatnonzero(~cell | (np.cumsum(cell) <= 4)))
    none = train.subset(np.flatnonzero(~cell))
    asked = int(((good.table["label"] == "disc") & (good.table["attribute:tone"] == "1")).sum())
    rare, never = (aligned(quick, part, held_out, {"good": good}, tmp_path) for part in (few, none))
    name = "alignment (all factors, class and tone {})".format
    for frame, seen in ((rare, name("seen 1 to 10 times")), (never, name("never seen"))):
        assert value(frame, seen, "good", field="n") == asked
        assert value(frame, name("seen more than 10 times"), "good", field="n") == len(good) - asked


def test_numbers_are_a_factor_where_an_attribute_holds_them(quick, train, held_out, good, tmp_path):
    counting = quick.model_copy(update={"count_attribute": "tone"})
    frame = aligned(counting, train, held_out, {"good": good}, tmp_path)
    assert value(frame, "alignment (tone)", "good", group="tone=1") > 0.9

    def counted(images):
        return replace(images, table=images.table.assign(**{"attribute:count": images.table["attribute:tone"]}))

    counting = quick.model_copy(update={"count_attribute": "count"})
    frame = aligned(counting, counted(train), counted(held_out), {"good": counted(good)}, tmp_path)
    assert value(frame, "alignment (count)", "good", group="count=1") > 0.9
    with pytest.raises(AmalgamError, match="no attribute with numbers"):
        aligned(quick.model_copy(update={"count_attribute": "hat"}), train, held_out, {"good": good}, tmp_path)


def test_what_training_never_shows_is_not_judged(quick, train, held_out, good, tmp_path, recorder):
    table = good.table.copy()
    table.loc[:9, "attribute:tone"] = "9"
    table.loc[10:12, "attribute:tone"] = None
    frame = aligned(quick, train, held_out, {"odd": replace(good, table=table)}, tmp_path, recorder)
    assert value(frame, "alignment (class)", "odd", field="n") == len(good) - 13
    assert recorder.notes == ["13 images of the source odd show or ask for what no training image shows: not judged"]


def test_utility_takes_the_same_steps_whatever_the_source(quick, train, good):
    steps = []

    class Counting(Silent):
        def progress(self, done, total, unit="it", **figures):
            steps.append((done, total))

    few = train.subset(range(40))
    models = [trained(quick.utility, images, 0, CPU, Counting()) for images in (few, few, good)]
    assert not models[0].training
    assert steps == [(i + 1, 75) for i in range(75)] * 3
    x = train.batch(range(8))
    with torch.no_grad():
        assert torch.equal(models[0](x), models[1](x)), "the same seed, the same classifier"
        assert not torch.equal(models[0](x), models[2](x))


def test_groups_that_are_too_small_have_no_row_and_no_gap(quick):
    outcomes, tones = np.array([True, False] * 30), np.repeat(["0", "1"], [52, 8])
    rows = outcome_rows(quick, ("m", "d", "s"), "share", outcomes, tones, "tone", ["0", "1"])
    assert [(r["group"], r["metric"], r["value"], r["n"]) for r in rows] == [("tone=0", "share", 0.5, 52)]
    everyone = outcome_rows(quick, ("m", "d", "s"), "share", outcomes, np.repeat(["0", "1"], 30), "tone", ["0", "1"])
    assert [r["metric"] for r in everyone] == ["share", "share", "worst-group share", "share gap (tone)"]


@pytest.mark.parametrize("which", ["source", "held-out"])
def test_small_groups_are_named(which, quick, train, held_out, good, tmp_path):
    def thinned(images):
        tone = images.table["attribute:tone"] == "1"
        return images.subset(np.flatnonzero(~tone | (np.cumsum(tone) <= 8)))

    real, source = (held_out, thinned(good)) if which == "source" else (thinned(held_out), good)
    sets = prepare(quick, train, {"validation": real}, {"thin": source}, "tone").embedded(
        lambda x: {"colours": colour_space(32).embed(x, tmp_path, Silent())}
    )
    rows = pd.DataFrame(distance_rows(quick, "shapes", sets, "colours", Silent()))
    title = "the source thin" if which == "source" else "the real split validation"
    notes = notes_on(quick, sets)
    assert any(f"{title} has fewer than 10 images of tone 1" in note for note in notes)
    mine = rows[(rows["model"] == "thin") & (rows["split"] == "validation")]
    assert {"tone=0", "class=bar", "class=disc"} == set(mine["group"]) - {"all"}
    assert not mine["metric"].str.contains("gap (tone)", regex=False).any(), "a gap of one group"
    assert mine["metric"].str.contains("gap (class)", regex=False).any()


def without(images, column):
    return replace(images, table=images.table.drop(columns=column))


MISTAKES = {
    "no sources": (lambda s: {}, "nothing to compare"),
    "called real": (lambda s: {"real": s}, "called real"),
    "other classes": (lambda s: {"bad": replace(s, classes=("bar", "ring"))}, "has the classes bar, ring"),
    "other sizes": (lambda s: {"bad": replace(s, images=s.images[:, :16])}, "16 x 32 pixels"),
    "no tone": (lambda s: {"bad": without(s, "attribute:tone")}, "does not say the tone"),
    "no discs": (lambda s: {"bad": s.subset(np.flatnonzero(s.labels == 0))}, "source bad has no images of disc"),
    "too few": (lambda s: {"bad": s.subset([0, 1, 2])}, "3 neighbours and a covariance need 4"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_sets_that_cannot_be_compared_are_refused_at_once(mistake, quick, train, held_out, good, tmp_path):
    make, message = MISTAKES[mistake]
    begun = time.monotonic()
    with pytest.raises(AmalgamError, match=message):
        measure_quality(
            quick, "shapes", train, {"validation": held_out}, make(good), {}, "tone", tmp_path, CPU, Silent()
        )
    assert time.monotonic() - begun < 2, "before anything is computed"


def test_held_out_images_that_training_saw_are_refused(quick, train, good):
    with pytest.raises(AmalgamError, match="has 30 images that the real split train has too"):
        prepare(quick, train, {"validation": train.subset(range(30))}, {"good": good}, "tone")


def test_an_attribute_that_nobody_has_is_refused(quick, train, held_out, good):
    with pytest.raises(AmalgamError, match="does not say the hat"):
        prepare(quick, train, {"validation": held_out}, {"good": good}, "hat")
