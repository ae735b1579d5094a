"""What an identification model gets wrong: the first of JTT's two trainings, as images that the second repeats."""

from pathlib import Path

import numpy as np
import torch

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.evaluate.predicting import predict
from ops.files import replacing
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.train.workers import Workers

BATCH = 256


def misclassified(
    identifier: Path, images: ImageSet, scratch: Path, device: torch.device, monitor: Monitor, workers: Workers
) -> np.ndarray:
    """Return the places (E,) int64 of the images that the model in `identifier` gets wrong, in ascending order.

    Images are as they are stored, without augmentation, and the model in evaluation mode. They are looked for once, by
    all processes together, and kept in `scratch` for resumed runs.

    Raises AmalgamError if the model is of other classes or another size of images.
    """
    path = scratch / "errors.npy"
    if path.exists():
        return np.load(path)
    model, card = load_classifier(identifier, device)
    if card.classes != list(images.classes) or card.image_size != images.images.shape[1]:
        raise AmalgamError(
            f"the identification model {card.name} knows {', '.join(card.classes)} at {card.image_size} pixels; the "
            f"images are {', '.join(images.classes)} at {images.images.shape[1]}",
            "train it on the same shards",
        )
    wrong = torch.zeros(len(images), dtype=torch.uint8)
    mine = _share(len(images), workers)
    if mine.start < mine.stop:
        part = ImageSet(images.images[mine], images.labels[mine], images.table.iloc[mine], images.classes)
        wrong[mine] = torch.from_numpy(predict(model, card.name, part, BATCH, device) != part.labels).to(torch.uint8)
    errors = np.flatnonzero(workers.total(wrong.to(device)).cpu().numpy())  # written after all have looked for the file
    if workers.leads:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, errors)
        monitor.note(f"{card.name} gets {len(errors)} of {len(images)} training images wrong: these are repeated")
    return errors


def _share(count: int, workers: Workers) -> slice:
    """Return this process's images, in whole batches: what a model says of an image can depend on its batch."""
    batches = -(-count // BATCH)
    begin, end = (BATCH * (batches * rank // workers.count) for rank in (workers.rank, workers.rank + 1))
    return slice(min(begin, count), min(end, count))
