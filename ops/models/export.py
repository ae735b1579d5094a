"""Classifiers as ONNX files, which other runtimes and languages read, checked against the original."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ops.errors import AmalgamError
from ops.files import replacing
from ops.models.base import Classifier
from ops.models.card import ModelCard
from ops.models.checkpoint import load_classifier
from ops.runtime import generator

TOLERANCE = 1e-3
"""Largest difference between the logits of the file and of the model that passes."""
BATCHES = (1, 2, 7)
"""Numbers of images that the check runs."""


def export_onnx(folder: Path, out: Path) -> float:
    """Write the classifier in `folder` to the ONNX file `out`; return the largest difference between their logits.

    The file takes `images` (N, 3, S, S), float32 in [0, 1], of the side S that the model was trained with and any
    number N, and gives `logits` (N, K); it carries the model's name, classes and image size as metadata. It is written
    whole or not at all, after onnxruntime has run it on random images of several batch sizes; equal models are equal
    bytes. Raises AmalgamError if the logits differ by more than 0.001, if a package is missing, or for what is no model
    folder.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise AmalgamError(
            f"export to ONNX needs {' and '.join(missing)}, which are not installed",
            "pip install -r requirements.lock",
        )
    model, card = load_classifier(folder, torch.device("cpu"))
    with replacing(out) as temporary:
        _program(model, card).save(temporary, external_data=False)
        difference = _difference(model, card, temporary)
        if not difference <= TOLERANCE:
            raise AmalgamError(
                f"the ONNX file of {folder.name} is not the same function: its logits differ by {difference:.2g} "
                f"(at most {TOLERANCE:g} is accepted)",
                "this is a defect of the exporter: please report it with the model's model.json",
            )
    return difference


def _program(model: Classifier, card: ModelCard) -> Any:
    """Return the model as an ONNX program whose first axis is free."""
    with _quiet():
        program = torch.onnx.export(
            model,
            (_images(card, 2),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
        )
    assert program is not None, "the exporter returns a program where it gets no file name"
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    program.model.metadata_props.update(
        name=card.name, classes=json.dumps(card.classes, ensure_ascii=False), image_size=str(card.image_size)
    )
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back the exporter's notes, which are about itself (deprecations in torch, no torchvision), not about models."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _difference(model: Classifier, card: ModelCard, path: Path) -> float:
    """Return the largest difference between the logits of `model` and of the file; infinity where one is NaN."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in BATCHES:
        x = _images(card, count)
        with torch.no_grad():
            expected = model(x)
        (found,) = session.run(["logits"], {"images": x.numpy()})
        apart = (torch.from_numpy(found) - expected).abs().nan_to_num(nan=torch.inf)
        worst = max(worst, float(apart.max()))
    return worst


def _images(card: ModelCard, count: int) -> torch.Tensor:
    """Return `count` random images (N, 3, S, S) in [0, 1]."""
    return torch.rand(count, 3, card.image_size, card.image_size, generator=generator("export", count))
