"""The outcome of every single image: as it is, and under the attacks of a threat."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ops.attack.run import run_attack, verify_adversarial
from ops.attack.threat import Threat
from ops.data.loading import ImageSet
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import NO_THREAT, split_name
from ops.evaluate.predicting import batches, check_mode, log_probabilities, logits_of, predict
from ops.evaluate.temperature import scaled_probabilities
from ops.files import read_json, write_json
from ops.runtime import derive_seed

Report = Callable[[int], None]
"""Called after each batch with how many of an attack's images are done, attacks added up; those that fell before count."""


def classify_images(
    model: nn.Module,
    name: str,
    images: ImageSet,
    split: str,
    config: RobustnessConfig,
    device: torch.device,
    temperature: float = 1.0,
) -> pd.DataFrame:
    """Return one row for each image as it is; `robust` and the attacks' columns say what `clean` says.

    `confidence` is the probability that the model gives to its prediction, `scaled_confidence` that at its `temperature`.
    """
    check_mode(model, name)
    found = log_probabilities(model, name, images, config.batch, device)
    predicted = found.argmax(axis=1)
    right = predicted == images.labels
    sure = {
        "confidence": np.exp(found.max(axis=1)),
        "scaled_confidence": scaled_probabilities(found, temperature).max(axis=1),
    }
    columns = sure | dict.fromkeys(("clean", *config.attack_names(), "robust"), right)
    return _outcomes(images, pd.DataFrame({"predicted": predicted} | columns), name, split, NO_THREAT)


def attack_images(
    model: nn.Module,
    name: str,
    images: ImageSet,
    split: str,
    threat: Threat,
    config: RobustnessConfig,
    device: torch.device,
    ledger: Path | None = None,
    report: Report | None = None,
) -> pd.DataFrame:
    """Return one row for each image: clean outcome, outcome of each attack, and whether it survived all.

    Each attack meets what still stands, in full batches. What is known after each batch is kept in `ledger` (JSON), from
    which a killed evaluation goes on.

    Raises AmalgamError for logits that are no numbers and for perturbations outside the threat model.
    """
    check_mode(model, name)
    seeds = torch.tensor([derive_seed(config.seed, "attack", identity) for identity in images.table["id"]])
    predicted = predict(model, name, images, config.batch, device)
    standing = predicted == images.labels
    known: dict[str, Any] = read_json(ledger) if ledger and ledger.exists() else {}
    # confidence is that of images as they are
    unsure = {"confidence": np.nan, "scaled_confidence": np.nan}
    columns: dict[str, Any] = {"predicted": predicted, **unsure, "clean": standing}
    for number, attack in enumerate(config.attacks_in(threat.norm), start=1):
        todo = np.flatnonzero(standing)
        done, survived = known.get(attack.name, (0, standing.tolist()))
        survived = np.array(survived, dtype=bool)
        for places in batches(todo[done:], config.batch):
            x = images.batch(places).to(device, memory_format=torch.channels_last)
            y = images.targets(places).to(device)
            adversarial = run_attack(model, attack, x, y, threat, seeds[places])
            verify_adversarial(adversarial, x, threat, attack.name)
            survived[places] = (logits_of(model, adversarial, name).argmax(dim=1) == y).cpu().numpy()
            done += len(places)
            if ledger:
                known[attack.name] = (done, survived.tolist())
                write_json(ledger, known)
            if report:
                report(number * len(images) - (len(todo) - done))
        columns[attack.name] = standing = survived
    return _outcomes(images, pd.DataFrame(columns | {"robust": standing}), name, split, str(threat))


def _outcomes(images: ImageSet, found: pd.DataFrame, name: str, split: str, threat: str) -> pd.DataFrame:
    """Return `found` (outcomes in the order of `images`) with what is known of the images, the model and the threat."""
    table = images.table[["id", "label", "domain", "attributes"]].copy()
    table["attributes"] = [dict(sorted(a.items())) for a in table["attributes"]]
    found["predicted"] = [images.classes[k] for k in found["predicted"]]
    model, seed = split_name(name)
    return table.join(found).assign(model=model, seed=seed, split=split, threat=threat)
