"""The prompts that generators are judged on: one plan, the same for all of them.

`plan.parquet` asks for what the training split shows, in its own proportions, so that distances between distributions
mean the generator and not the plan. `neutral.parquet` names concept and class only and leaves style and attributes open,
as the Imagen 3 report's prompts for the representation of people do: what comes out shows the generator's own leaning.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.data.manifest import read_manifest
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.generate.prompts_config import EvaluationPromptsConfig
from ops.progress import Monitor
from ops.runtime import derive_seed
from ops.sample.schema import ROW_SCHEMA
from ops.summary import Summary

PLAN, NEUTRAL = "plan.parquet", "neutral.parquet"


def write_prompts(config: EvaluationPromptsConfig, shards: Path, out: Path, monitor: Monitor) -> Summary:
    """Write both plans for the training split of `shards`.

    Rows of the first are training rows, drawn by weight (systematically: each as often as its weight says, give or take
    one) and shuffled. A neutral prompt is one concept of one class; there are as many of each class as there can be.

    Raises AmalgamError if there is no training image.
    """
    table = read_manifest(shards)
    table = table[table["split"] == "train"].sort_values("id").reset_index(drop=True)
    if table.empty:
        raise AmalgamError("no training image to take prompts from", "python -m pipelines run real_shards")
    dataset = read_json(shards / "dataset.json")
    rows = natural_rows(config, table)
    neutral = neutral_rows(config, table, dataset)
    for name, plan in ((PLAN, rows), (NEUTRAL, neutral)):
        with replacing(out / name) as temporary:
            pq.write_table(pa.Table.from_pylist(plan, ROW_SCHEMA), temporary, compression="zstd")
    write_json(out / "dataset.json", dataset)
    monitor.note(f"{len(rows)} prompts as in the training split, {len(neutral)} neutral ones")
    shown = [
        {"kind": kind, "caption": row["caption"], "label": row["label"], "domain": row["domain"] or "open"}
        for kind, plan in (("as in the data", rows), ("neutral", neutral))
        for row in plan[:8]
    ]
    return Summary({"prompts": len(rows), "neutral images": len(neutral)}, {"examples": shown})


def natural_rows(config: EvaluationPromptsConfig, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return `config.images` rows of a plan in the proportions of `table`."""
    rng = np.random.default_rng(derive_seed(config.seed, "evaluation prompts"))
    table = table.iloc[rng.permutation(len(table))]
    edges = np.cumsum(table["weight"].to_numpy(np.float64))
    points = (np.arange(config.images) + rng.random()) / config.images * edges[-1]
    places = rng.permutation(np.searchsorted(edges, points).clip(max=len(table) - 1))
    kept = ["label", "domain", "attributes", "name", "concept", "caption"]
    return [{"index": number, **row} for number, row in enumerate(table.iloc[places][kept].to_dict("records"))]


def neutral_rows(
    config: EvaluationPromptsConfig, table: pd.DataFrame, dataset: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return rows of a plan whose style and attributes are open (None).

    They name class and concept, or the class alone where concepts are no words, such as patients' numbers: where the names of
    most images do not hold them.
    """
    named = table.groupby(["concept", "name"]).size()  # far fewer than images
    spoken = sum(count for (concept, name), count in named.items() if concept.lower() in name.lower()) > len(table) / 2
    pairs = table.groupby(["label", "concept"], as_index=False)["weight"].sum()
    rng = np.random.default_rng(derive_seed(config.seed, "neutral prompts"))
    pairs["draw"] = rng.random(len(pairs))
    pairs["turn"] = pairs.groupby("label")["draw"].rank(method="first")
    chosen = pairs.sort_values(["turn", "label"]).head(config.neutral_prompts)
    return [
        {
            "index": number * config.neutral_images + copy,
            "label": label,
            "domain": None,
            "attributes": {name: None for name in sorted(dataset["attributes"])},
            "name": concept if spoken else label,
            "concept": concept,
            "caption": f"{label}: {concept}" if spoken else label,
        }
        for number, (label, concept) in enumerate(zip(chosen["label"], chosen["concept"], strict=True))
        for copy in range(config.neutral_images)
    ]
