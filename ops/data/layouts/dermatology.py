"""Images of skin lesions with a table, as archives such as ISIC's hand them out.

    metadata.csv    one row an image; columns by what they hold, the first known name that is there:
                    image       isic_id, image_name, image_id, image: the file's name, with its folder and suffix or without
                    diagnosis   diagnosis, dx: the class (short names such as mel, nv and bcc are spelt out)
                    source      source, dataset, site, attribution: where it was taken, which is the domain
                    patient     patient_id;  lesion   lesion_id: what splits must not tear apart
                    sex         sex;  age   age_approx, age;  skin_tone   fitzpatrick_skin_type, fitzpatrick, skin_tone
    *.jpg, *.png    anywhere below

`columns` names others. Image, diagnosis and source are needed, and at least one of sex, age and skin tone. A table with one
column for each diagnosis must be turned into one with a column of diagnoses first.

Ktena et al. (2024) worked on data that are not public; this is the layout of public ones. Sources of `shift` are out of
distribution. Classes that must not be missed are those of the paper: basal cell carcinoma, melanoma, and squamous cell
carcinoma with its in situ form.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ops.data.layouts.config import DermatologyConfig, Role
from ops.data.layouts.images import SUFFIXES, index_images
from ops.data.layouts.listing import COLUMNS, Listing, Sieve, header_of, named, read_columns
from ops.data.layouts.people import AGES, UNKNOWN, age_of, is_nothing, sex_of, skin_tone_of
from ops.errors import AmalgamError

NAMES: Mapping[Role, tuple[str, ...]] = {
    "image": ("isic_id", "image_name", "image_id", "image"),
    "diagnosis": ("diagnosis", "dx"),
    "source": ("source", "dataset", "site", "attribution"),
    "patient": ("patient_id",),
    "lesion": ("lesion_id",),
    "sex": ("sex",),
    "age": ("age_approx", "age"),
    "skin_tone": ("fitzpatrick_skin_type", "fitzpatrick", "skin_tone"),
}
NEEDED: tuple[Role, ...] = ("image", "diagnosis", "source")
KNOWN = {"sex": sex_of, "age": age_of, "skin_tone": skin_tone_of}
SPELT_OUT = {
    "mel": "melanoma",
    "bcc": "basal cell carcinoma",
    "scc": "squamous cell carcinoma",
    "scc/sccis": "squamous cell carcinoma",
    "squamous cell carcinoma in situ": "squamous cell carcinoma",
    "nv": "nevus",
    "bkl": "benign keratosis",
    "ak": "actinic keratosis",
    "akiec": "actinic keratosis",
    "df": "dermatofibroma",
    "vasc": "vascular lesion",
}
HIGH_RISK = ("basal cell carcinoma", "melanoma", "squamous cell carcinoma")


def read_dermatology(config: DermatologyConfig, source: Path) -> Listing:
    """Return the images with a diagnosis that the training sources have often enough.

    Raises AmalgamError if a column is missing, if a source of `config.shift` never occurs, if all sources are in it, or if a
    name belongs to several files.
    """
    columns = _columns(config, source / config.metadata)
    found = read_columns(source / config.metadata, list(dict.fromkeys(columns.values())))
    told = pd.DataFrame({role: found[name] for role, name in columns.items()})
    attributes = [role for role in KNOWN if role in columns]
    told = told.assign(**{role: KNOWN[role](told[role]) for role in attributes})
    told["file"] = _files(told["image"], source)
    _check_sources(config, told["source"])
    label = told["diagnosis"].str.lower().str.replace(r"[\s_]+", " ", regex=True)
    told["label"] = label.replace(SPELT_OUT)
    told["split"] = pd.Series("", index=told.index).mask(told["source"].isin(config.shift), "shift")
    told["concept"] = _concepts(told)
    sieve = Sieve(told)
    sieve.drop(is_nothing(sieve.table["diagnosis"]), "no label")
    sieve.drop(is_nothing(sieve.table["source"]), "source is not known")
    for role in config.require:
        sieve.drop(sieve.table[role] == UNKNOWN, f"{role.replace('_', ' ')} is not known")
    counts = sieve.table.loc[sieve.table["split"] == "", "label"].value_counts()
    often = counts.index[counts >= config.min_images]
    sieve.drop(~sieve.table["label"].isin(often), f"diagnosis with fewer than {config.min_images} training images")
    if sieve.table.empty:
        raise AmalgamError(
            f"no image of {config.metadata} can be taken: {_reasons(sieve)}", "see --help for what is left out, and why"
        )
    table = sieve.table.assign(domain=sieve.table["source"], caption=sieve.table["label"])[[*COLUMNS, *attributes]]
    high_risk = ", ".join(name for name in HIGH_RISK if name in set(table["label"])) or "none of the classes"
    dataset = {
        "name": "dermatology",
        "groups": config.require[0] if config.require else attributes[0],
        "licence": "that of the source; see the table",
        "caption_templates": ["{subject}", "a skin lesion, {subject}", "{subject}, photograph", "{label}: {subject}"],
        "attribute_phrases": {"sex": "{}", "age": "{}", "skin_tone": "{}"},
        "attribute_names": {
            "age": {**{band: f"aged {band}" for band in AGES}, UNKNOWN: "age unknown"},
            "skin_tone": {**{tone: f"skin type {tone}" for tone in "123456"}, UNKNOWN: "skin type unknown"},
        },
        "notes": {
            "real": "Images, diagnoses and what is said of people are those of the table.",
            "arranged": "The splits: patients (or lesions, or images, where no more is known) are dealt out within each "
            f"source; out of distribution: {', '.join(config.shift) or 'none'}.",
            "high risk": high_risk,
        },
    }
    return Listing(table, sieve.left_out, dataset, [f"classes that must not be missed: {high_risk}"])


def _columns(config: DermatologyConfig, path: Path) -> dict[Role, str]:
    """Return the column of each role that the table has."""
    header = header_of(path)
    chosen: dict[Role, str] = {}
    for role, known in NAMES.items():
        given = config.columns.get(role)
        if given is not None and given not in header:
            raise AmalgamError(f"{path.name} has no column {given!r} for {role}", f"it has: {', '.join(header)}")
        name = given or next((each for each in known if each in header), None)
        if name is not None:
            chosen[role] = name
        elif role in NEEDED or role in config.require:
            raise AmalgamError(
                f"{path.name} has no column for {role} (one of {', '.join(known)})",
                f"name it with --column {role}=NAME" + ("" if role in NEEDED else ", or --require another"),
            )
    if not set(KNOWN) & set(chosen):
        raise AmalgamError(f"{path.name} has none of sex, age and skin tone", "fairness needs one: add the column")
    return chosen


def _files(images: pd.Series, source: Path) -> pd.Series:
    """Return the path below `source` of each image, which may be named without its folder and suffix."""
    index = index_images(source)

    def find(name: str) -> str:
        path = Path(name)
        suffix = path.suffix.lower() in SUFFIXES
        stem = path.stem if suffix else path.name
        found = index.get(stem, [])
        exact = [each for each in found if each == name or Path(each).with_suffix("").as_posix() == name]
        if suffix and len(found) > 1 and not exact:
            exact = [each for each in found if Path(each).name == path.name]
        chosen = exact or found
        if len(chosen) > 1:
            raise AmalgamError(
                f"{name} can be {len(chosen)} files: {named(chosen)}", "name images with their folder and suffix"
            )
        return chosen[0] if chosen else name

    return images.map(find)


def _check_sources(config: DermatologyConfig, sources: pd.Series) -> None:
    known = sorted(set(sources[~is_nothing(sources)]))
    for name in config.shift:
        if name not in known:
            raise AmalgamError(f"no image is of the source {name!r}", f"--shift: some of {', '.join(known)}")
    if not set(known) - set(config.shift):
        raise AmalgamError("all sources are out of distribution", "leave one of them to train on")


def _concepts(told: pd.DataFrame) -> pd.Series:
    """Return the patient of each image; the lesion where none is known, else the image itself."""
    concept = "image " + told["file"]
    for role in ("lesion", "patient"):
        if role in told:
            concept = concept.where(is_nothing(told[role]), f"{role} " + told[role])
    return concept


def _reasons(sieve: Sieve) -> str:
    counts = sieve.left_out["reason"].value_counts().sort_index()
    return ", ".join(f"{reason} ({n})" for reason, n in counts.items())
