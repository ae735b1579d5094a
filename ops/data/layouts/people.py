"""What tables say of people, in a few words that are the same for all layouts; `unknown` where they say nothing."""

import pandas as pd

UNKNOWN = "unknown"
SEXES = ["female", "male"]
AGES = {"0-19": (0, 20), "20-39": (20, 40), "40-59": (40, 60), "60-79": (60, 80), "80+": (80, 121)}
"""Age bands: from a year up to, and without, another. Ages outside them are mistakes of the table (ours, no paper's)."""
SKIN_TONES = ["1", "2", "3", "4", "5", "6"]
"""Fitzpatrick's types I to VI."""
RACES = ["Asian", "Black", "White", "other"]
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
_NOTHING = ("", "unknown", "unk", "nan", "none")


def sex_of(column: pd.Series) -> pd.Series:
    """Return female, male or unknown."""
    found = column.str.lower().map({"f": "female", "female": "female", "m": "male", "male": "male"})
    return found.fillna(UNKNOWN)


def age_of(column: pd.Series) -> pd.Series:
    """Return the band of ages such as 58, 58.0, 058Y or 011M; unknown where there is none between 0 and 120."""
    parts = column.str.upper().str.extract(r"^(\d+(?:\.\d+)?)([YMD]?)$")
    years = pd.to_numeric(parts[0]).where(~parts[1].isin(["M", "D"]), 0)
    band = pd.Series(UNKNOWN, index=column.index)
    for name, (first, end) in AGES.items():
        band[(years >= first) & (years < end)] = name
    return band


def skin_tone_of(column: pd.Series) -> pd.Series:
    """Return the Fitzpatrick type, 1 to 6, of values such as 3, 3.0, III or `type III`; else unknown."""
    words = column.str.lower().str.replace(r"^(fitzpatrick )?(skin )?(type )?|\.0$", "", regex=True)
    digits = words.map(_ROMAN).fillna(words)
    return digits.where(digits.isin(SKIN_TONES), UNKNOWN)


def race_of(column: pd.Series) -> pd.Series:
    """Return Asian, Black or White where a hospital's wording has that word, else other; unknown where it has none."""
    words = column.str.lower()
    race = pd.Series("other", index=column.index)
    for name in RACES[:-1]:
        race[words.str.contains(rf"\b{name.lower()}\b", regex=True)] = name
    return race.mask(words.isin(_NOTHING) | words.str.contains("unknown|refused"), UNKNOWN)


def is_nothing(column: pd.Series) -> pd.Series:
    """Say where a table says nothing."""
    return column.str.lower().isin(_NOTHING)
