"""Imports of downloads, against what a person makes of the tables: `tests/downloads.py` says which rows are wrong."""

import shutil
from pathlib import Path

import downloads
import numpy as np
import pandas as pd
import pytest

from ops.data.config import RawImagesConfig
from ops.data.layouts.camelyon17 import read_camelyon17
from ops.data.layouts.chestxray import read_chestxray
from ops.data.layouts.config import Camelyon17Config, ChestXrayConfig, DermatologyConfig
from ops.data.layouts.dermatology import read_dermatology
from ops.data.layouts.writing import write_dataset
from ops.data.sources import ingest_images
from ops.errors import AmalgamError
from ops.files import read_json
from ops.progress import Silent

READERS = {
    "camelyon17": (Camelyon17Config, read_camelyon17, {}),
    "chestxray": (ChestXrayConfig, read_chestxray, {}),
    "dermatology": (DermatologyConfig, read_dermatology, {"shift": ["clinic_c"], "min_images": 8}),
}


class Notes(Silent):
    def __init__(self):
        self.lines = []

    def note(self, message):
        self.lines.append(message)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    home = tmp_path_factory.mktemp("originals")
    return {layout: getattr(downloads, layout)(home / layout / layout).parent for layout in READERS}


@pytest.fixture
def bring(originals, tmp_path):
    """Return a function that imports a fresh copy of a download, changed by `spoil`; it returns table, left out, dataset."""

    def run(layout, spoil=lambda source: None, notes=None, **settings):
        kind, read, usual = READERS[layout]
        holder = tmp_path / "data" / "downloads"
        shutil.rmtree(holder, ignore_errors=True)
        shutil.copytree(originals[layout], holder)
        source, out = holder / layout, tmp_path / "data" / layout
        spoil(source)
        config = kind(**{"missing": "skip", **usual, **settings})
        write_dataset(layout, read(config, source), config, source, out, notes or Silent())
        left_out = pd.read_csv(out / "left_out.csv")
        table = pd.read_parquet(out / "table.parquet")
        return table, dict(zip(left_out["file"], left_out["reason"], strict=True)), read_json(out / "dataset.json")

    return run


def patch(patient, x, y, node=0):
    place = f"patient_{patient}_node_{node}"
    return f"patches/{place}/patch_{place}_x_{x}_y_{y}.png"


def test_camelyon17(bring):
    notes = Notes()
    table, left_out, dataset = bring("camelyon17", notes=notes)
    assert left_out == {patch("000", 9999, 9999): "the file is missing", patch("060", 0, 0): "no label"}
    rows = table.set_index("file")
    assert len(rows) == 5 * 4 * 4
    one = rows.loc[patch("081", 32, 64, node=1)]
    assert (one["label"], one["domain"], one["hospital"], one["concept"]) == (
        "tumour",
        "hospital_4",
        "4",
        "patient_081",
    )
    assert one["caption"] == "lymph node tissue with tumour"
    assert rows.loc[patch("020", 64, 128), "label"] == "normal"
    assert set(table.loc[table["split"] == "shift", "domain"]) == {"hospital_1", "hospital_2"}
    inside = table[table["split"] != "shift"]
    assert (inside.groupby("concept")["split"].nunique() == 1).all()
    assert (inside.groupby("domain")["split"].nunique() == 3).all(), "every training hospital is in every split"
    assert dataset["classes"] == ["normal", "tumour"]
    assert dataset["attributes"] == {"hospital": ["0", "1", "2", "3", "4"]}
    assert any(line.startswith("3 of the patients in WILDS") for line in notes.lines)
    assert any(line.startswith("3 unlabelled patches") for line in notes.lines)


def test_other_hospitals_of_camelyon17(bring):
    table, left_out, _ = bring("camelyon17", train=[0, 1], shift=[4])
    assert table.groupby("split")["hospital"].agg(set).to_dict() == {
        **{split: {"0", "1"} for split in ("train", "validation", "test")},
        "shift": {"4"},
    }
    other = [file for file, reason in left_out.items() if "neither" in reason]
    assert len(other) == 2 * 16
    with pytest.raises(AmalgamError, match=r"no row of metadata\.csv is of hospital 7"):
        bring("camelyon17", shift=[1, 7])
    with pytest.raises(ValueError, match="hospital 3 cannot be"):
        Camelyon17Config(shift=[3])


def view(patient, study, part="train", name="frontal"):
    return f"CheXpert-v1.0-small/{part}/patient{patient:05d}/study{study}/view1_{name}.jpg"


def test_chestxray(bring):
    table, left_out, dataset = bring("chestxray")
    assert left_out == {
        view(0, 3, name="lateral"): "not a frontal view",
        view(1, 3): "the finding is uncertain",
        view(2, 3): "no label",
        view(16, 1): "sex is not known",
        "nih/images/00000009_000.png": "the file is missing",
    }
    rows = table.set_index("file")
    assert len(rows) == 16 * 2 + 2 + 8 * 2
    assert rows.loc[view(0, 2), "label"] == "no pleural effusion", "not mentioned, beside another finding, is absent"
    assert rows.loc[view(3, 1), ["label", "sex", "age"]].tolist() == ["pleural effusion", "male", "20-39"]
    assert rows.loc[[view(64541, 1, "valid"), view(64542, 1, "valid")], "split"].tolist() == ["validation"] * 2
    nih = rows[rows["domain"] == "nih"]
    assert set(nih["split"]) == {"shift"}
    one = nih.loc["nih/images_002/images/00000005_001.png"]
    assert one[["label", "sex", "age", "concept"]].tolist() == ["pleural effusion", "male", "40-59", "nih/5"]
    ages = nih.groupby("concept")["age"].first()
    assert ages[["nih/4", "nih/2", "nih/3"]].tolist() == ["40-59", "0-19", "unknown"], "058Y, 011M, 414"
    inside = table[table["split"] != "shift"]
    assert (inside.groupby("concept")["split"].nunique() == 1).all()
    assert dataset["classes"] == ["no pleural effusion", "pleural effusion"]


@pytest.mark.parametrize(
    ("uncertain", "label"), [("positive", "pleural effusion"), ("negative", "no pleural effusion")]
)
def test_uncertain_findings_become_what_is_asked(bring, uncertain, label):
    table, left_out, _ = bring("chestxray", uncertain=uncertain)
    assert view(1, 3) not in left_out
    assert table.set_index("file").loc[view(1, 3), "label"] == label


def test_race_is_taken_from_a_table_of_demographics(bring, tmp_path):
    people = [["patient00000", "White, non-Hispanic"], ["patient00001", "Black or African American"]]
    people += [["patient00002", "Asian - Historical Conv"], ["patient00003", "Pacific Islander"]]
    people += [["patient00004", "Unknown"]]
    downloads.write_csv(tmp_path / "demo.csv", ["PATIENT", "PRIMARY_RACE"], people)
    table, _, dataset = bring("chestxray", demographics=tmp_path / "demo.csv")
    race = table.drop_duplicates("concept").set_index("concept")["race"]
    found = [race[f"chexpert/patient{n:05d}"] for n in range(6)]
    assert found == ["White", "Black", "Asian", "other", "unknown", "unknown"]
    assert set(race[race.index.str.startswith("nih")]) == {"unknown"}
    assert dataset["imported"]["settings"]["demographics"] == "demo.csv", "where it was is nobody's business"


def test_a_finding_that_no_training_image_has(bring):
    with pytest.raises(AmalgamError, match="no training image is of class 'cardiomegaly'"):
        bring("chestxray", finding="Cardiomegaly")


def test_dermatology(bring):
    notes = Notes()
    table, left_out, dataset = bring("dermatology", notes=notes)
    assert set(left_out.values()) == {
        "diagnosis with fewer than 8 training images",
        "no label",
        "sex is not known",
        "the file is missing",
    }
    assert len(left_out) == 4
    assert len(table) == 3 * 3 * 4 * 2
    one = table.set_index("file").loc["images/clinic_a/ISIC_0000010.jpg"]
    assert one[["label", "domain", "sex", "age", "skin_tone", "concept"]].tolist() == [
        *("nevus", "clinic_a", "male", "60-79", "5", "patient clinic_a-NV-1")
    ]
    assert set(table.loc[table["split"] == "shift", "domain"]) == {"clinic_c"}
    assert dataset["classes"] == ["basal cell carcinoma", "melanoma", "nevus"]
    assert dataset["attributes"]["skin_tone"] == ["2", "5", "unknown"]
    assert dataset["notes"]["high risk"] == "basal cell carcinoma, melanoma"
    assert notes.lines == ["classes that must not be missed: basal cell carcinoma, melanoma"]


def test_dermatology_by_skin_tone(bring):
    table, left_out, dataset = bring("dermatology", require=["skin_tone"], min_images=2)
    assert dataset["groups"] == "skin_tone"
    assert set(table["skin_tone"]) == {"2", "5"}
    assert sum(reason == "skin tone is not known" for reason in left_out.values()) == 24
    assert "unknown" in dataset["attributes"]["sex"], "what is not required may be unknown"


def rename(source: Path, old: str, new: str) -> None:
    path = source / "metadata.csv"
    path.write_text(path.read_text().replace(old, new))


def test_columns_of_other_names(bring):
    table, _, _ = bring("dermatology")
    other, _, _ = bring("dermatology", lambda s: rename(s, "source", "where"), columns={"source": "where"})
    assert other.equals(table)
    with pytest.raises(AmalgamError, match="no column for source") as error:
        bring("dermatology", lambda s: rename(s, ",source,", ",where,"))
    assert "--column source=NAME" in error.value.remedy
    with pytest.raises(AmalgamError, match="no column 'nowhere' for sex"):
        bring("dermatology", columns={"sex": "nowhere"})


def test_lesions_and_images_stand_in_for_patients(bring):
    table, _, _ = bring("dermatology", lambda s: rename(s, "patient_id", "nobody"))
    assert table["concept"].str.match(r"lesion IL_\d+").all()
    table, _, _ = bring("dermatology", lambda s: rename(s, "patient_id,lesion_id", "nobody,nothing"))
    assert table["concept"].tolist() == [f"image {file}" for file in table["file"]]


def test_a_patient_of_a_training_source_is_not_out_of_distribution(bring):
    table, left_out, _ = bring("dermatology", lambda s: rename(s, "clinic_c-NV-0", "clinic_a-NV-0"))
    assert sum("of a patient that training sources have too" in reason for reason in left_out.values()) == 2
    assert "patient clinic_a-NV-0" not in set(table.loc[table["split"] == "shift", "concept"])


def test_sources_and_names_that_mean_nothing(bring):
    with pytest.raises(AmalgamError, match="no image is of the source 'clinic_x'"):
        bring("dermatology", shift=["clinic_x"])
    with pytest.raises(AmalgamError, match="all sources are out of distribution"):
        bring("dermatology", shift=["clinic_a", "clinic_b", "clinic_c"])

    def copy(source):
        shutil.copy(source / "images/clinic_a/ISIC_0000000.jpg", source / "images/clinic_b/ISIC_0000000.jpg")

    with pytest.raises(AmalgamError, match="ISIC_0000000 can be 2 files"):
        bring("dermatology", copy)
    with pytest.raises(AmalgamError, match=r"no image of metadata\.csv can be taken"):
        bring("dermatology", min_images=1000)


def with_unlabelled(patients):
    """Return a change that draws two unlabelled patches of each patient, a number and a hospital, inside the download."""

    def change(source):
        rows = []
        for patient, hospital in patients:
            place = f"patient_{patient}_node_3"
            for x in (0, 32):
                path = source / "camelyon17_unlabeled_v1.0" / "patches" / place / f"patch_{place}_x_{x}_y_7.png"
                downloads.draw(path, 0, hospital, np.random.default_rng(x + int(patient)))
                rows.append([len(rows), patient, 3, x, 7, -1, 60, hospital, 10])
        header = ["", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
        downloads.write_csv(source / "camelyon17_unlabeled_v1.0" / "metadata.csv", header, rows)

    return change


def test_unlabelled_patches_of_camelyon17_are_for_generators_only(bring, tmp_path):
    """Hospital 0 is trained on, 1 is not; patients 000 to 003 have labels and are dealt out, 010 has none."""
    patients = [("000", 0), ("001", 0), ("002", 0), ("003", 0), ("010", 0), ("025", 1)]
    table, left_out, dataset = bring("camelyon17", with_unlabelled(patients))
    before, _, plain = bring("camelyon17")
    free = table[table["split"] == "unlabelled"]
    roles = before.groupby("concept")["split"].first()
    expected = {f"patient_{p}" for p, h in patients if h == 0 and roles.get(f"patient_{p}", "train") == "train"}
    assert set(free["concept"]) == expected
    assert 2 <= len(expected) < 5
    assert free.groupby("concept").size().eq(2).all()
    assert (free["label"] == "").all()
    assert (free["caption"] == "").all()
    assert set(free["domain"]) == {"hospital_0"}
    reasons = {file.split("/")[2][8:11]: reason for file, reason in left_out.items() if "unlabeled" in file}
    assert reasons.pop("025") == "unlabelled, of a hospital that is not trained on"
    assert set(reasons.values()) == {"unlabelled, but of a patient that evaluation has too"}
    pd.testing.assert_frame_equal(table[table["split"] != "unlabelled"].reset_index(drop=True), before)
    for key in ("classes", "domains", "attributes"):
        assert dataset[key] == plain[key]
    raw = tmp_path / "raw"
    raw.mkdir()
    bring("camelyon17", with_unlabelled(patients))
    config = RawImagesConfig(dataset="data/camelyon17", image_size=16)
    assert ingest_images(config, tmp_path / "data" / "camelyon17", raw, Silent()).figures["images"] == len(table)
    assert pd.read_parquet(raw / "images.parquet").query("split == 'unlabelled'")["label"].isna().all()


def test_unlabelled_patches_of_camelyon17_may_stay_out(bring):
    notes = Notes()
    table, _, _ = bring("camelyon17", with_unlabelled([("010", 0)]), notes=notes, unlabelled=False)
    assert "unlabelled" not in set(table["split"])
    assert any("2 unlabelled patches" in line and "left out" in line for line in notes.lines)
