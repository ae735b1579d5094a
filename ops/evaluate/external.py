"""A model from elsewhere as a model folder like any other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ops.data.loading import open_images
from ops.errors import AmalgamError
from ops.evaluate.honesty import look_like_probabilities
from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import NO_SEED
from ops.evaluate.model_info import ModelInfo, read_model_info, write_model_info
from ops.evaluate.predicting import choose, predict
from ops.files import read_json
from ops.models.card import ModelCard
from ops.models.checkpoint import CODE, load_classifier, load_weights, save_classifier, weights_digest
from ops.models.external.code import copy_code
from ops.models.external.config import ExternalArchitecture, ExternalModel
from ops.models.external.trial import try_model
from ops.models.external.weights import check_fit, read_weights, strip_prefix
from ops.models.external.wrapper import external_classifier
from ops.progress import Monitor
from ops.summary import Figure, Summary

TRIED = 16
"""Images that the module is tried on before its accuracy is measured."""


def bring_model(
    config: ExternalModel,
    name: str,
    source: Path,
    real: Path,
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Write code, weights and card of the model in the folder `source`, and try it on images of the dataset in `real`.

    What is published of it (`info`) is kept in `published.json` and shown beside the accuracy here. Runs the Python code in
    `source`. Raises AmalgamError for what does not fit: code, arguments, weights, classes, image size, outputs.
    """
    dataset = read_json(real / "dataset.json")
    info = read_model_info(source / config.info) if config.info else None
    tensors = read_weights(source / config.weights)
    architecture = ExternalArchitecture(
        object=config.object,
        arguments=config.arguments,
        order=output_order(config.classes, dataset["classes"], name),
        image_size=config.image_size,
    )
    copy_code(source, out / CODE)
    model = external_classifier(architecture, out / CODE)
    state = model.net.state_dict()
    tensors = strip_prefix(tensors, set(state))
    check_fit(tensors, state, config.weights, config.object)
    load_weights(model.net, tensors, config.weights)
    card = ModelCard(
        name=name,
        architecture=architecture,
        classes=dataset["classes"],
        image_size=dataset["image_size"],
        mean=[0.0] * 3,  # pixels go in as they are
        std=[1.0] * 3,
        seed=NO_SEED,
        ancestor=weights_digest(model),
    )
    save_classifier(out, model, card)
    if info:
        write_model_info(out / "published.json", info)
    return _try(config, name, info, real, out, cache, device, monitor)


def output_order(theirs: Sequence[str] | None, ours: Sequence[str], name: str) -> list[int]:
    """Return for each class of the dataset (`ours`) which output of the model it is; raises AmalgamError where they differ."""
    theirs = ours if theirs is None else theirs
    if set(theirs) != set(ours):
        missing, unknown = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
        parts = [f"without {', '.join(missing)}"] if missing else []
        parts += [f"with {', '.join(unknown)}"] if unknown else []
        raise AmalgamError(
            f"the classes of external/{name} are not those of the dataset: {' and '.join(parts)}",
            f"name these in the order of its logits: {', '.join(ours)}",
        )
    return [list(theirs).index(each) for each in ours]


def _try(
    config: ExternalModel,
    name: str,
    info: ModelInfo | None,
    real: Path,
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Load the folder as evaluations will, look for signs of mistakes, and return its accuracy on images of the split."""
    model, card = load_classifier(out, device)
    images = choose(open_images(real, config.split, cache), config.split, config.images, 0)
    few = images.batch(np.arange(min(TRIED, len(images)))).contiguous().to(device)
    notes = try_model(model, few, f"external/{name}")
    predicted = predict(model, f"external/{name}", images, config.batch, device)
    right = int((predicted == images.labels).sum())
    interval = wilson(right, len(images))
    with torch.no_grad():
        if look_like_probabilities(model(few)):
            notes.append("its outputs look like probabilities: return logits, or attacks by gradient fail")
    if interval[1] <= 1 / len(card.classes):
        notes.append(
            "it is no better than chance here: are its classes in another order, or its images of another kind?"
        )
    for note in notes:
        monitor.note(f"external/{name}: {note}")
    found = f"{interval[0]:.3f} [{interval[1]:.3f}, {interval[2]:.3f}]"
    figures: dict[str, Figure] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        f"accuracy on {len(images)} images of {config.split}": found,
        "worth a look": "; ".join(notes) or "nothing",
    }
    return Summary(figures, {"published figures (not measured here)": _beside(info, found)} if info else {})


def _beside(info: ModelInfo, found: str) -> list[dict[str, Figure]]:
    """Return what is published of the model, with what is known here of the same."""
    where = f"on {info.dataset}"
    rows: list[dict[str, Figure]] = [
        {"figure": "clean accuracy", "published": f"{info.clean_acc} % {where}", "measured here": found}
    ]
    if info.autoattack_acc:
        threat = f"eps {info.eps}" if info.eps else "eps not given"
        doubt = ", called unreliable" if info.unreliable else ""
        rows.append(
            {
                "figure": "accuracy under AutoAttack",
                "published": f"{info.autoattack_acc} % {where}, {threat}{doubt}",
                "measured here": "see robustness",
            }
        )
    return rows
