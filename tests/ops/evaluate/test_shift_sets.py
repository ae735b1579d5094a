"""A user's images from elsewhere: three layouts, and what does not fit."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.data.config import RawImagesConfig
from ops.data.embedded.common import SCHEMA
from ops.data.loading import open_images
from ops.data.manifest import read_manifest
from ops.data.sources import ingest_images
from ops.errors import AmalgamError
from ops.evaluate.shift.sets import ingest_set, quarantined

DATASET = {"classes": ["bar", "disc", "star"], "image_size": 24, "channels": 3, "name": "shapes"}


def picture(number: int, form: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((70, 50), Image.Resampling.NEAREST).save(stream, form)
    return stream.getvalue()


@pytest.fixture
def class_folders(tmp_path):
    source = tmp_path / "sketches"
    for number, label in enumerate(["bar", "disc", "bar", "disc"]):
        (source / label).mkdir(parents=True, exist_ok=True)
        form = "PNG" if number < 2 else "JPEG"
        (source / label / f"{number}.{form.lower()}").write_bytes(picture(number, form))
    (source / "README.txt").write_text("not in a class folder")
    (source / "bar" / ".DS_Store").write_bytes(b"x")
    return source


@pytest.fixture
def ingest(tmp_path, recorder):
    def run(source, name="mine", dataset=DATASET):
        ingest_set(name, source, dataset, tmp_path / "sets" / name, recorder)
        return tmp_path / "sets" / name

    return run


def test_class_folders(ingest, class_folders, tmp_path):
    made = ingest(class_folders)
    images = open_images(made, "mine", tmp_path / "cache")
    assert images.classes == ("bar", "disc", "star"), "those of the dataset, so that logits mean the same"
    assert images.table["id"].tolist() == ["bar/0.png", "bar/2.jpeg", "disc/1.png", "disc/3.jpeg"]
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.images.shape == (4, 24, 24, 3)
    assert set(images.table["domain"]) == {"mine"}
    assert images.table["phash"].str.len().eq(16).all()
    assert quarantined(made) == 0


def test_images_are_those_that_raw_images_would_make(ingest, class_folders, tmp_path, recorder):
    rows = [
        {"file": f"{p.parent.name}/{p.name}", "label": p.parent.name, "domain": "x"}
        for p in class_folders.glob("*/[0-9]*")
    ]
    raw = tmp_path / "raw"
    raw.mkdir()
    pd.DataFrame(rows).to_csv(class_folders / "table.csv", index=False)
    ingest_images(RawImagesConfig(dataset="mine", image_size=24), class_folders, raw, recorder)
    (class_folders / "table.csv").unlink()
    expected = pd.read_parquet(raw / "images.parquet").set_index("id")["sha256"].to_dict()
    assert read_manifest(ingest(class_folders)).set_index("id")["sha256"].to_dict() == expected


def test_a_table_brings_domains_concepts_and_attributes(ingest, class_folders, tmp_path):
    rows = [
        {"file": f"{label}/{name}", "label": label, "domain": f"site{n % 2}", "concept": concept, "sex": "fm"[n % 2]}
        for n, (label, name, concept) in enumerate(
            [("bar", "0.png", "p1"), ("bar", "2.jpeg", "p1"), ("disc", "1.png", ""), ("disc", "3.jpeg", "p2")]
        )
    ]
    pd.DataFrame(rows).to_csv(class_folders / "table.csv", index=False)
    table = read_manifest(ingest(class_folders)).set_index("id")
    assert table["domain"].tolist() == ["site0", "site1", "site0", "site1"]
    assert table["attribute:sex"].tolist() == ["f", "m", "f", "m"]
    assert table["concept"][["bar/0.png", "bar/2.jpeg", "disc/3.jpeg"]].tolist() == ["p1", "p1", "p2"]
    assert table["concept"]["disc/1.png"] == table["sha256"]["disc/1.png"], "where there is none, its bytes are"


def test_embedded_parquet(ingest, tmp_path):
    source = tmp_path / "packed"
    source.mkdir()
    rows = [
        {
            "id": f"i{n}", "image": picture(n), "label": ["disc", "star"][n % 2], "domain": "far", "attributes": [],
            "caption": "x", "concept": f"c{n // 2}", "split": None, "licence": "none", "package": "none",
        }
        for n in range(4)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), source / "images-far.parquet")
    with pytest.raises(AmalgamError, match=r"packed has no dataset\.json"):
        ingest(source)
    (source / "dataset.json").write_text('{"classes": ["star", "disc"]}')
    table = read_manifest(ingest(source))
    assert table["concept"].tolist() == ["c0", "c0", "c1", "c1"]
    assert set(table["label"]) == {"disc", "star"}, "a subset of the classes is fine"


def test_copies_stay_together(ingest, class_folders):
    (class_folders / "bar" / "copy.png").write_bytes((class_folders / "bar" / "0.png").read_bytes())
    concept = read_manifest(ingest(class_folders)).set_index("id")["concept"]
    assert concept["bar/copy.png"] == concept["bar/0.png"]
    assert concept.nunique() == 4


def test_files_that_are_no_images_are_quarantined_and_counted(ingest, class_folders, recorder):
    (class_folders / "bar" / "notes.txt").write_text("no picture")
    (class_folders / "disc" / "1.png").write_bytes(picture(1)[:200])
    made = ingest(class_folders)
    assert quarantined(made) == 2
    found = pd.read_parquet(made / "quarantine.parquet")
    assert found["file"].tolist() == ["bar/notes.txt", "disc/1.png"]
    assert found["reason"].str.len().min() > 5
    assert "mine: 3 images, 2 in quarantine" in recorder.notes


def test_equal_files_are_equal_bytes_and_nothing_is_made_twice(ingest, class_folders, tmp_path, recorder):
    first = {p.name: p.read_bytes() for p in ingest(class_folders, "a").rglob("*") if p.is_file()}
    ingest_set("a", class_folders, DATASET, tmp_path / "again" / "a", recorder)
    assert {p.name: p.read_bytes() for p in (tmp_path / "again" / "a").rglob("*") if p.is_file()} == first
    for path in class_folders.glob("*/[0-9]*"):
        path.unlink()
    assert {p.name: p.read_bytes() for p in ingest(class_folders, "a").rglob("*") if p.is_file()} == first


def damage(source, change):
    table = pd.DataFrame([{"file": "bar/0.png", "label": "bar", "domain": "d"}])
    change(source, table)
    return source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t: (s / "disc").rename(s / "disk"), r"disk/1\.png has the unknown label 'disk'"),
        (lambda s, t: t.assign(label="disk").to_csv(s / "table.csv", index=False), "unknown label 'disk'"),
        (lambda s, t: t.drop(columns="domain").to_csv(s / "table.csv", index=False), "lacks the columns domain"),
        (lambda s, t: t.assign(file="gone.png").to_csv(s / "table.csv", index=False), "no image in sketches"),
        (lambda s, t: pd.concat([t, t]).to_csv(s / "table.csv", index=False), r"two images have the id 'bar/0\.png'"),
        (lambda s, t: (s / "table.csv").write_bytes(b"\xff\xfe\x00"), "sketches is damaged"),
        (lambda s, t: (s / "images-x.parquet").write_bytes(b"no"), r"has no dataset\.json"),
        (lambda s, t: [p.write_text("x") for p in s.glob("*/[0-9]*")], "no image in sketches could be read"),
        (lambda s, t: [p.unlink() for p in s.glob("*/[0-9]*")], "neither a table nor class folders"),
        (lambda s, t: s.rename(s.with_name("moved")), "there is no folder sketches"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(ingest, class_folders, tmp_path, change, message):
    with pytest.raises(AmalgamError, match=message) as error:
        ingest(damage(class_folders, change))
    assert error.value.remedy
    assert not (tmp_path / "sets" / "mine").exists()
