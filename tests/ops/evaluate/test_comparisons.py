"""Comparisons of models whose outcomes are made by hand."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from ops.errors import AmalgamError
from ops.evaluate.comparison_config import ComparisonsConfig
from ops.evaluate.comparisons import CLEAN, compare_models, headline
from ops.evaluate.measurements import NO_SEED, UNION, read_measurements, row, write_measurements
from ops.evaluate.pairing import outcomes_by_image, paired, read_outcomes
from ops.evaluate.significance import holm, mean_effect

LINF, L2 = "linf 4/255", "l2 128/255"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a robustness folder from outcomes (images,) of (model, seed, split, threat)."""

    def made(outcomes):
        parts = []
        for (model, seed, split, threat), right in outcomes.items():
            part = pd.DataFrame(
                {"id": [f"{split}-{n:04d}" for n in range(len(right))], "robust": np.array(right, bool)}
            )
            parts.append(part.assign(model=model, seed=seed, split=split, threat=threat))
        folder = tmp_path / "robustness"
        folder.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pandas(pd.concat(parts)), folder / "predictions.parquet")
        write_measurements(
            folder / "measurements.parquet", [row("a/seed-0", "shapes", "test", "all", "x", (0, 0, 0), 1)]
        )
        return folder

    return made


def three_models(seeds=(0, 1, 2)):
    """Return outcomes on `test` (attacked) and `near` (not), in another order of images for every model."""
    rng, outcomes = np.random.default_rng(0), {}
    hard = rng.random(400)
    for model, skill in (("classifier/a", 0.8), ("classifier/b", 0.5), ("soup", 0.79)):
        for seed in seeds:
            clean = hard < skill + rng.normal(0, 0.01, 400)
            outcomes[model, seed, "test", "none"] = clean
            outcomes[model, seed, "test", LINF] = clean[:100] & (rng.random(100) < 0.6)
            outcomes[model, seed, "test", L2] = clean[:100] & (rng.random(100) < 0.6)
            outcomes[model, seed, "near", "none"] = rng.random(50) < skill
    return outcomes


def compared(folder, folders, recorder, **settings):
    (out,) = folders("comparisons")
    summary = compare_models(ComparisonsConfig(replicates=200, **settings), folder, out, recorder)
    return pq.read_table(out / "comparisons.parquet").to_pandas(), out, summary


def test_lines_are_counts_of_single_outcomes(write, folders, recorder):
    outcomes = three_models()
    table, out, summary = compared(write(outcomes), folders, recorder)
    pairs = [("classifier/a", "classifier/b"), ("classifier/a", "soup"), ("classifier/b", "soup")]
    assert list(zip(table["model"], table["than"], strict=True)) == pairs * 5
    measures = {(split, measure): part for (split, measure), part in table.groupby(["split", "measure"])}
    robust = [f"robust accuracy ({threat})" for threat in (LINF, L2)]
    assert set(measures) == {("test", m) for m in (CLEAN, *robust, UNION)} | {("near", CLEAN)}
    for _, line in table.iterrows():
        met = {CLEAN: ["none"], robust[0]: [LINF], robust[1]: [L2], UNION: [LINF, L2]}[line["measure"]]
        first, second = (
            np.stack(
                [np.logical_and.reduce([outcomes[m, s, line["split"], t] for t in met]) for s in (0, 1, 2)], axis=1
            )
            for m in (line["model"], line["than"])
        )
        d = first.astype(float) - second
        expected = mean_effect(d)
        assert line["effect"] == pytest.approx(d.mean())
        assert (line["low"], line["high"], line["p"]) == pytest.approx((expected.low, expected.high, expected.p))
        assert line["low_images"] <= line["effect"] <= line["high_images"]
        assert (line["n"], line["seeds"].tolist(), line["counted"]) == (len(d), [0, 1, 2], "images and seeds")
        assert line["gained"].tolist() == (first & ~second).sum(axis=0).tolist()
        assert line["lost"].tolist() == (~first & second).sum(axis=0).tolist()
        for b, c, p in zip(line["gained"], line["lost"], line["p_mcnemar"], strict=True):
            assert p == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1)
    for part in measures.values():  # a family: all pairs of one measure on one split
        assert part["p_holm"].to_numpy() == pytest.approx(holm(part["p"].to_numpy()))
    best = table[(table["than"] == "classifier/b") & (table["measure"] == CLEAN) & (table["split"] == "test")]
    assert best["p_holm"].item() < 0.001
    assert summary.figures == {"comparisons": 15, "significant after Holm": int((table["p_holm"] <= 0.05).sum())}
    rows = read_measurements(out).set_index(["model", "split", "metric"])
    found = rows.loc[("classifier/a", "test", "difference in clean accuracy from classifier/b")]
    assert (found["value"], found["seed"], found["dataset"]) == (best["effect"].item(), -1, "shapes")
    assert len(rows) == 15
    assert (out / "pictures" / "comparisons.png").stat().st_size > 5000


def test_the_same_bytes_again(write, folders, recorder):
    folder = write(three_models())
    _, out, _ = compared(folder, folders, recorder)
    files = ("comparisons.parquet", "measurements.parquet", "pictures/comparisons.png")
    first = [(out / name).read_bytes() for name in files]
    compared(folder, folders, recorder)
    assert [(out / name).read_bytes() for name in files] == first


def test_a_reference_is_what_all_others_are_compared_with(write, folders, recorder):
    folder = write(three_models())
    table, *_ = compared(folder, folders, recorder, reference="classifier/b")
    assert set(zip(table["model"], table["than"], strict=True)) == {
        ("classifier/a", "classifier/b"),
        ("soup", "classifier/b"),
    }
    with pytest.raises(AmalgamError, match=r"comparisons\.reference is 'classifier/c'") as error:
        compared(folder, folders, recorder, reference="classifier/c")
    assert "soup" in error.value.remedy


def test_one_seed_counts_images_only_and_says_so(write, folders, recorder):
    table, *_ = compared(write(three_models(seeds=(3,))), folders, recorder)
    assert set(table["counted"]) == {"images only"}
    assert table["df"].to_numpy() == pytest.approx(table["n"].to_numpy() - 1)
    width = (table["high"] - table["low"]) / (table["high_images"] - table["low_images"])
    assert width.median() == pytest.approx(1, abs=0.2)


def test_a_model_without_a_seed_meets_every_seed(write, folders, recorder):
    outcomes = {
        (model, NO_SEED if model == "soup" else seed, *rest): value
        for (model, seed, *rest), value in three_models().items()
        if model != "soup" or seed == 0
    }
    table, *_ = compared(write(outcomes), folders, recorder)
    line = table[(table["than"] == "soup") & (table["measure"] == CLEAN) & (table["split"] == "test")].iloc[0]
    mine = [outcomes["classifier/a", s, "test", "none"].mean() for s in (0, 1, 2)]
    assert line["seeds"].tolist() == [0, 1, 2]
    assert line["effect"] == pytest.approx(np.mean(mine) - outcomes["soup", NO_SEED, "test", "none"].mean())
    assert line["counted"] == "images and seeds"


def test_a_single_model_has_nothing_to_be_compared_with(write, folders, recorder):
    folder = write({key: value for key, value in three_models().items() if key[0] == "soup"})
    table, out, summary = compared(folder, folders, recorder)
    assert table.empty
    assert read_measurements(out).empty
    assert summary.figures == {"comparisons": 0, "significant after Holm": 0}
    assert not (out / "pictures").exists()


def test_models_that_agree_on_everything(write, folders, recorder):
    right = np.arange(40) % 3 > 0
    table, out, _ = compared(write({(m, s, "test", "none"): right for m in "ab" for s in (0, 1)}), folders, recorder)
    assert table[["effect", "low", "high", "p", "p_holm"]].to_numpy().tolist() == [[0, 0, 0, 1, 1]]
    assert table["p_mcnemar"].item().tolist() == [1, 1]
    assert (out / "pictures" / "comparisons.png").exists()


def test_other_images_other_seeds_and_too_few_images_are_refused(write, folders, recorder):
    right = np.ones(10, bool)
    for outcomes, message in (
        (
            {("a", 0, "test", "none"): right, ("b", 0, "test", "none"): right[:9]},
            "a and b were not evaluated on the same",
        ),
        (
            {(m, s, "test", "none"): right for m, seeds in (("a", (0, 1)), ("b", (0, 2))) for s in seeds},
            "a and b were not evaluated on the same images and seeds",
        ),
        (
            {("a", 0, "test", "none"): right[:1], ("b", 0, "test", "none"): right[:1]},
            "cannot be compared on 1 image of test",
        ),
    ):
        with pytest.raises(AmalgamError, match=message):
            compared(write(outcomes), folders, recorder)


def test_a_seed_without_some_images_is_refused(write):
    """Its outcome there is unknown, which is neither right nor wrong."""
    right = np.ones(10, bool)
    outcomes = {(m, s, "test", "none"): right[: 10 - (m == "b") * s] for m in "ab" for s in (0, 1)}
    with pytest.raises(AmalgamError, match="not evaluated on the same images and seeds"):
        paired(outcomes_by_image(read_outcomes(write(outcomes))), "a", "b")


def test_the_headline_is_clean_and_the_strongest():
    lines = [("test", CLEAN), ("test", f"robust accuracy ({LINF})"), ("test", UNION)]
    lines += [("near", CLEAN), ("shift", CLEAN), ("shift", f"robust accuracy ({LINF})")]
    found = headline(pd.DataFrame(lines, columns=["split", "measure"]))
    assert list(found.itertuples(index=False, name=None)) == [lines[0], lines[2], *lines[3:]]
