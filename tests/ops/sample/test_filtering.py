"""The filter keeps what a brute-force selection keeps, says why it drops the rest, and hands on shards as they were."""

import json
import tarfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

import ops.sample.filtering as filtering
import ops.sample.scoring as scoring
from ops.data.loading import open_images
from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.files import read_json
from ops.models.build import build_classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier, save_classifier
from ops.models.config import Architecture
from ops.sample.config import FilteredSyntheticConfig
from ops.sample.filtering_pictures import draw_confidence, draw_extremes

CPU = torch.device("cpu")
SMALL = Architecture(widths=[4, 8], blocks=[1, 1])


@pytest.fixture(scope="module")
def made(shards):
    """Return a folder of three shards: 176 images, half of them bars, half discs."""
    return shards


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Pictures take longer than all else here; one test draws them."""
    for name in ("draw_confidence", "draw_extremes"):
        monkeypatch.setattr(filtering, name, lambda *arguments: None)


def pixels(folder):
    """Return all images (N, 3, H, W) in [0, 1] in the order of split, shard and key, read with tarfile."""
    table = read_manifest(folder).sort_values(["split", "shard", "key"]).reset_index(drop=True)
    images = []
    for shard, key in zip(table["shard"], table["key"], strict=True):
        with tarfile.open(folder / shard) as tar:
            images.append(np.asarray(Image.open(tar.extractfile(f"{key}.png")).convert("RGB")))
    return table, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def scorer(folder, made, seed=0, quantile=0.5, scale=20.0, classes=("bar", "disc")):
    """Save a random network whose head is set so that it calls the share `quantile` of the images the first class."""
    model = build_classifier(SMALL, 2, [0.5] * 3, [0.25] * 3, seed)
    direction = torch.randn(8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        values = model.eval().features(pixels(made)[1]) @ direction
        cut = torch.quantile(values, quantile) if quantile < 1 else values.max() + 1
        scale = scale / float(values.std())
        model.head.weight.copy_(torch.stack([-direction, direction]) * scale / 2)
        model.head.bias.copy_(torch.tensor([cut, -cut]) * scale / 2)
    card = ModelCard(
        name="scorer", architecture=SMALL, classes=list(classes), image_size=32, mean=[0.5] * 3, std=[0.25] * 3,
        seed=seed, ancestor="",
    )  # fmt: skip
    save_classifier(folder, model, card)
    return folder


@pytest.fixture(scope="module")
def scorers(made, tmp_path_factory):
    """Return two scorers that disagree, neither sure of itself."""
    home = tmp_path_factory.mktemp("scorers")
    names = {f"classifier/scorer/seed-{s}": s for s in (0, 1)}
    return {name: scorer(home / str(s), made, s, quantile=0.402, scale=3.0) for name, s in names.items()}


@pytest.fixture(scope="module")
def scored(made, scorers):
    """Return the table and the probabilities of both classes, by the models alone, all images at once."""
    table, x = pixels(made)
    with torch.no_grad():
        outputs = [torch.exp(torch.log_softmax(load_classifier(f, CPU)[0](x), dim=1)) for f in scorers.values()]
    return table, (sum(outputs) / len(outputs)).numpy()


def run(config, made, scorers, home, recorder):
    """Filter `made`; its images are real ones here, and would all be copies."""
    out, scratch = home / "out", home / "scratch"
    out.mkdir(parents=True)
    scratch.mkdir(exist_ok=True)
    summary = filtering.filter_synthetic(
        config.model_copy(update={"copies": None}), made, made, scorers, out, scratch, home / "cache", CPU, recorder
    )
    return out, summary


def brute_force(table, p, labels, rule, agree, share):
    """Return {id: label} of what is kept, by sorting lists."""
    names = ["bar", "disc"]
    rows = []
    for identity, condition, row in zip(table["id"], table["label"], p, strict=True):
        seen = names[int(row[1] > row[0])]
        label = seen if labels == "pseudo" else condition
        if not agree or seen == condition:
            rows.append((-float(row[names.index(label)]), identity, label))
    if rule == "all":
        return {identity: label for _, identity, label in rows}
    groups = {name: sorted(r for r in rows if r[2] == name) for name in names}
    count = min(min(len(g) for g in groups.values()), max(1, round(share * len(rows) / 2)))
    return {identity: label for g in groups.values() for _, identity, label in g[:count]}


@pytest.mark.parametrize("labels", ["conditional", "pseudo"])
@pytest.mark.parametrize("agree", [False, True])
@pytest.mark.parametrize(("rule", "share"), [("all", 1.0), ("topk_confidence", 1.0), ("topk_confidence", 0.4)])
def test_kept_rows_are_those_of_a_brute_force_selection(
    made, scorers, scored, tmp_path, recorder, labels, agree, rule, share
):
    config = FilteredSyntheticConfig(labels=labels, require_agreement=agree, rule=rule, keep_share=share, batch=7)
    out, summary = run(config, made, scorers, tmp_path, recorder)
    table, p = scored
    assert 20 < (p.argmax(axis=1) != (table["label"] == "disc")).sum() < 156, "the case is not trivial"
    kept = read_manifest(out)
    assert dict(zip(kept["id"], kept["label"], strict=True)) == brute_force(table, p, labels, rule, agree, share)
    removed = pd.read_parquet(out / "removed.parquet")
    assert set(removed["id"]) | set(kept["id"]) == set(table["id"])
    assert len(removed) + len(kept) == len(table) == summary.figures["kept"] + summary.figures["removed"]
    assert sum(line["images"] for line in summary.tables["removed"]) == len(removed)
    assert removed["reason"].str.len().gt(0).all()


def test_rows_say_what_the_scorer_saw(made, scorers, scored, tmp_path, recorder):
    out, _ = run(FilteredSyntheticConfig(labels="pseudo", rule="all"), made, scorers, tmp_path, recorder)
    table, p = scored
    kept = read_manifest(out).sort_values(["split", "shard", "key"])
    provenance = pd.DataFrame([json.loads(text) for text in kept["provenance"]])
    assert provenance["condition"].tolist() == table["label"].tolist()
    assert provenance["pseudo label"].tolist() == kept["label"].tolist()
    np.testing.assert_allclose(provenance["confidence"], p.max(axis=1), atol=1e-4)
    assert provenance["scorer"].nunique() == 1


def test_provenance_of_the_generator_stays(made, scorers, tmp_path, recorder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = tmp_path / "made"
    copy.mkdir()
    for split in ("train", "validation", "test"):
        (copy / split).symlink_to(made / split)
    (copy / "dataset.json").write_text((made / "dataset.json").read_text())
    table = pq.read_table(made / "manifest.parquet")
    column = table.schema.get_field_index("provenance")
    table = table.set_column(column, "provenance", pa.array(['{"seed": [0, 7]}'] * len(table)))
    pq.write_table(table, copy / "manifest.parquet")
    out, _ = run(FilteredSyntheticConfig(rule="all"), copy, scorers, tmp_path / "run", recorder)
    assert all(json.loads(text)["seed"] == [0, 7] for text in read_manifest(out)["provenance"])


def test_images_are_the_same_bytes_and_records_carry_the_new_label(made, scorers, tmp_path, recorder):
    out, _ = run(FilteredSyntheticConfig(labels="pseudo"), made, scorers, tmp_path, recorder)
    kept = read_manifest(out).set_index(["shard", "key"])
    seen = 0
    for shard in sorted(set(kept.index.get_level_values(0))):
        with tarfile.open(out / shard) as new, tarfile.open(made / shard) as old:
            for name in new.getnames():
                if name.endswith(".png"):
                    assert new.extractfile(name).read() == old.extractfile(name).read()
                    record = json.load(new.extractfile(name.replace(".png", ".json")))
                    row = kept.loc[(shard, name.removesuffix(".png"))]
                    assert record == {"id": row["id"], "label": row["label"]}
                    seen += 1
    assert seen == len(kept) > 0


def test_training_reads_the_result(made, scorers, tmp_path, recorder):
    one = dict(list(scorers.items())[:1])
    out, _ = run(FilteredSyntheticConfig(labels="pseudo"), made, one, tmp_path, recorder)
    images = open_images(out, ["train", "validation", "test"], tmp_path / "cache")
    counts = np.bincount(images.labels, minlength=2)
    assert counts.tolist() == [71, 71], "this scorer calls 71 of the 176 images a bar"
    table, x = pixels(out)
    order = table.sort_values(["split", "shard", "key"]).index
    np.testing.assert_array_equal(images.images, (x[order].permute(0, 2, 3, 1) * 255).round().numpy())
    assert images.labels.tolist() == table["label"].map({"bar": 0, "disc": 1}).tolist()
    assert "filtered" in read_json(out / "dataset.json")["notes"]


def test_balance_is_drawn_without_regard_to_confidence(made, scorers, scored, tmp_path, recorder):
    kept = []
    for seed in (0, 1):
        config = FilteredSyntheticConfig(labels="pseudo", seed=seed)
        out, _ = run(config, made, scorers, tmp_path / str(seed), recorder)
        kept.append(set(read_manifest(out).query("label == 'disc'")["id"]))
    table, p = scored
    order = table["id"].iloc[np.argsort(-p[:, 1])].tolist()
    smallest = min(np.bincount(p.argmax(axis=1)))
    assert len(kept[0]) == len(kept[1]) == smallest
    assert kept[0] != kept[1]
    assert all(k != set(order[:smallest]) for k in kept)


def test_seeds_are_averaged(made, scorers, tmp_path, recorder):
    """Each seed alone selects otherwise than both together."""
    config = FilteredSyntheticConfig(labels="pseudo", rule="all")
    labels = {}
    for name, chosen in {"both": scorers, **{n: {n: f} for n, f in scorers.items()}}.items():
        out, _ = run(config, made, chosen, tmp_path / name.replace("/", "-"), recorder)
        labels[name] = tuple(read_manifest(out)["label"])
    assert len(set(labels.values())) == 3


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_killed_run_goes_on_and_gives_the_same_bytes(made, scorers, tmp_path, recorder_type, monkeypatch):
    config = FilteredSyntheticConfig(labels="pseudo", rule="topk_confidence", keep_share=0.5)
    whole, _ = run(config, made, scorers, tmp_path / "whole", recorder_type())
    again, _ = run(config, made, scorers, tmp_path / "again", recorder_type())
    assert files(whole) == files(again)
    with pytest.raises(KeyboardInterrupt):
        run(config, made, scorers, tmp_path / "killed", recorder_type(stop_after=0))
    (tmp_path / "killed" / "out").rmdir()
    calls = []
    original = scoring.probabilities
    monkeypatch.setattr(scoring, "probabilities", lambda m, x, *rest: calls.append(len(x)) or original(m, x, *rest))
    resumed, _ = run(config, made, scorers, tmp_path / "killed", recorder_type())
    assert calls == [96, 32], "the first shard (48 images) was scored before the kill"
    assert files(resumed) == files(whole)


def test_pictures_show_each_class_and_depend_on_content_only(made, scored, tmp_path):
    table, p = scored
    table = table.assign(confidence=p.max(axis=1), reason=["", "low confidence"] * 88)
    for name in ("one", "two"):
        draw_confidence(table, ["bar", "disc"], tmp_path / name / "confidence.png")
        draw_extremes(made, table, ["bar", "disc"], tmp_path / name / "extremes.png")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    for picture in (tmp_path / "one").iterdir():
        colours = Image.open(picture).convert("RGB").getcolors(2**20)
        assert len(colours) > 50, f"{picture.name} is not blank"


@pytest.mark.parametrize("rule", ["all", "balance_only", "topk_confidence"])
def test_a_class_that_nobody_recognises_is_an_error_with_a_remedy(made, tmp_path, recorder, rule):
    blind = {"classifier/scorer/seed-0": scorer(tmp_path / "blind", made, quantile=1)}
    config = FilteredSyntheticConfig(labels="pseudo", rule=rule)
    with pytest.raises(AmalgamError, match=r"disc: 88 asked for, 0 recognised") as error:
        run(config, made, blind, tmp_path / "run", recorder)
    assert "conditional" in error.value.remedy
    strict = FilteredSyntheticConfig(labels="conditional", rule=rule, require_agreement=True)
    with pytest.raises(AmalgamError, match="disc: 88 asked for, 0 recognised"):
        run(strict, made, blind, tmp_path / "strict", recorder)


def test_a_scorer_of_other_classes_is_refused(made, tmp_path, recorder):
    other = {"classifier/scorer/seed-0": scorer(tmp_path / "other", made, classes=("disc", "bar"))}
    with pytest.raises(AmalgamError, match="knows disc, bar"):
        run(FilteredSyntheticConfig(), made, other, tmp_path / "run", recorder)


def test_a_scorer_that_diverged_is_refused(made, tmp_path, recorder):
    broken = scorer(tmp_path / "broken", made)
    model, card = load_classifier(broken, CPU)
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    save_classifier(broken, model, card)
    with pytest.raises(AmalgamError, match="no numbers"):
        run(FilteredSyntheticConfig(), made, {"s": broken}, tmp_path / "run", recorder)


def test_values_of_an_attribute_keep_their_shares_whatever_the_scorer_thinks_of_them():
    """Group y is a quarter of each class, and the scorer is surer of every x: alone, confidence keeps no y at all."""
    rng = np.random.default_rng(0)
    count = 400
    tone = np.where(np.arange(count) // 2 % 4 == 0, "y", "x")
    label = np.array(["a", "b"])[np.arange(count) % 2]
    table = pd.DataFrame(
        {
            "id": [f"{n:03d}" for n in range(count)],
            "condition": label,
            "pseudo": label,
            "label": label,
            "attribute:tone": tone,
            "confidence": rng.uniform(0, 0.5, count) + 0.5 * (tone == "x"),
        }
    )
    for rule, share in (("topk_confidence", 0.2), ("balance_only", 1.0)):
        dropped = table.iloc[rng.permutation(count)[:380]].sort_index() if rule == "balance_only" else table
        config = FilteredSyntheticConfig(rule=rule, keep_share=share, within="tone")
        kept = dropped[filtering.choose(config, dropped.reset_index(drop=True), ["a", "b"]) == ""]
        before = dropped.groupby(["label", "attribute:tone"]).size() / dropped.groupby("label").size()
        after = kept.groupby(["label", "attribute:tone"]).size()
        expected = before * kept.groupby("label").size()
        assert (after - expected).abs().max() <= 1
    alone = filtering.choose(FilteredSyntheticConfig(rule="topk_confidence", keep_share=0.2), table, ["a", "b"]) == ""
    assert set(table[alone]["attribute:tone"]) == {"x"}
    fair = FilteredSyntheticConfig(rule="topk_confidence", keep_share=0.2, within="tone")
    kept = filtering.choose(fair, table, ["a", "b"]) == ""
    for name in ("a", "b"):
        cell = table[(table["label"] == name) & (table["attribute:tone"] == "y")]
        best = set(cell.nlargest(10, "confidence")["id"])
        assert set(cell[kept[cell.index]]["id"]) == best, "and inside a group the surest are kept"


def test_an_unknown_attribute_is_named(made, scorers, tmp_path, recorder):
    with pytest.raises(AmalgamError, match="no attribute 'age'") as error:
        run(FilteredSyntheticConfig(within="age"), made, scorers, tmp_path, recorder)
    assert "tone" in error.value.remedy


def test_a_share_without_its_rule_is_refused():
    with pytest.raises(ValidationError, match="topk_confidence"):
        FilteredSyntheticConfig(rule="balance_only", keep_share=0.2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 2, st.integers(0, 4)), min_size=6, max_size=40),
    st.sampled_from(["balance_only", "topk_confidence"]),
    st.floats(0.05, 1),
)
def test_selections_are_balanced_and_no_dropped_row_is_surer_than_a_kept_one(rows, rule, share):
    classes = ["a", "b", "c"]
    rows += [(k, k, 2) for k in range(3)]  # no class is empty
    table = pd.DataFrame(
        {
            "id": [f"{n:03d}" for n in range(len(rows))],
            "condition": [classes[c] for c, _, _ in rows],
            "pseudo": [classes[p] for _, p, _ in rows],
            "label": [classes[p] for _, p, _ in rows],
            "confidence": [c / 4 for _, _, c in rows],
        }
    )
    config = FilteredSyntheticConfig(rule=rule, keep_share=share if rule == "topk_confidence" else 1.0)
    kept = filtering.choose(config, table, classes) == ""
    counts = table[kept]["label"].value_counts()
    smallest = table["label"].value_counts().min()
    assert counts.nunique() == 1
    assert len(counts) == 3
    if rule == "balance_only":
        assert counts.iloc[0] == smallest
    else:
        assert counts.iloc[0] == min(smallest, max(1, round(share * len(table) / 3)))
        for name in classes:
            mine = table["label"] == name
            assert (
                table[mine & kept]["confidence"].min() >= table[mine & ~kept]["confidence"].max()
                or not (mine & ~kept).any()
            )
