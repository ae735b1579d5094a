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
from ops.evaluate.predicting import Answers, answers_of, ask, batches, check_mode, seeded_noise
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
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one row for each image as it is, and log-probabilities (N, K) float64 of all classes.

    `robust` and the attacks' columns say what `clean` says.

    `confidence` is the probability that the model gives to its prediction, `scaled_confidence` that at its `temperature`,
    `share_right` the share of the passes that are right: 0 or 1, but for random models that are asked several times.
    """
    check_mode(model, name)
    answers = ask(model, name, images, config.batch, device, config.passes(), config.seed)
    predicted = answers.predicted()
    places = np.arange(len(predicted))
    scaled = scaled_probabilities(answers.log_probabilities, temperature)
    columns: dict[str, Any] = {
        "predicted": predicted,
        "confidence": confidence_of(answers),
        "scaled_confidence": scaled[places, predicted],
        **dict.fromkeys(("clean", *config.attack_names(), "robust"), predicted == images.labels),
        "share_right": answers.share_right(images.labels),
        "passes": 0,
        "adversarial_predicted": predicted,
        "adversarial_confidence": np.nan,
    }
    return _outcomes(images, pd.DataFrame(columns), name, split, NO_THREAT), answers.log_probabilities


def confidence_of(answers: Answers) -> np.ndarray:
    """Return the probability (N,) that a model gives to the class that it predicts."""
    predicted = answers.predicted()
    return np.exp(answers.log_probabilities)[np.arange(len(predicted)), predicted]


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
    which a killed evaluation goes on. What models draw follows from seed, threat, attack and the first image of the batch.

    A random model is asked `config.passes()` times, with noise that no attack has seen, and an image stands if most of its
    answers are right. One answer would not do: each image meets as many draws as there are attacks, and fails the next
    attack by bad luck or survives by good. `share_right` is the lowest share of right answers after any attack.

    `passes` is how many forward and backward passes all attacks together spent on the image, until it fell or they ended.
    `adversarial_predicted` is the class that the model sees after the attack that turned the image (what it says of the
    image as it is where none did), `adversarial_confidence` the probability in (0, 1] that it gives to that wrong class, or
    NaN where no attack turned the image.

    Raises AmalgamError for logits that are no numbers and for perturbations outside the threat model.
    """
    check_mode(model, name)
    seeds = torch.tensor([derive_seed(config.seed, "attack", identity) for identity in images.table["id"]])
    answers = ask(model, name, images, config.batch, device, config.passes(), config.seed)
    predicted = answers.predicted()
    known: dict[str, Any] = read_json(ledger) if ledger and ledger.exists() else {}
    # confidence is that of images as they are
    unsure = {"confidence": np.nan, "scaled_confidence": np.nan}
    columns: dict[str, Any] = {"predicted": predicted, **unsure, "clean": predicted == images.labels}
    found: dict[str, np.ndarray] = {
        "robust": columns["clean"],
        "share_right": answers.share_right(images.labels),
        "passes": np.zeros(len(images), np.int64),
        "adversarial_predicted": predicted,
        "adversarial_confidence": np.zeros(len(images)),  # 0 where no attack turned the image: JSON has no NaN
    }
    for number, attack in enumerate(config.attacks_in(threat.norm), start=1):
        todo = np.flatnonzero(found["robust"])
        so_far = known.get(attack.name, {"done": 0, **found})
        done, found = so_far["done"], {column: np.array(so_far[column]) for column in found}
        for places in batches(todo[done:], config.batch):
            x = images.batch(places).to(device, memory_format=torch.channels_last)
            y = images.targets(places).to(device)
            spent = torch.zeros_like(y)
            with seeded_noise(device, config.seed, str(threat), attack.name, images.table["id"].iloc[places[0]]):
                adversarial = run_attack(model, attack, x, y, threat, seeds[places], spent, config.batch)
                answers = answers_of(model, adversarial, name, config.passes())
            verify_adversarial(adversarial, x, threat, attack.name)
            _count(answers, images.labels[places], places, found)
            found["passes"][places] += spent.cpu().numpy()
            done += len(places)
            if ledger:
                known[attack.name] = {"done": done, **{column: values.tolist() for column, values in found.items()}}
                write_json(ledger, known)
            if report:
                report(number * len(images) - (len(todo) - done))
        columns[attack.name] = found["robust"]
    columns |= found
    columns["adversarial_confidence"] = np.where(
        columns["clean"] & ~found["robust"], found["adversarial_confidence"], np.nan
    )
    return _outcomes(images, pd.DataFrame(columns), name, split, str(threat))


def _count(answers: Answers, labels: np.ndarray, places: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """Write into `found`, at `places`, what a model answers after an attack to images whose classes are `labels`."""
    predicted = answers.predicted()
    fell = predicted != labels
    found["robust"][places] = ~fell
    found["share_right"][places] = np.minimum(found["share_right"][places], answers.share_right(labels))
    found["adversarial_predicted"][places[fell]] = predicted[fell]
    found["adversarial_confidence"][places[fell]] = confidence_of(answers)[fell]


def _outcomes(images: ImageSet, found: pd.DataFrame, name: str, split: str, threat: str) -> pd.DataFrame:
    """Return `found` (outcomes in the order of `images`) with what is known of the images, the model and the threat."""
    table = images.table[["id", "label", "domain", "attributes"]].copy()
    table["attributes"] = [dict(sorted(a.items())) for a in table["attributes"]]
    for column in ("predicted", "adversarial_predicted"):
        found[column] = np.array(images.classes, object)[found[column]]
    model, seed = split_name(name)
    return table.join(found).assign(model=model, seed=seed, split=split, threat=threat)
