"""The worst examples of every model: attacked again, stored, read back, and classified as they are in the file."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ops.attack.run import run_attack, verify_adversarial
from ops.attack.threat import Threat
from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.config import RobustnessConfig
from ops.evaluate.measurements import split_name
from ops.evaluate.outcomes import confidence_of
from ops.evaluate.predicting import Answers, answers_of, batches, seeded_noise
from ops.evaluate.robustness_pictures import draw_worst_examples
from ops.files import replacing
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.runtime import derive_seed

FILE = "worst_examples.parquet"
SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("split", pa.string()),
        ("threat", pa.string()),
        ("id", pa.string()),
        ("label", pa.string()),
        ("attack", pa.string()),
        ("predicted", pa.string()),
        ("confidence", pa.float64()),
        ("predicted_stored", pa.string()),
        ("confidence_stored", pa.float64()),
        ("predicted_8bit", pa.string()),
    ]
)
"""Rows of one model and threat are in the order of their file in `adversarial`. `predicted` and `confidence` are of the
evaluation, `_stored` of the float32 images in the file, `_8bit` of these rounded as in a PNG (which may leave the ball by
half a grey level)."""


def store_worst_examples(
    config: RobustnessConfig,
    models: Mapping[str, Path],
    sets: Mapping[str, ImageSet],
    predictions: pd.DataFrame,
    out: Path,
    device: torch.device,
    monitor: Monitor,
) -> pd.DataFrame:
    """Store, draw and classify again the `config.examples` worst examples of every model under every threat.

    Worst are the images, out of `sets` by split, on which the model is surest of a wrong class after the attack that turned
    them (`predictions`). Of several seeds of a model the first is taken. Writes `worst_examples.parquet` (`SCHEMA`), and,
    where an attack turned anything, `adversarial/<model>-<threat>.safetensors` with `images` and `adversarials` (N, 3, H, W)
    float32 in [0, 1], and `pictures/worst-<model>-<threat>.png`. Returns the table.

    They are attacked again alone, with their own seeds. In another batch sums are rounded otherwise, and an image at the
    very border may not be turned again; `predicted_stored` is then its class. The noise of random models follows from seed,
    threat, attack and the first of the images, and differs from that of the evaluation.

    Raises AmalgamError if the model says something else of an image in the file than of the one in memory.
    """
    tables = [SCHEMA.empty_table().to_pandas()]
    names = _first_seeds(models) if config.examples else []
    for done, name in enumerate(names, start=1):
        model, _ = load_classifier(models[name], device)
        for threat in config.threats:
            chosen = worst_of(predictions, name, threat, config)
            if chosen.empty:
                continue
            images, adversarials = _attack_again(model, chosen, sets, threat, config, device)
            title = f"{name.replace('/', '-')}-{slug(threat)}"
            stored = _through_file(out / "adversarial" / f"{title}.safetensors", images, adversarials)
            verify_adversarial(stored["adversarials"], stored["images"], threat, "the file")
            classes = sets[config.attacked_splits()[0]].classes
            tables.append(
                _classified(model, name, chosen, adversarials, stored["adversarials"], classes, config, device)
            )
            picture = out / "pictures" / f"worst-{title}.png"
            draw_worst_examples(tables[-1], **stored, title=f"worst of {name}, {threat}", path=picture)
        monitor.progress(done, len(names), "model's worst examples")
    table = pa.Table.from_pandas(pd.concat(tables, ignore_index=True), SCHEMA, preserve_index=False)
    with replacing(out / FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return table.to_pandas()


def worst_of(predictions: pd.DataFrame, name: str, threat: Threat, config: RobustnessConfig) -> pd.DataFrame:
    """Return the rows of the worst examples of a model under a threat, the worst first, with the `attack` that turned each.

    Of images of which the model is equally sure the one with the smaller id comes first.
    """
    model, seed = split_name(name)
    mine = predictions["threat"].eq(str(threat)) & predictions["model"].eq(model) & predictions["seed"].eq(seed)
    fallen = predictions[mine & predictions["clean"] & ~predictions["robust"].astype(bool)]
    attacks = np.array(config.attack_names(), object)
    first = fallen[config.attack_names()].to_numpy(bool).argmin(axis=1)
    ranked = fallen.assign(attack=attacks[first]).sort_values(
        ["adversarial_confidence", "id", "split"], ascending=[False, True, True]
    )
    chosen = ranked.head(config.examples).reset_index(drop=True)
    return chosen.assign(predicted=chosen["adversarial_predicted"], confidence=chosen["adversarial_confidence"])


def slug(threat: Threat) -> str:
    """Return a threat's name for files: `linf-4-255`."""
    return re.sub(r"[^\w.]+", "-", str(threat))


def _first_seeds(models: Mapping[str, Path]) -> list[str]:
    first: dict[str, str] = {}
    for name in sorted(models, key=split_name):
        first.setdefault(split_name(name)[0], name)
    return list(first.values())


def _attack_again(
    model: nn.Module,
    chosen: pd.DataFrame,
    sets: Mapping[str, ImageSet],
    threat: Threat,
    config: RobustnessConfig,
    device: torch.device,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and what the attack that turned each makes of them (N, 3, H, W), on the CPU."""
    size = sets[config.attacked_splits()[0]].images.shape[1:3]
    images, labels = torch.empty(len(chosen), 3, *size), torch.empty(len(chosen), dtype=torch.long)
    for split, part in chosen.groupby("split"):
        places = pd.Index(sets[split].table["id"]).get_indexer(part["id"])
        images[part.index.tolist()] = sets[split].batch(places)
        labels[part.index.tolist()] = sets[split].targets(places)
    seeds = torch.tensor([derive_seed(config.seed, "attack", identity) for identity in chosen["id"]])
    adversarials = images.clone()
    for attack in config.attacks_in(threat.norm):
        for places in batches(np.flatnonzero(chosen["attack"] == attack.name), config.batch):
            x = images[places].to(device, memory_format=torch.channels_last)
            with seeded_noise(device, config.seed, str(threat), attack.name, chosen["id"].iloc[places[0]]):
                found = run_attack(
                    model, attack, x, labels[places].to(device), threat, seeds[places], batch=config.batch
                )
            verify_adversarial(found, x, threat, attack.name)
            adversarials[places] = found.cpu()
    return images, adversarials


def _through_file(path: Path, images: torch.Tensor, adversarials: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write both to `path` and return what is in it then."""
    with replacing(path) as temporary:
        save_file({"images": images.contiguous(), "adversarials": adversarials.contiguous()}, temporary)
    return load_file(path)


def _classified(
    model: nn.Module,
    name: str,
    chosen: pd.DataFrame,
    adversarials: torch.Tensor,
    stored: torch.Tensor,
    classes: tuple[str, ...],
    config: RobustnessConfig,
    device: torch.device,
) -> pd.DataFrame:
    """Return the rows of `chosen` with what the model says of the images in the file, which must be what it says of these.

    Every look has the same noise. A model that draws from elsewhere says something else even of the same image, and what
    it says of the file is then no sign of a defect.
    """

    def look(images: torch.Tensor) -> Answers:
        x = images.to(device, memory_format=torch.channels_last)
        with seeded_noise(device, config.seed, "stored"):
            return answers_of(model, x, name, config.passes())

    once, again, read, rounded = map(look, (adversarials, adversarials, stored, (stored * 255).round() / 255))
    other = int((read.predicted() != once.predicted()).sum())
    if other and np.array_equal(once.log_probabilities, again.log_probabilities):
        raise AmalgamError(
            f"{name} classifies {other} adversarial images otherwise when they are read from their file",
            "this is a defect of Amalgam: please report it",
        )
    named = np.array(classes, object)
    columns = {
        "predicted_stored": named[read.predicted()],
        "confidence_stored": confidence_of(read),
        "predicted_8bit": named[rounded.predicted()],
    }
    return chosen.assign(**columns)[SCHEMA.names]
