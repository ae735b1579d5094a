"""What imports have in common: whole or not at all, the same bytes, clear errors. CAMELYON17's layout stands for all."""

import shutil

import downloads
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.data.config import RawImagesConfig
from ops.data.layouts import images
from ops.data.layouts.camelyon17 import METADATA, read_camelyon17
from ops.data.layouts.config import Camelyon17Config, ImportConfig
from ops.data.layouts.people import age_of, sex_of, skin_tone_of
from ops.data.layouts.splits import deal
from ops.data.layouts.writing import write_dataset
from ops.data.sources import ingest_images
from ops.errors import AmalgamError
from ops.progress import Silent


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return downloads.camelyon17(tmp_path_factory.mktemp("original") / "camelyon17_v1.0")


@pytest.fixture
def source(original, tmp_path):
    return shutil.copytree(original, tmp_path / "data" / "downloads" / "camelyon17_v1.0")


def bring(source, out, monitor=None, **settings):
    config = Camelyon17Config(**{"missing": "skip", **settings})
    return write_dataset("camelyon17", read_camelyon17(config, source), config, source, out, monitor or Silent())


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_download_is_the_same_bytes_and_no_pixels_are_copied(source, tmp_path):
    one, two = tmp_path / "data" / "one", tmp_path / "data" / "two"
    bring(source, one)
    bring(source, two)
    assert files(one) == files(two)
    assert set(files(one)) == {"table.parquet", "dataset.json", "left_out.csv"}
    bring(source, two, seed=1)
    assert files(one) != files(two), "an earlier import is replaced"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["downloads", "one", "two"]


def test_a_killed_import_goes_on_where_it_was(source, tmp_path, monkeypatch, recorder_type):
    monkeypatch.setattr(images, "PORTION", 10)
    whole, killed = tmp_path / "data" / "whole", tmp_path / "data" / "killed"
    bring(source, whole)
    with pytest.raises(KeyboardInterrupt):
        bring(source, killed, recorder_type(stop_after=9 + 2))  # 9 reports of files looked for; 3 portions are read
    assert not killed.exists()
    ledger = tmp_path / "data" / ".killed.importing" / "digests.jsonl"
    ledger.write_text(ledger.read_text() + '["patches/cut sho')
    read = []
    digest = images._digest
    monkeypatch.setattr(images, "_digest", lambda path: read.append(path) or digest(path))
    bring(source, killed)
    assert files(killed) == files(whole)
    assert len(read) == len(set(read)) == 80 - 30


def test_missing_files_are_counted_and_named(source, tmp_path):
    with pytest.raises(AmalgamError, match=r"1 of 81 files that the table names are missing: patches/.*9999") as error:
        bring(source, tmp_path / "data" / "x", missing="stop")
    assert "--missing skip" in error.value.remedy
    shutil.rmtree(source / "patches")
    with pytest.raises(AmalgamError, match="no image found"):
        bring(source, tmp_path / "data" / "x")


def test_tables_of_another_layout_are_refused(source, tmp_path):
    path, out = source / "metadata.csv", tmp_path / "data" / "x"
    text = path.read_text()
    path.write_text(text.replace("center", "hospital"))
    with pytest.raises(AmalgamError, match=r"lacks the column\(s\) center") as error:
        bring(source, out)
    assert "hospital" in error.value.remedy
    path.write_text(text.splitlines()[0])
    with pytest.raises(AmalgamError, match="has no rows"):
        bring(source, out)
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(AmalgamError, match="is no CSV file"):
        bring(source, out)
    path.unlink()
    with pytest.raises(AmalgamError, match=r"there is no metadata\.csv"):
        bring(source, out)
    assert not out.exists()


@pytest.mark.parametrize("way", ["dots", "link"])
def test_a_file_that_leads_out_of_the_download_is_refused(source, tmp_path, way):
    """A link to a folder elsewhere would be read, but never versioned; dots could read anything."""
    if way == "dots":
        row = dict.fromkeys(METADATA, "0") | {"patient": "/../../../secret", "tumor": "1", "center": "0"}
        with (source / "metadata.csv").open("a") as file:
            file.write(",".join(["99", *(row[name] for name in METADATA)]) + "\n")
    else:
        place = source / "patches" / "patient_000_node_0"
        moved = shutil.move(place, tmp_path / "elsewhere")
        place.symlink_to(moved)
    with pytest.raises(AmalgamError, match=r"is not inside camelyon17_v1\.0"):
        bring(source, tmp_path / "data" / "x")


def test_places_that_cannot_be_written_or_referred_to(source, tmp_path, original):
    with pytest.raises(AmalgamError, match=r"is not below .*where data are versioned"):
        bring(original, tmp_path / "data" / "x")
    mine = tmp_path / "data" / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("keep me")
    with pytest.raises(AmalgamError, match="mine holds something that no import made"):
        bring(source, mine)
    with pytest.raises(AmalgamError, match="downloads holds the download"):
        bring(source, tmp_path / "data" / "downloads")
    assert (mine / "letter.txt").read_text() == "keep me"


def test_too_few_patients_are_told(source, tmp_path):
    path = source / "metadata.csv"
    table = pd.read_csv(path, dtype=str, index_col=0)
    table[table["patient"].isin(["000", "001", "060", "061", "080", "081", "020", "040"])].to_csv(path)
    with pytest.raises(AmalgamError, match="too few patients for a validation split"):
        bring(source, tmp_path / "data" / "x")


def test_a_row_that_repeats_another_is_told(source, tmp_path):
    lines = (source / "metadata.csv").read_text().splitlines()
    (source / "metadata.csv").write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(AmalgamError, match="1 files are named twice"):
        bring(source, tmp_path / "data" / "x")


def test_a_file_that_changed_since_the_import_is_quarantined(source, tmp_path, folders, recorder):
    """The table's folder is what has a version: its digests make that the version of the images."""
    out = tmp_path / "data" / "camelyon17"
    bring(source, out)
    table = pd.read_parquet(out / "table.parquet")
    changed, gone, *rest = table["file"]
    shutil.copy(source / rest[0], source / changed)
    (source / gone).unlink()
    (raw,) = folders("raw")
    summary = ingest_images(RawImagesConfig(dataset="data/camelyon17", image_size=16), out, raw, recorder)
    assert summary.figures["images"] == len(rest)
    quarantine = pd.read_parquet(raw / "quarantine.parquet").set_index("file")["reason"].to_dict()
    assert quarantine == {changed: "not the file that the table was made with", gone: "the file is missing"}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_patients_are_dealt_out_whole_and_in_proportion(data):
    """Against a loop over domains and classes; patients of one class only, so that which class counts is no question."""
    count = data.draw(st.integers(1, 40))
    shares = {f"{name}_share": data.draw(st.floats(0.01, 0.49)) for name in ("validation", "test")}
    pair = st.tuples(st.sampled_from("AB"), st.sampled_from("xy"), st.integers(1, 4))
    people = data.draw(st.lists(pair, min_size=count, max_size=count))
    rows = [
        {"concept": f"p{n}", "domain": domain, "label": label, "split": "", "file": f"{n}-{i}"}
        for n, (domain, label, images) in enumerate(people)
        for i in range(images)
    ]
    config = ImportConfig(**shares)
    table = pd.DataFrame(rows)
    split = deal(config, table)
    assert set(split) <= {"train", "validation", "test"}
    assert (split.groupby(table["concept"]).nunique() == 1).all()
    of = dict(zip(table["concept"], split, strict=True))
    for domain in "AB":
        for label in "xy":
            mine = [of[f"p{n}"] for n, person in enumerate(people) if person[:2] == (domain, label)]
            if len(mine) < 3:
                assert set(mine) <= {"train"}
                continue
            assert min(mine.count(name) for name in ("train", "validation", "test")) >= 1
            assert abs(mine.count("test") - config.test_share * len(mine)) < 1
            assert mine.count("validation") - config.validation_share * len(mine) < 1
    order = np.random.default_rng(0).permutation(len(table))
    again = deal(config, table.iloc[order].reset_index(drop=True))
    assert again.tolist() == split.iloc[order].tolist(), "the order of the table does not matter"


def test_images_with_a_split_of_their_own_keep_it():
    rows = [{"concept": f"p{n}", "domain": "A", "label": "x", "split": "", "file": str(n)} for n in range(8)]
    rows += [{"concept": "q", "domain": "A", "label": "x", "split": "validation", "file": "q"}]
    assert deal(ImportConfig(), pd.DataFrame(rows)).iloc[-1] == "validation"


def test_words_for_people():
    ages = ["58", "58.0", "058Y", "011M", "3D", "0", "80", "120", "121", "", "old"]
    bands = [*["40-59"] * 3, "0-19", "0-19", "0-19", "80+", "80+", *["unknown"] * 3]
    assert age_of(pd.Series(ages)).tolist() == bands
    assert sex_of(pd.Series(["M", "female", "Unknown", ""])).tolist() == ["male", "female", "unknown", "unknown"]
    tones = ["III", "3", "3.0", "type iii", "Fitzpatrick skin type III", "VII", ""]
    assert skin_tone_of(pd.Series(tones)).tolist() == ["3"] * 5 + ["unknown"] * 2
