"""CAMELYON17-WILDS: patches of lymph node sections from five hospitals, with or without tumour.

What WILDS' `get_dataset("camelyon17", download=True)` leaves in `camelyon17_v1.0`:

    metadata.csv    patient,node,x_coord,y_coord,tumor,slide,center,split
    patches/patient_004_node_4/patch_patient_004_node_4_x_3328_y_21792.png

The domain is the hospital (`center`), and so is the attribute, which is the property that Ktena et al. (2024) condition
on; hospitals 1 and 2 are WILDS' out-of-distribution validation and test sets, and are the split `shift` here.

Patches without a label, on which the paper's diffusion model was trained too, are WILDS' separate download
`camelyon17_unlabeled_v1.0`, of the same columns. Where it was moved into `camelyon17_v1.0`, those of the training hospitals
become the split `unlabelled`; beside it they are counted and left out.

Two deviations from WILDS and the paper. Its in-distribution validation set (column `split`) is not used: patients are dealt
out instead, so that no patient is in two splits. And unlabelled patches of a patient on whom anything is evaluated are left
out.
"""

from pathlib import Path

import pandas as pd

from ops.data.config import UNLABELLED
from ops.data.layouts.config import Camelyon17Config
from ops.data.layouts.listing import COLUMNS, Listing, Sieve, read_columns
from ops.errors import AmalgamError

METADATA = ["patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
SEPARATE = "camelyon17_unlabeled_v1.0"
CLASSES = {"0": "normal", "1": "tumour"}
CAPTIONS = {"normal": "lymph node tissue without tumour", "tumour": "lymph node tissue with tumour"}


def read_camelyon17(config: Camelyon17Config, source: Path) -> Listing:
    """Return the labelled patches of the hospitals that `config` names, and unlabelled ones of those that are trained on.

    Raises AmalgamError if `metadata.csv` is not of this layout, or if a hospital of `config` never occurs.
    """
    found = read_columns(source / "metadata.csv", METADATA)
    found["file"] = _files(found)
    _check_hospitals(config, found["center"])
    shared = _shared_patients(found[found["center"].isin(map(str, config.train))])
    sieve = Sieve(found)
    sieve.drop(~sieve.table["tumor"].isin(CLASSES), "no label")
    wanted = [str(hospital) for hospital in (*config.train, *config.shift)]
    sieve.drop(~sieve.table["center"].isin(wanted), "of a hospital that is neither trained on nor shifted to")
    table = sieve.table
    hospital = table["center"]
    label = table["tumor"].map(CLASSES)
    table = table.assign(
        label=label,
        domain="hospital_" + hospital,
        split=pd.Series("", index=table.index).mask(hospital.isin(map(str, config.shift)), "shift"),
        caption=label.map(CAPTIONS),
        concept="patient_" + table["patient"],
        hospital=hospital,
    )[[*COLUMNS, "hospital"]]
    notes = [
        f"{shared} of the patients in WILDS' in-distribution validation set are in its training set too; here none is"
    ]
    left_out = sieve.left_out
    if config.unlabelled and (source / SEPARATE).is_dir():
        free = _unlabelled(config, source)
        table, left_out = pd.concat([table, free.table], ignore_index=True), pd.concat([left_out, free.left_out])
        notes.append(f"{len(free.table)} unlabelled patches of the training hospitals are for generators only")
    elif number := _count(source):
        hint = "" if (source / SEPARATE).is_dir() else f": moved into {source.name}, generators would learn from them"
        notes.append(f"{number} unlabelled patches in {SEPARATE} are left out{hint}")
    dataset = {
        "name": "camelyon17-wilds",
        "groups": "hospital",
        "licence": "CC0-1.0",
        "caption_templates": [
            "{subject}",
            "a histology patch, {subject}",
            "{subject}, H&E stain",
            "{label}: {subject}",
        ],
        "attribute_phrases": {"hospital": "{}"},
        "attribute_names": {"hospital": {str(h): f"hospital {h}" for h in sorted((*config.train, *config.shift))}},
        "notes": {
            "real": "Patches of CAMELYON17 (Bandi et al. 2018) as WILDS cut them, with its labels: tumour means that the "
            "central 32 x 32 pixels show some. The hospital is domain and attribute.",
            "arranged": "The splits: patients are dealt out within each training hospital; hospitals "
            f"{', '.join(map(str, config.shift)) or 'none'} are out of distribution.",
        },
    }
    return Listing(table, left_out, dataset, notes)


def _unlabelled(config: Camelyon17Config, source: Path) -> Sieve:
    """Return the unlabelled patches of the training hospitals, of which no caption says what they show."""
    found = read_columns(source / SEPARATE / "metadata.csv", [*METADATA[:4], "center"])
    found["file"] = f"{SEPARATE}/" + _files(found)
    sieve = Sieve(found)
    sieve.drop(~sieve.table["center"].isin(map(str, config.train)), "unlabelled, of a hospital that is not trained on")
    hospital = sieve.table["center"]
    sieve.table = sieve.table.assign(
        label="",
        domain="hospital_" + hospital,
        split=UNLABELLED,
        caption="",
        concept="patient_" + sieve.table["patient"],
        hospital=hospital,
    )[[*COLUMNS, "hospital"]]
    return sieve


def _files(found: pd.DataFrame) -> pd.Series:
    place = "patient_" + found["patient"] + "_node_" + found["node"]
    return "patches/" + place + "/patch_" + place + "_x_" + found["x_coord"] + "_y_" + found["y_coord"] + ".png"


def _check_hospitals(config: Camelyon17Config, centers: pd.Series) -> None:
    known = sorted(set(centers))
    for hospital in (*config.train, *config.shift):
        if str(hospital) not in known:
            raise AmalgamError(
                f"no row of metadata.csv is of hospital {hospital}",
                f"its column center has {', '.join(known)}; choose among them with --train and --shift",
            )


def _shared_patients(found: pd.DataFrame) -> int:
    """Return how many patients have rows in both parts of WILDS' split (0 training, 1 validation)."""
    parts = [set(found.loc[found["split"] == part, "patient"]) for part in ("0", "1")]
    return len(parts[0] & parts[1])


def _count(source: Path) -> int:
    """Return how many patches the unlabelled download has, if it is in `source` or beside it."""
    for path in (source / SEPARATE / "metadata.csv", source.parent / SEPARATE / "metadata.csv"):
        if path.is_file():
            with path.open("rb") as lines:
                return max(sum(1 for _ in lines) - 1, 0)
    return 0
