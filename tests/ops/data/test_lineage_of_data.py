"""From raw files to curated shards, on the embedded datasets and on a user's folder."""

import io

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.data.captions import caption_of
from ops.data.config import CuratedManifestConfig, ManifestConfig, RawImagesConfig, RealShardsConfig
from ops.data.curation import curate_manifest
from ops.data.expectations import check_manifest
from ops.data.manifest import MANIFEST_SCHEMA, build_manifest, read_manifest
from ops.data.shards import write_real_shards
from ops.data.sources import ingest_images
from ops.errors import AmalgamError
from pipelines.params import load_params

SHIFTED = ["openmoji", "noto_v1", "emojione2"]


def config(**changes) -> ManifestConfig:
    return ManifestConfig(**{"shift_domains": SHIFTED, "rare_values": ["4", "5"], "rare_keep": 0.1, **changes})


@pytest.fixture(scope="module")
def emoji(tmp_path_factory, root):
    """Ingest the whole embedded dataset and build its manifest."""
    home = tmp_path_factory.mktemp("emoji")
    raw, manifest = home / "raw_images", home / "manifest"
    from ops.progress import Silent

    for folder in (raw, manifest):
        folder.mkdir()
    ingest_images(RawImagesConfig(dataset="data/emoji-people"), root / "data" / "emoji-people", raw, Silent())
    build_manifest(config(), raw, manifest, Silent())
    return raw, manifest


def test_the_embedded_dataset_is_what_the_documentation_says(emoji):
    table = read_manifest(emoji[1])
    assert len(table) == 8794
    assert table["id"].is_unique
    assert table["sha256"].is_unique
    assert set(table["domain"]) == {"openmoji", "noto", "twemoji", "fluent", "noto_v1", "emojione2"}
    assert set(table["label"]) == {"activity", "fantasy", "gesture", "hand", "portrait", "role", "sport"}
    assert pq.read_schema(emoji[1] / "manifest.parquet").equals(MANIFEST_SCHEMA)


def test_splits_respect_concepts_styles_and_tones(emoji):
    table = read_manifest(emoji[1])
    splits = {s: t for s, t in table.groupby("split")}
    concepts = {s: set(t["concept"]) for s, t in splits.items()}
    assert not concepts["train"] & (concepts["test"] | concepts["validation"])
    assert not concepts["test"] & concepts["validation"]
    assert concepts["near"] <= concepts["train"] | set(splits["withheld"]["concept"])
    seen = splits["train"].groupby("concept")["attribute:tone"].agg(set)
    for concept, mine in splits["near"].groupby("concept"):
        assert not set(mine["attribute:tone"]) & seen.get(concept, set()), "near holds tones that training never saw"
    for split in ("shift_seen", "shift_unseen"):
        assert set(splits[split]["domain"]) == set(SHIFTED)
    assert not concepts["shift_unseen"] & concepts["train"]
    for split in ("train", "validation", "test", "near", "withheld"):
        assert not set(splits[split]["domain"]) & set(SHIFTED)


def test_only_rare_tones_are_withheld_and_about_as_many_as_asked(emoji):
    table = read_manifest(emoji[1])
    withheld = table[table["split"] == "withheld"]
    assert set(withheld["attribute:tone"]) == {"4", "5"}
    kept = (table["split"] == "train") & table["attribute:tone"].isin(["4", "5"])
    share = kept.sum() / (kept.sum() + len(withheld))
    assert abs(share - 0.1) < 0.04, "0.1 of about a thousand: 4 standard deviations are 0.04"


def test_splits_depend_on_the_seed_and_on_nothing_else(emoji, folders, recorder):
    again, other = folders("again", "other")
    build_manifest(config(), emoji[0], again, recorder)
    build_manifest(config(seed=1), emoji[0], other, recorder)
    assert (again / "manifest.parquet").read_bytes() == (emoji[1] / "manifest.parquet").read_bytes()
    assert (other / "manifest.parquet").read_bytes() != (again / "manifest.parquet").read_bytes()


def test_unknown_attribute_and_domain(emoji, folders, recorder):
    (out,) = folders("out")
    with pytest.raises(AmalgamError, match="colour"):
        build_manifest(config(attribute="colour"), emoji[0], out, recorder)
    with pytest.raises(AmalgamError, match="applemoji"):
        build_manifest(config(shift_domains=["applemoji"]), emoji[0], out, recorder)


def test_curated_and_sharded(emoji, folders, recorder):
    curated, real = folders("curated_manifest", "real_shards")
    curate_manifest(load_params().curated_manifest, emoji[1], emoji[0], curated, recorder)
    outcomes = check_manifest(curated)
    assert [o.name for o in outcomes if not o.success] == []
    assert len(outcomes) >= 15
    table = read_manifest(curated)
    assert table["caption"].nunique() > 1000
    assert table["caption"].str.contains("medium-dark skin tone").sum() > 1000
    assert ((table["weight"] > 0) & (table["weight"] <= 1)).all()
    write_real_shards(RealShardsConfig(shard_size=700), curated, emoji[0], real, recorder)
    written = read_manifest(real)
    assert set(written["split"]) == set(table["split"]) - {"withheld"}
    assert set(written["id"]) == set(table[table["split"] != "withheld"]["id"])


def test_expectations_name_the_rows_that_fail(emoji, folders, recorder):
    (curated,) = folders("curated_manifest")
    curate_manifest(CuratedManifestConfig(), emoji[1], emoji[0], curated, recorder)
    table = pq.read_table(curated / "manifest.parquet").to_pandas(maps_as_pydicts="lossy")
    table.loc[5, "label"] = "dragon"
    table.loc[7, "id"] = table.loc[6, "id"]
    first = table.index[table["split"] == "train"][0]
    table.loc[table.index[table["split"] == "test"][0], "concept"] = table.loc[first, "concept"]
    import pyarrow as pa

    pq.write_table(pa.Table.from_pandas(table, MANIFEST_SCHEMA, preserve_index=False), curated / "manifest.parquet")
    failed = {o.name: o for o in check_manifest(curated) if not o.success and o.severity == "critical"}
    assert set(failed) == {
        "labels are known",
        "ids are unique",
        "no concept is in two of train, validation, test",
    }
    assert failed["labels are known"].failed_ids == [table.loc[5, "id"]]


def test_copies_of_test_images_leave_the_training_split(folders, recorder):
    """A training image that is a test image again is removed; a blank one too; near-duplicates share their weight."""
    source, raw, manifest, curated = folders("mine", "raw", "manifest", "curated")
    rng = np.random.default_rng(0)
    pictures = [
        np.kron(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8)) for _ in range(6)
    ]
    pictures[3] = pictures[0].copy()
    pictures[3][0, 0] += 1  # not the same bytes, but the same picture
    pictures[5] = pictures[4].copy()
    pictures[5][0, 0] += 1
    pictures.append(np.full((32, 32, 3), 128, np.uint8))
    splits = ["train", "train", "validation", "test", "train", "train", "train"]
    rows = []
    for number, (picture, split) in enumerate(zip(pictures, splits, strict=True)):
        Image.fromarray(picture).save(source / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": "a", "domain": "d", "tone": "x", "split": split})
    pd.DataFrame(rows).to_csv(source / "table.csv", index=False)
    ingest_images(RawImagesConfig(dataset="mine"), source, raw, recorder)
    build_manifest(ManifestConfig(shift_domains=[]), raw, manifest, recorder)
    curate_manifest(CuratedManifestConfig(), manifest, raw, curated, recorder)
    removed = pd.read_parquet(curated / "removed.parquet").set_index("id")["reason"].to_dict()
    assert removed == {"0.png": "duplicate of 3.png (test)", "6.png": "low contrast"}
    weight = read_manifest(curated).set_index("id")["weight"]
    assert weight["4.png"] == weight["5.png"] == 0.5
    assert weight["1.png"] == 1


def user_folder(folder, count=6):
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
        rows.append({"file": f"{number}.jpg", "label": "ab"[number % 2], "domain": "clinic", "sex": "fm"[number % 2]})
    return pd.DataFrame(rows)


def test_a_users_folder_and_table(folders, recorder):
    source, raw = folders("mine", "raw")
    user_folder(source).to_csv(source / "table.csv", index=False)
    summary = ingest_images(RawImagesConfig(dataset="mine", image_size=24), source, raw, recorder)
    assert summary.figures["images"] == 6
    index = pd.read_parquet(raw / "images.parquet")
    assert set(index["width"]) == {24}
    assert dict(index["attributes"][0]) == {"sex": "f"}


def test_corrupt_images_are_quarantined_and_counted(folders, recorder):
    source, raw = folders("mine", "raw")
    table = user_folder(source)
    (source / "1.jpg").write_bytes((source / "1.jpg").read_bytes()[:200])
    (source / "2.jpg").write_bytes(b"this is no picture")
    (source / "3.jpg").unlink()
    table.to_csv(source / "table.csv", index=False)
    summary = ingest_images(RawImagesConfig(dataset="mine"), source, raw, recorder)
    assert (summary.figures["images"], summary.figures["quarantined"]) == (3, 3)
    quarantine = pd.read_parquet(raw / "quarantine.parquet")
    assert quarantine["file"].tolist() == ["1.jpg", "2.jpg", "3.jpg"]
    assert quarantine["reason"].str.len().min() > 5
    (again,) = folders("again")
    ingest_images(RawImagesConfig(dataset="mine"), source, again, recorder)
    assert (again / "quarantine.parquet").read_bytes() == (raw / "quarantine.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="domain"), "domain"),
        (lambda t: t.assign(sex=["", *t["sex"][1:]]), "sex"),
    ],
)
def test_tables_that_lack_something(folders, recorder, change, words):
    source, raw = folders("mine", "raw")
    change(user_folder(source)).to_csv(source / "table.csv", index=False)
    with pytest.raises(AmalgamError, match=words):
        ingest_images(RawImagesConfig(dataset="mine"), source, raw, recorder)


def test_a_table_may_refer_to_images_elsewhere_below_the_same_folder(folders, recorder):
    source, images, raw, same = folders("data/mine", "data/downloads/photos", "raw", "same")
    table = user_folder(images)
    table.to_csv(images / "table.csv", index=False)
    table.to_csv(source / "table.csv", index=False)
    (source / "dataset.json").write_text('{"root": "downloads/photos", "name": "photos"}')
    ingest_images(RawImagesConfig(dataset="data/mine"), source, raw, recorder)
    ingest_images(RawImagesConfig(dataset="data/downloads/photos"), images, same, recorder)
    assert (raw / "images.parquet").read_bytes() == (same / "images.parquet").read_bytes()
    assert "root" not in (raw / "dataset.json").read_text(), "where images were is no part of the artefact"


@pytest.mark.parametrize("root", ["", ".", "..", "../elsewhere", "/etc", "downloads/../..", "link"])
def test_a_root_that_leads_out_is_refused(folders, recorder, root):
    source, raw, elsewhere, _ = folders("data/mine", "raw", "elsewhere", "data/downloads")
    (source.parent / "link").symlink_to(elsewhere)
    user_folder(elsewhere).to_csv(source / "table.csv", index=False)
    (source / "dataset.json").write_text(f'{{"root": "{root}"}}')
    with pytest.raises(AmalgamError, match="which is no folder below data/"):
        ingest_images(RawImagesConfig(dataset="data/mine"), source, raw, recorder)


def test_a_root_that_is_not_here_says_dvc_pull(folders, recorder):
    source, raw = folders("data/mine", "raw")
    user_folder(source).to_csv(source / "table.csv", index=False)
    (source / "dataset.json").write_text('{"root": "downloads/photos"}')
    with pytest.raises(AmalgamError, match="downloads/photos, which mine refers to, is not here") as error:
        ingest_images(RawImagesConfig(dataset="data/mine"), source, raw, recorder)
    assert error.value.remedy == "dvc pull"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hosts", "link/secret.png"])
def test_a_file_that_leads_out_is_refused(folders, recorder, name):
    source, raw, elsewhere = folders("mine", "raw", "elsewhere")
    table = user_folder(source)
    Image.new("RGB", (8, 8)).save(elsewhere / "secret.png")
    (source / "link").symlink_to(elsewhere)
    table.loc[3, "file"] = name
    table.to_csv(source / "table.csv", index=False)
    with pytest.raises(AmalgamError, match=f"'{name}' is not inside mine"):
        ingest_images(RawImagesConfig(dataset="mine"), source, raw, recorder)


def test_a_dataset_has_captions_of_its_own():
    dataset = {"caption_templates": ["a scan of {subject}", "{label}"], "attribute_phrases": {"sex": "{}"}}
    made = {caption_of("a lung", "healthy", "clinic", {"sex": "female"}, dataset, seed) for seed in range(20)}
    assert made == {"a scan of a lung, female", "healthy"}


def test_an_unknown_label_is_named(folders, recorder):
    source, raw = folders("mine", "raw")
    user_folder(source).to_csv(source / "table.csv", index=False)
    (source / "dataset.json").write_text('{"classes": ["a"]}')
    with pytest.raises(AmalgamError, match="unknown label 'b'"):
        ingest_images(RawImagesConfig(dataset="mine"), source, raw, recorder)


def test_no_data_says_dvc_pull(folders, recorder):
    source, raw = folders("mine", "raw")
    with pytest.raises(AmalgamError, match="neither") as error:
        ingest_images(RawImagesConfig(dataset="mine"), source, raw, recorder)
    assert "dvc pull" in error.value.remedy


def test_fashion_mnist(folders, recorder, root):
    raw, manifest = folders("raw", "manifest")
    ingest_images(RawImagesConfig(dataset="data/fashion-mnist"), root / "data" / "fashion-mnist", raw, recorder)
    build_manifest(ManifestConfig(shift_domains=["s3", "s4"]), raw, manifest, recorder)
    table = read_manifest(manifest)
    assert table["split"].value_counts().to_dict() == {"train": 6000, "test": 3000, "shift": 2000, "validation": 1000}
    assert set(table[table["split"] == "shift"]["domain"]) == {"s3", "s4"}
    per_class = table[table["split"] == "train"]["label"].value_counts()
    assert per_class.min() == per_class.max() == 600


def test_the_builder_draws_what_is_embedded(root):
    """One embedded image is drawn again from its SVG source, if the packages for building data are installed."""
    pytest.importorskip("cairosvg")
    from ops.data.embedded.emoji_people import render

    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><rect width="2" height="4" fill="#f00"/></svg>'
    image = np.asarray(render(svg, 32))
    assert image[16, 4].tolist() == [255, 0, 0]
    assert image[16, 28].tolist() == [255, 255, 255]
    blank = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"></svg>'
    assert render(blank, 32) is None
    embedded = pd.read_parquet(root / "data" / "emoji-people" / "images-noto.parquet")
    assert np.asarray(Image.open(io.BytesIO(embedded["image"][0]))).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("woman firefighter", "firefighter"),
        ("firefighter", "firefighter"),
        ("mermaid", "merperson"),
        ("merperson", "merperson"),
        ("Santa Claus", "claus"),
        ("person with crown", "royal"),
        ("prince", "royal"),
        ("man walking: facing right", "walking"),
        ("woman: red hair", "red hair"),
        ("leftwards pushing hand", "pushing hand"),
        ("rightwards pushing hand", "pushing hand"),
        ("backhand index pointing left", "index pointing"),
        ("thumbs down", "thumbs"),
    ],
)
def test_twins_share_a_concept(name, concept):
    from ops.data.embedded.emoji_people import concept_of

    assert concept_of(name) == concept
