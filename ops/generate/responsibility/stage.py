"""The stage `responsibility`: copies of training images, unsafe outputs, and whom the generator shows by itself."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ops.data.config import CuratedManifestConfig
from ops.data.loading import ImageSet, open_images, open_with_unlabelled
from ops.files import read_json
from ops.generate.quality.alignment import train_judges
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import make_spaces
from ops.generate.quality.spaces import Space
from ops.generate.responsibility.config import ResponsibilityConfig, ResponsibilityStageConfig
from ops.generate.responsibility.measure import (
    RECONSTRUCTED,
    TRAIN,
    measure_responsibility,
    write_responsibility,
)
from ops.generate.responsibility.reconstructions import codec_of, reconstruct
from ops.generate.responsibility.representation import Perceived
from ops.generate.responsibility.safety import load_judge
from ops.progress import Monitor
from ops.summary import Summary

HELD_OUT = ("near", "validation")
DIFFUSION = "diffusion"


def write_responsibility_report(
    config: ResponsibilityStageConfig,
    shards: Path,
    sources: Mapping[str, Path],
    neutral: Path,
    scorers: Mapping[str, Path],
    unsafe: Path | None,
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
    diffusion: Path | None = None,
) -> Summary:
    """Write measurement rows, copies, verdicts and pictures of every source, a shard folder by name.

    `neutral` has the diffusion model's answers to neutral prompts; what they show is perceived by judges that learnt from
    real training images (`ops.generate.quality.alignment`), whose errors are known from held-out ones. `unsafe` is the
    folder of a safety classifier, or None. `diffusion` is the folder of the diffusion model: where its space is that of an
    autoencoder, copies are also sought among reconstructions of training images. Where there is a split `unlabelled`,
    generators learn from it too, and may copy it as well: here it is a part of the training images.
    """
    dataset = read_json(shards / "dataset.json")
    labelled = _splits(shards, cache)
    splits = labelled | {TRAIN: open_with_unlabelled(shards, TRAIN, cache)}
    made = {name: open_images(folder, "train", cache) for name, folder in sources.items()}
    codec = codec_of(diffusion, int(dataset["image_size"]), device, monitor)
    again = (
        {name: reconstruct(codec, images, cache, device, monitor) for name, images in splits.items()} if codec else {}
    )
    spaces = make_spaces(QualityConfig(spaces=config.spaces), splits[TRAIN].images, scorers, {}, device)
    sets = splits | made | {f"{RECONSTRUCTED}/{name}": images for name, images in again.items()}
    features = {
        name: {key: spaces[name].embed(images.images, cache, monitor) for key, images in sets.items()}
        for name in config.spaces
    }
    held_out = {name: images for name, images in splits.items() if name != TRAIN}
    seen = perceive(config, labelled, open_images(neutral, "train", cache), spaces, cache, monitor)
    judge = load_judge(config.safety, unsafe, device) if unsafe else None
    found = measure_responsibility(
        config,
        CuratedManifestConfig(min_contrast=config.min_contrast, min_entropy=config.min_entropy),
        splits[TRAIN],
        held_out,
        made,
        features,
        {DIFFUSION: seen},
        dataset["name"],
        judge,
        device,
        monitor,
        again,
    )
    return write_responsibility(config, found, splits[TRAIN], made, out, again.get(TRAIN))


def _splits(shards: Path, cache: Path) -> dict[str, ImageSet]:
    """Return the training split and those held-out splits that exist."""
    from ops.data.manifest import read_manifest

    present = set(read_manifest(shards)["split"])
    return {name: open_images(shards, name, cache) for name in (TRAIN, *HELD_OUT) if name in present}


def perceive(
    config: ResponsibilityConfig,
    splits: Mapping[str, ImageSet],
    neutral: ImageSet,
    spaces: Mapping[str, Space],
    cache: Path,
    monitor: Monitor,
) -> dict[str, Perceived]:
    """Return what judges see in neutral images along each axis that the dataset has, with their errors on real ones."""
    quality = QualityConfig(spaces=config.spaces)

    def judged(images: ImageSet) -> tuple[np.ndarray, ...]:
        return tuple(spaces[name].embed(images.images, cache, monitor) for name in quality.judges)

    judges = train_judges(quality, judged(splits[TRAIN]), splits[TRAIN].table)
    held_out = [images for name, images in splits.items() if name != TRAIN]
    found = {}
    for axis in config.representation.axes:
        column = axis if axis == "domain" else f"attribute:{axis}"
        if column not in judges.judges:
            monitor.note(f"whom the generator shows by {axis} is not measured: training images do not differ in it")
            continue
        categories = tuple(str(value) for value in judges.judges[column].classes_)
        number = {value: i for i, value in enumerate(categories)}
        confusion = np.zeros((len(categories), len(categories)), np.int64)
        for images in held_out:
            true = images.table[column].map(number)
            known = true.notna().to_numpy()
            guessed = judges.see(judged(images), column)[known]
            np.add.at(confusion, (true[known].astype(int).to_numpy(), [number[str(g)] for g in guessed]), 1)
        told = splits[TRAIN].table[column].map(number).dropna().astype(int)
        found[axis] = Perceived(
            categories,
            np.array([number[str(g)] for g in judges.see(judged(neutral), column)]),
            neutral.table["caption"].to_numpy(),
            confusion,
            np.bincount(told, minlength=len(categories)),
        )
    return found
