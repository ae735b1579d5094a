"""CheXpert as in distribution, NIH ChestX-ray14 as the shift: is one finding there, or not.

A folder that holds both downloads, or links to none:

    CheXpert-v1.0-small/train.csv, valid.csv    Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding, ... Support Devices
    CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
    nih/Data_Entry_2017.csv                     Image Index,Finding Labels, ... Patient ID,Patient Age,Patient Gender, ...
    nih/images_001/images/00000001_000.png

The folders may have other names; the tables tell which is which. CheXpert's `Path` begins with the name of its folder.

Deviation from Ktena et al. (2024): their task is multi-label, several findings at once. An image has one label here, so that
the task is one finding, present or absent, which `finding` names. CheXpert says 1, 0, -1 (uncertain) or nothing of a finding;
nothing means absent where the report says something of any of the 14, and no label where it says nothing at all. Only frontal
views are taken, as ChestX-ray14 has no others. `valid.csv` becomes validation.
"""

from pathlib import Path

import pandas as pd

from ops.data.layouts.config import ChestXrayConfig
from ops.data.layouts.images import index_images
from ops.data.layouts.listing import COLUMNS, Listing, Sieve, named, read_columns
from ops.data.layouts.people import AGES, UNKNOWN, age_of, race_of, sex_of
from ops.errors import AmalgamError

FINDINGS = [
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"),
    *("Fracture", "Support Devices"),
]
CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", *FINDINGS]
NIH = ["Image Index", "Finding Labels", "Patient ID", "Patient Age"]
NIH_SEX = ("Patient Gender", "Patient Sex")
NIH_NAMES = {"Pleural Effusion": "Effusion"}
"""NIH's name of a finding, where it is not CheXpert's."""


def read_chestxray(config: ChestXrayConfig, source: Path) -> Listing:
    """Return the frontal images of both datasets with the finding's presence as label.

    Raises AmalgamError if one of the tables is not found once in `source` or a folder in it, or is not of its layout.
    """
    chexpert, nih = _table_in(source, "train.csv"), _table_in(source, "Data_Entry_2017*.csv")
    sieves = [_chexpert(config, source, chexpert.parent), _nih(config, source, nih)]
    race = ["race"] if config.demographics else []
    finding = config.finding.lower()
    classes = [f"no {finding}", finding]
    tables = []
    for sieve in sieves:
        sieve.drop(sieve.table["sex"] == UNKNOWN, "sex is not known")
        label = sieve.table["present"].map({True: classes[1], False: classes[0]})
        words = sieve.table["present"].map({True: "with", False: "without"})
        told = {"label": label, "caption": "chest X-ray " + words + f" {finding}"}
        tables.append(sieve.table.assign(**told)[[*COLUMNS, "sex", "age", *race]])
    dataset = {
        "name": "chexpert-nih",
        "classes": classes,
        "groups": "sex",
        "licence": "by domain: the terms of Stanford (CheXpert) and NIH (ChestX-ray14)",
        "caption_templates": ["{subject}", "a frontal {subject}", "{subject}, radiograph", "{label}: {subject}"],
        "attribute_phrases": {"sex": "{}", "age": "{}", "race": "{}"},
        "attribute_names": {
            "age": {**{band: f"aged {band}" for band in AGES}, UNKNOWN: "age unknown"},
            "race": {"other": "another race", UNKNOWN: "race unknown"},
        },
        "notes": {
            "real": "Radiographs of CheXpert (Irvin et al. 2019) and ChestX-ray14 (Wang et al. 2017); labels were read out "
            "of reports by programs, differently in each, but for CheXpert's validation set.",
            "arranged": f"The task: {finding} or not, uncertain labels: {config.uncertain}. The splits: CheXpert's patients "
            "are dealt out, its own validation set is in validation, ChestX-ray14 is out of distribution.",
        },
    }
    left_out = pd.concat([sieve.left_out for sieve in sieves], ignore_index=True)
    return Listing(pd.concat(tables, ignore_index=True), left_out, dataset)


def _table_in(source: Path, pattern: str) -> Path:
    """Return the one file of that name in `source` or in a folder in it."""
    found = sorted([*source.glob(pattern), *source.glob(f"*/{pattern}")])
    if len(found) == 1:
        return found[0]
    what = "has no" if not found else f"has {len(found)} files"
    raise AmalgamError(
        f"{source} {what} {pattern}", "put CheXpert and ChestX-ray14, each once, into one folder, and name that folder"
    )


def _chexpert(config: ChestXrayConfig, source: Path, folder: Path) -> Sieve:
    """Return CheXpert's images with what is known of them, and `present`."""
    parts = [read_columns(folder / name, CHEXPERT).assign(csv=name) for name in ("train.csv", "valid.csv")]
    found = pd.concat(parts, ignore_index=True)
    below = found["Path"].str.replace(r"^(?:\./)?CheXpert-v1\.0[^/]*/", "", regex=True)
    found["file"] = _joined(folder.relative_to(source).as_posix(), below)
    patient = found["Path"].str.extract(r"(patient\d+)")[0]
    if patient.isna().any():
        strange = found.loc[patient.isna(), "Path"].tolist()
        raise AmalgamError(f"{len(strange)} paths name no patient: {named(strange)}", "is this CheXpert's train.csv?")
    stated = found[FINDINGS].ne("").any(axis=1)
    values = pd.to_numeric(found[config.finding].replace("", "0"), errors="coerce")
    if not values.isin([-1, 0, 1]).all():
        strange = found.loc[~values.isin([-1, 0, 1]), config.finding].unique().tolist()
        raise AmalgamError(f"{config.finding} is {named(strange)} in CheXpert's table", "it is 1, 0, -1 or empty")
    found = found.assign(
        present=(values == 1) | ((values == -1) & (config.uncertain == "positive")),
        split=found["csv"].map({"train.csv": "", "valid.csv": "validation"}),
        domain="chexpert",
        concept="chexpert/" + patient,
        sex=sex_of(found["Sex"]),
        age=age_of(found["Age"]),
    )
    if config.demographics:
        known = read_columns(config.demographics, ["PATIENT", "PRIMARY_RACE"]).drop_duplicates("PATIENT")
        table = dict(zip(known["PATIENT"], race_of(known["PRIMARY_RACE"]), strict=True))
        found["race"] = patient.map(table).fillna(UNKNOWN)
    found["unlabelled"], found["unsure"] = ~stated, values == -1
    sieve = Sieve(found)
    sieve.drop(sieve.table["Frontal/Lateral"].str.lower() != "frontal", "not a frontal view")
    sieve.drop(sieve.table["unlabelled"], "no label")
    if config.uncertain == "drop":
        sieve.drop(sieve.table["unsure"], "the finding is uncertain")
    return sieve


def _nih(config: ChestXrayConfig, source: Path, path: Path) -> Sieve:
    """Return the images of ChestX-ray14 with what is known of them, and `present`."""
    found = read_columns(path, NIH, NIH_SEX)
    sex = next((name for name in NIH_SEX if name in found), None)
    if sex is None:
        raise AmalgamError(f"{path.name} lacks the column {NIH_SEX[0]}", "download it again")
    folder = path.parent
    places = sorted(place.name for place in folder.glob("images*") if place.is_dir())
    paths = {Path(each[0]).name: each[0] for each in index_images(folder, places).values()}
    names = found["Image Index"]
    found["file"] = _joined(folder.relative_to(source).as_posix(), names.map(paths).fillna("images/" + names))
    wanted = NIH_NAMES.get(config.finding, config.finding)
    found = found.assign(
        present=found["Finding Labels"].str.split("|").map(lambda labels: wanted in labels),
        split="shift",
        domain="nih",
        concept="nih/" + found["Patient ID"],
        sex=sex_of(found[sex]),
        age=age_of(found["Patient Age"]),
        **({"race": UNKNOWN} if config.demographics else {}),
    )
    sieve = Sieve(found)
    sieve.drop(sieve.table["Finding Labels"] == "", "no label")
    return sieve


def _joined(folder: str, files: pd.Series) -> pd.Series:
    return files if folder == "." else f"{folder}/" + files
