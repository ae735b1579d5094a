"""Tiny downloads in the layouts of their publishers, wrong rows included; the images are drawn here and show nothing real.

Each function fills a folder and returns it. What an import must make of it is written in the tests by hand.
"""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

FINDINGS = [
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other"),
    *("Fracture", "Support Devices"),
]


def draw(path: Path, label: int, group: int, rng: np.random.Generator, mode: str = "RGB") -> None:
    """Save a 16 x 16 picture: a disc whose size says the label, tinted by the group, in noise."""
    y, x = np.mgrid[:16, :16]
    cy, cx = rng.uniform(6, 10, 2)
    pixels = np.full((16, 16, 3), 200 - 25 * group, np.float64)
    pixels[(y - cy) ** 2 + (x - cx) ** 2 < (2 + 1.5 * label) ** 2] = [90, 40 + 30 * group, 140]
    image = Image.fromarray(np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path)


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def camelyon17(folder: Path) -> Path:
    """WILDS' folder: 5 hospitals of 4 patients, each with 2 patches of either class.

    Wrong rows: one whose file is not there (hospital 0) and one without a label (hospital 3). Beside the folder, the
    unlabelled download lists 3 patches.
    """
    rng = np.random.default_rng(0)
    rows: list[list] = []
    for hospital in range(5):
        for number in range(4):
            patient = f"{20 * hospital + number:03d}"
            for patch in range(4):
                place = f"patient_{patient}_node_{number % 2}"
                x, y = 32 * patch, 64 * patch
                path = folder / "patches" / place / f"patch_{place}_x_{x}_y_{y}.png"
                draw(path, patch % 2, hospital, rng, "RGBA")
                published = int(patch == 3 and number == 0)
                slide = 4 * hospital + number
                rows.append([len(rows), patient, number % 2, x, y, patch % 2, slide, hospital, published])
    rows.append([len(rows), "000", 0, 9999, 9999, 1, 0, 0, 0])
    rows.append([len(rows), "060", 0, 0, 0, "", 12, 3, 0])
    header = ["", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
    write_csv(folder / "metadata.csv", header, rows)
    unlabelled = [[n, "099", 0, n, n, "-1", 60, 0, 10] for n in range(3)]
    write_csv(folder.parent / "camelyon17_unlabeled_v1.0" / "metadata.csv", header, unlabelled)
    return folder


def chestxray(folder: Path) -> Path:
    """Both downloads: CheXpert with 16 patients of 2 frontal images and 2 for validation, ChestX-ray14 with 8 of 2.

    Every second patient has an effusion, every second pair of them is female. Wrong rows of CheXpert: a lateral view, an
    uncertain effusion, nothing said at all, and a patient whose sex is unknown; of ChestX-ray14, a file that is not there.
    """
    rng = np.random.default_rng(1)
    train: list[list] = []
    valid: list[list] = []

    def add(
        rows: list, part: str, patient: int, study: int, effusion: str, *, view="Frontal", sex=None, rest=""
    ) -> None:
        name = f"{part}/patient{patient:05d}/study{study}/view1_{view.lower()}.jpg"
        draw(folder / "CheXpert-v1.0-small" / name, effusion == "1.0", patient // 2 % 2, rng, "L")
        findings = [effusion if f == "Pleural Effusion" else rest if f == "Support Devices" else "" for f in FINDINGS]
        sex = sex or ("Female", "Male")[patient // 2 % 2]
        rows.append([f"CheXpert-v1.0-small/{name}", sex, 30 + 3 * patient, view, "AP", *findings])

    for patient in range(16):
        for study in (1, 2):
            effusion = (
                "1.0" if patient % 2 else ("0.0", "")[study - 1]
            )  # not mentioned, beside another finding, is absent
            add(train, "train", patient, study, effusion, rest="1.0")
    add(train, "train", 0, 3, "1.0", view="Lateral")
    add(train, "train", 1, 3, "-1.0")
    add(train, "train", 2, 3, "")
    add(train, "train", 16, 1, "1.0", sex="Unknown")
    for patient in (64541, 64542):
        add(valid, "valid", patient, 1, "1.0" if patient % 2 else "0.0")
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
    write_csv(folder / "CheXpert-v1.0-small" / "train.csv", header, train)
    write_csv(folder / "CheXpert-v1.0-small" / "valid.csv", header, valid)
    nih: list[list] = []
    for patient in range(1, 9):
        for follow_up in (0, 1):
            name = f"{patient:08d}_{follow_up:03d}.png"
            draw(
                folder / "nih" / f"images_00{1 + patient % 2}" / "images" / name,
                patient % 2,
                patient // 2 % 2,
                rng,
                "L",
            )
            labels = "Cardiomegaly|Effusion" if patient % 2 else ("No Finding", "Infiltration")[follow_up]
            age = ["058Y", "41", "011M", "414"][patient % 4]
            nih.append([name, labels, follow_up, patient, age, "MF"[patient // 2 % 2], "PA", 16, 16, 0.143, 0.143, ""])
    nih.append(["00000009_000.png", "Effusion", 0, 9, "60", "F", "AP", 16, 16, 0.143, 0.143, ""])
    names = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"]
    sizes = ["View Position", "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]", ""]
    write_csv(folder / "nih" / "Data_Entry_2017.csv", [*names, *sizes], nih)
    return folder


def dermatology(folder: Path) -> Path:
    """An archive's table: 3 sources, 3 diagnoses with 4 patients each, 2 images a patient.

    Wrong rows: a diagnosis with one image, a person of unknown sex, one without a diagnosis, and a file that is not there.
    """
    rng = np.random.default_rng(2)
    rows: list[list] = []

    def add(diagnosis: str, source: str, patient: str, sex: str, group: int = 0, *, there: bool = True) -> None:
        name = f"ISIC_{len(rows):07d}"
        if there:
            label = ("melanoma", "NV", "BCC").index(diagnosis) if diagnosis in ("melanoma", "NV", "BCC") else 0
            draw(folder / "images" / source / f"{name}.jpg", label, group, rng)
        age, tone = (35.0, 62.0, "")[len(rows) % 3], ("II", "5", "")[len(rows) % 3]
        rows.append([name, diagnosis, source, patient, f"IL_{len(rows)}", sex, age, tone])

    for source in ("clinic_a", "clinic_b", "clinic_c"):
        for diagnosis in ("melanoma", "NV", "BCC"):
            for patient in range(4):
                for _ in range(2):
                    add(
                        diagnosis,
                        source,
                        f"{source}-{diagnosis}-{patient}",
                        ("female", "male")[patient % 2],
                        patient % 2,
                    )
    add("dermatofibroma", "clinic_a", "p1", "male")
    add("melanoma", "clinic_b", "p3", "")
    add("", "clinic_a", "p2", "female")
    add("melanoma", "clinic_b", "p4", "male", there=False)
    header = ["isic_id", "diagnosis", "source", "patient_id", "lesion_id", "sex", "age_approx", "fitzpatrick_skin_type"]
    write_csv(folder / "metadata.csv", header, rows)
    return folder
