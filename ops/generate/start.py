"""Trained generators that travel with a dataset, and when a training may start from one.

A shipped generator is a folder with `weights.safetensors` (half precision) and `generator.json`, the record of the
artefact that it was made from. It is used only where it learnt from exactly our training images, told exactly what ours
are told, in exactly our latents: anything else would be a generator of other data under our name.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.files import read_json, replacing, write_json
from ops.generate.pipeline import load_generator
from ops.generate.shipping import split_hash

RECORD, WEIGHTS = "generator.json", "weights.safetensors"
REMEDY = "dvc pull data.dvc brings it back; or set diffusion.start to null"


def ship_generator(diffusion: Path, folder: Path, lineage: str) -> None:
    """Write the generator of the artefact `diffusion` to `folder` for shipping; `lineage` says where it comes from."""
    made = load_generator(diffusion, torch.device("cpu"))
    tensors = {name: value.half().contiguous() for name, value in sorted(made.model.state_dict().items())}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_json(folder / RECORD, {**read_json(diffusion / RECORD), "lineage": lineage})


def fitting_start(
    folder: Path, images: ImageSet, codec: str, state: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor] | None, str]:
    """Return the weights (float32) of the generator in `folder`, or None and the reason why it may not be used.

    `codec` is the identity of the space that training works in, `state` has the tensors that the network needs.

    Raises AmalgamError if the folder is damaged.
    """
    for name in (RECORD, WEIGHTS):
        if not (folder / name).exists():
            raise AmalgamError(f"{folder.name} holds no shipped generator: {name} is missing", REMEDY)
    record = read_json(folder / RECORD)
    if record["training split"] != split_hash(images):
        return None, "it learnt from other images"
    if record["codec"] != codec:
        return None, "it learnt in other latents"
    try:
        weights = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
    except SafetensorError as error:
        raise AmalgamError(f"{WEIGHTS} in {folder.name} is damaged: {error}", REMEDY) from None
    shapes = {name: value.shape for name, value in state.items()}
    if {name: value.shape for name, value in weights.items()} != shapes:
        return None, "it is another network"
    return weights, ""
