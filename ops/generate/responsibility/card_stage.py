"""The stage `generator_card`: the card of the diffusion model, from what the other stages measured."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ops.evaluate.measurements import read_measurements
from ops.files import read_json
from ops.generate.responsibility.card import write_generator_card
from ops.generate.responsibility.config import GeneratorCardConfig
from ops.generate.responsibility.memorisation import Verdict
from ops.generate.responsibility.stage import DIFFUSION
from ops.summary import Summary

MEASURED = ("generator_report", "preference", "responsibility")


def write_diffusion_card(
    config: GeneratorCardConfig,
    diffusion: Path,
    samples: Path,
    shards: Path,
    curated: Path,
    stages: Mapping[str, Path],
    out: Path,
) -> Summary:
    """Write `README.md` and `card.json`; `stages` has the folders of those that measured, by name."""
    record = read_json(diffusion / "generator.json")
    found = [read_measurements(stages[name]).assign(stage=name) for name in MEASURED]
    verdict = read_json(stages["responsibility"] / "verdicts.json")[DIFFUSION]
    conditions = ["caption", "class", "domain", *sorted(read_json(shards / "dataset.json")["attributes"])]
    return write_generator_card(
        config,
        DIFFUSION,
        f"A latent text-to-image diffusion model; {record['lineage']}.",
        f"{', '.join(conditions)}; each may be left out",
        samples / DIFFUSION,
        shards,
        curated,
        pd.concat(found, ignore_index=True),
        Verdict(verdict["passed"], tuple(verdict["reasons"])),
        out,
    )
