"""Neutral prompts: what to ask a generator for to see whom it shows when it is not told."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ops.data.captions import subject_of
from ops.errors import AmalgamError
from ops.generate.responsibility.config import RepresentationConfig
from ops.runtime import derive_seed


def neutral_rows(config: RepresentationConfig, table: pd.DataFrame, dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows of a sampling plan, `config.images` for each of `config.prompts` subjects, without the factors.

    Subjects (concepts, by default) are drawn without repetition from the training rows `table`; label and what is not a
    factor are those of one of its images. A factor that is left out is missing in `attributes`, and is None as `domain`:
    the sampler must give the null of that conditioning. Captions name no factor and no style, and all images of a prompt
    share one. `prompt` numbers them.

    Raises AmalgamError for a factor that the dataset has not, and for fewer subjects than prompts.
    """
    known = ["domain", *dataset["attributes"]]
    for axis in config.axes:
        if axis not in known:
            raise AmalgamError(
                f"the dataset has no factor {axis!r}", f"representation.axes: some of {', '.join(known)}"
            )
    first = table.sort_values("id").drop_duplicates(config.subject)
    if len(first) < config.prompts:
        raise AmalgamError(
            f"there are {len(first)} subjects for {config.prompts} neutral prompts", "lower representation.prompts"
        )
    order = np.random.default_rng(derive_seed(config.seed, "neutral")).permutation(len(first))[: config.prompts]
    return [
        {**row, "index": number * config.images + image, "prompt": number}
        for number, row in enumerate(_prompt(config, first.iloc[place], dataset) for place in order)
        for image in range(config.images)
    ]


def _prompt(config: RepresentationConfig, model: pd.Series, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without factors, modelled on a training row; its caption is the phrasing that names the subject only."""
    kept = {name: value for name, value in model["attributes"].items() if name not in config.axes}
    subject = str(model[config.subject])
    return {
        "label": model["label"],
        "domain": None if "domain" in config.axes else model["domain"],
        "attributes": sorted(kept.items()),
        "name": subject,
        "concept": model["concept"],
        "caption": subject_of(subject, kept, dataset),
    }
