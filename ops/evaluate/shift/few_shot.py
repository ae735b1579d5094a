"""Few-shot splits: a few images of a shifted domain to adapt with, and other images of it to test on.

Within each domain of a shifted split or set, some *concepts* of each class are reserved for adaptation, and all images of
other concepts are the test ("query"), the same for all shots: near-duplicates are never on both sides. Of the reserved
concepts, images are taken in turn ("support"): of the first image of each concept, then the second, and so on, so that
fewer shots are among more. What is reserved and not taken is used by nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.loading import ImageSet, open_images
from ops.errors import AmalgamError
from ops.evaluate.shift.config import FewShotConfig
from ops.files import replacing
from ops.runtime import derive_seed

FEW_SHOT = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("domain", pa.string()),
        ("label", pa.string()),
        ("shots", pa.int64()),
        ("seed", pa.int64()),
        ("role", pa.string()),
    ]
)
"""`split` is a shifted split or a set, `role` is support or query; `seed` is the split's, no model's."""
SUPPORT, QUERY = "support", "query"


def few_shot_rows(table: pd.DataFrame, config: FewShotConfig) -> pd.DataFrame:
    """Return the few-shot splits of all domains of `table` (columns id, split, domain, label, concept).

    Of the concepts of a class, as many are reserved as there are most shots, but at most `support_share` of them, and at
    least one where there are two. A class with a single concept has no support: its images are all query. A class whose
    reserved concepts have too few images has what they have. Concepts with images of several classes count for the most
    frequent one. Choices depend on id, concept and seed only.
    """
    found = []
    table = table.sort_values("id").reset_index(drop=True)
    for _, mine in table.groupby(["split", "domain"]):
        for seed in config.seeds:
            place = _places(mine, seed, max(config.shots), config.support_share)
            for shots in sorted(set(config.shots)):
                role = np.where(place < shots, SUPPORT, np.where(place == np.inf, QUERY, ""))
                found.append(mine.assign(shots=shots, seed=seed, role=role)[role != ""])
    rows = pd.concat(found) if found else pd.DataFrame(columns=FEW_SHOT.names)
    order = ["split", "domain", "seed", "shots", "role", "label", "id"]
    return rows[FEW_SHOT.names].sort_values(order).reset_index(drop=True)


def _places(mine: pd.DataFrame, seed: int, most: int, share: float) -> pd.Series:
    """Return for each image its place among the support of its class, from 0; infinity for images of the query."""
    count = mine.groupby(["concept", "label"]).size().rename("images").reset_index()
    count = count.sort_values(["concept", "images", "label"], ascending=[True, False, True])
    home = count.drop_duplicates("concept").set_index("concept")["label"]
    concepts = pd.DataFrame({"home": home, "draw": [derive_seed(seed, "few-shot concept", c) for c in home.index]})
    grouped = concepts.groupby("home")["draw"]
    total, order = grouped.transform("size"), grouped.rank(method="first")
    allowed = np.minimum(most, np.maximum(np.floor(total * share), (total > 1).astype(int)))
    reserved = concepts[order <= allowed]
    images = mine[mine["concept"].isin(reserved.index)]
    ranked = pd.DataFrame(
        {
            "label": images["label"],
            "concept": images["concept"],
            "draw": images["concept"].map(reserved["draw"]),
            "image": [derive_seed(seed, "few-shot image", identity) for identity in images["id"]],
        }
    )
    ranked["turn"] = ranked.groupby(["label", "concept"])["image"].rank(method="first")
    turns = ranked.sort_values(["label", "turn", "draw"])
    place = turns.groupby("label").cumcount()
    return place.reindex(mine.index).astype(np.float64).fillna(np.inf)


def shortages(rows: pd.DataFrame, classes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the classes that have fewer images for adaptation than shots: (split, domain, label, shots), the least found.

    `classes` has the columns split, domain and label of all that there should be.
    """
    if rows.empty:
        return []
    wanted = classes.drop_duplicates().merge(rows[["shots", "seed"]].drop_duplicates(), how="cross")
    keys = ["split", "domain", "label", "shots", "seed"]
    counts = rows[rows["role"] == SUPPORT].groupby(keys).size().rename("found").reset_index()
    merged = wanted.merge(counts, how="left", on=keys).fillna({"found": 0}).astype({"found": int})
    short = merged[merged["found"] < merged["shots"]]
    least = short.groupby(keys[:-1])["found"].min().reset_index()
    return [{str(k): v for k, v in line.items()} for line in least.to_dict("records")]


def write_few_shot(path: Path, rows: pd.DataFrame) -> None:
    """Write few-shot splits as Parquet."""
    with replacing(path) as temporary:
        table = pa.Table.from_pandas(rows, schema=FEW_SHOT, preserve_index=False)
        pq.write_table(table, temporary, compression="zstd")


@dataclass(frozen=True)
class FewShot:
    """One few-shot split, as ids in their order."""

    support: Sequence[str]
    query: Sequence[str]


def read_few_shot(shift: Path, split: str, domain: str, shots: int, seed: int) -> FewShot:
    """Return what the artefact `shift` set apart in `domain` of a shifted split or set.

    Raises AmalgamError where there is no such file, split, domain, number of shots or seed, and for a support without
    images.
    """
    path = shift / "few_shot.parquet"
    if not path.exists():
        raise AmalgamError(f"{shift.name} has no few_shot.parquet", "python -m pipelines run shift")
    table = pq.read_table(path).to_pandas()
    for column, value in {"split": split, "domain": domain, "shots": shots, "seed": seed}.items():
        known = table[column].drop_duplicates().sort_values().astype(str)
        table = table[table[column] == value]
        if table.empty:
            raise AmalgamError(
                f"few_shot.parquet has no {column} {value!r} there", f"use one of: {', '.join(known) or 'none'}"
            )
    ids = {role: table.loc[table["role"] == role, "id"].tolist() for role in (SUPPORT, QUERY)}
    if not ids[SUPPORT]:
        raise AmalgamError(
            f"no class of {domain} in {split} has two concepts, so that none is left to adapt with",
            "adapt to a domain with more concepts",
        )
    return FewShot(ids[SUPPORT], ids[QUERY])


def few_shot_images(chosen: FewShot, shift: Path, real: Path, split: str, cache: Path) -> tuple[ImageSet, ImageSet]:
    """Return the images of support and query; those of a user's set are in the artefact `shift`, others in `real`.

    Raises AmalgamError for an id that is not there.
    """
    own = shift / "sets" / split
    images = open_images(own if own.exists() else real, split, cache)
    place = {identity: number for number, identity in enumerate(images.table["id"])}
    missing = [i for i in (*chosen.support, *chosen.query) if i not in place]
    if missing:
        raise AmalgamError(
            f"{len(missing)} images of few_shot.parquet are not in {split}, first {missing[0]}",
            "python -m pipelines run shift",
        )
    support, query = (images.subset([place[i] for i in ids]) for ids in (chosen.support, chosen.query))
    return support, query
