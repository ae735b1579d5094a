"""What people see first: small tables with names, and pictures."""

import numpy as np
import pandas as pd
from PIL import Image

from ops.evaluate.fairness.summary import left_out_lines

CLASSES = ["a", "b"]


def test_tables_name_the_worst_group_and_stay_narrow(written, images):
    rng = np.random.default_rng(0)
    labels = np.array(CLASSES, object)[rng.integers(0, 2, 600)]
    tones, genders = np.repeat(["0", "1"], 300), rng.choice(["man", "woman"], 600)
    table = pd.concat(
        [images(labels, split=split, tone=tones, gender=genders) for split in ("test", "shift_seen")], ignore_index=True
    )
    models = {}
    for seed in (0, 1):
        right = rng.random(1200) < np.tile(np.repeat([0.9, 0.6], 300), 2)
        share = np.where(right == (table["label"] == "b"), 0.8, 0.2)
        for model in ("real", "mixed"):
            models[f"classifier/{model}", seed] = np.stack([1 - share, share], axis=1)
    settings = {"out_of_distribution": ["shift_seen"], "intersections": [["tone", "gender"]], "min_count": 40}
    out, summary = written(table, models, CLASSES, **settings)
    assert list(summary.tables) == [
        *(f"accuracy by {axis}, {part} distribution" for axis in ("tone", "tone+gender") for part in ("in", "out of")),
        *(f"accuracy by {axis}, out of distribution less in distribution" for axis in ("tone", "tone+gender")),
        *(
            f"{measure}, {part} distribution"
            for part in ("in", "out of")
            for measure in ("AUROC", "worst-group accuracy", "accuracy gap")
        ),
    ]
    line = summary.tables["accuracy by tone, out of distribution"][0]
    assert list(line) == ["model", "accuracy", "worst group", "gap"]
    assert line["worst group"].endswith("] dark")
    assert summary.tables["accuracy by tone+gender, in distribution"][0]["worst group"].count("dark, ") >= 1
    assert summary.tables["accuracy by tone, out of distribution less in distribution"][1]["gap"][0] in "+-"
    assert summary.figures["best worst-group accuracy out of distribution"] > 0.5
    assert max(len(line) for lines in summary.tables.values() for line in lines) <= 6
    assert {path.name for path in (out / "pictures").iterdir()} == {
        "groups.png", "groups-tone+gender.png", "utility.png",
    }  # fmt: skip
    for path in (out / "pictures").iterdir():
        with Image.open(path) as picture:
            assert picture.width > 300
            assert len(picture.convert("RGB").getcolors(2**20)) > 20, "something is drawn"


def test_what_was_left_out_is_told_in_few_lines():
    line = {"split": "in distribution", "axis": "tone", "needed": 10}
    small = [
        {**line, "group": f"tone={t}", "metric": metric, "count": n}
        for t, metric, n in (
            *((t, "every measure", t) for t in range(2)),
            *((t, f"sensitivity ({c})", 3 + t) for t in range(2, 7) for c in "abc"),
            (2, "robust accuracy (linf 4/255)", 4),
            (3, "robust accuracy (l2 128/255)", 5),
        )
    ]
    found = left_out_lines(small, {"tone": {"0": "light"}})
    assert [(each["left out of"], each["groups"], each["fewest"]) for each in found] == [
        ("every measure", "light, 1", 0),
        ("sensitivity, 3 classes", "5 groups", 5),
        ("robust accuracy (linf 4/255)", "2", 4),
        ("robust accuracy (l2 128/255)", "3", 5),
    ]
