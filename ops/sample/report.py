"""The stage `synthetic_report`: what was accepted, and whether it adds what the training images lack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ops.data.loading import ImageSet, open_images
from ops.data.pictures import COLOURS, save_figure
from ops.evaluate.measurements import row, write_measurements
from ops.files import read_json
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import make_spaces
from ops.generate.quality.spaces import Space
from ops.progress import Monitor
from ops.runtime import derive_seed, generator
from ops.sample.acceptance import acceptance_rows, acceptance_table, draw_acceptance, outcomes_of
from ops.sample.complementarity import KINDS, Complementarity, complementarity
from ops.sample.report_config import Augmented, SyntheticReportConfig
from ops.summary import Summary
from ops.train.augmentation.apply import augment
from ops.train.augmentation.config import Augmentation, Mixing, Policy

LARGE = 10
"""Times as many images as are compared, from which on a set is not embedded whole."""
REAL, POOL, HELD_OUT = "real", "pool", "held out"
AUGMENTATIONS: dict[Augmented, Augmentation] = {
    "crop and flip": Augmentation(crop=2, padding="edge"),
    "RandAugment": Augmentation(crop=2, padding="edge", policy=Policy(name="randaugment")),
    "CutMix": Augmentation(crop=2, padding="edge", mixing=Mixing(method="cutmix", draw="image")),
}


def write_synthetic_report(
    config: SyntheticReportConfig,
    shards: Path,
    synthetic: Path,
    filtered: Path,
    sources: Mapping[str, Path],
    scorers: Mapping[str, Path],
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Write `measurements.parquet` and pictures: acceptance by cell, and complementarity of every source.

    `sources` are shard folders by name, such as the diffusion model's and the baselines' answers to the evaluation prompts;
    the images that `filtered` keeps of `synthetic` are one more, and so are real and augmented training images.
    """
    dataset = read_json(shards / "dataset.json")
    group = dataset["groups"]
    outcomes = outcomes_of(synthetic, filtered, group)
    rows = acceptance_rows(outcomes, dataset["name"], group, config.min_cell)
    made = {**sources, "filtered_synthetic": filtered}
    found = measure_complementarity(
        config,
        open_images(shards, "train", cache),
        open_images(shards, config.held_out, cache),
        {name: open_images(folder, "train", cache) for name, folder in made.items()},
        scorers,
        cache,
        device,
        monitor,
    )
    rows += [each for (name, space), one in found.items() for each in _rows(config, name, space, one, dataset["name"])]
    write_measurements(out / "measurements.parquet", rows)
    names = dataset.get("attribute_names", {}).get(group, {})
    draw_acceptance(outcomes, group, names, out / "pictures" / "acceptance.png")
    draw_complementarity(found, config.spaces, out / "pictures" / "complementarity.png")
    return _summary(rows, found, acceptance_table(outcomes, group))


Found = Mapping[tuple[str, str], tuple[Complementarity, int]]
"""By source and space, with the number of images of each kind."""


def measure_complementarity(
    config: SyntheticReportConfig,
    train: ImageSet,
    held_out: ImageSet,
    sources: Mapping[str, ImageSet],
    scorers: Mapping[str, Path],
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Found:
    """Return the complementarity of every source in every space, all of equally many images.

    Copies of training images that are not in the pool look new here: copies are looked for by the filter.

    `real` are training images that are not in the pool of training images: what new images of the same kind would reach.
    Augmented images are made from those in the pool, as in training.
    """
    chosen = chosen_images(config, train, held_out, sources)
    pool = train.images[chosen[POOL][1]]
    count = len(pool)
    changed: dict[str, np.ndarray] = {
        name: augmented(pool, AUGMENTATIONS[name], derive_seed(config.seed, name), config.batch)
        for name in config.augmented
    }
    monitor.note(f"complementarity is of {count} images of each kind")
    quality = QualityConfig(
        spaces=config.spaces, judges=config.spaces, lite0_size=config.lite0_size, batch=config.batch
    )
    spaces = make_spaces(quality, train.images, scorers, {}, device)
    found = {}
    for space in config.spaces:
        features = projected(config, spaces[space], train, chosen, changed, cache, monitor)
        pools = features.pop(POOL), features.pop(HELD_OUT)
        for done, (name, part) in enumerate(features.items(), start=1):
            seed = derive_seed(config.seed, "evenness", name, space)
            one = complementarity(part, *pools, config.replicates, seed)
            found[name, space] = (one, count)
            monitor.progress(done, len(features), f"source in {space}")
    return found


def chosen_images(
    config: SyntheticReportConfig, train: ImageSet, held_out: ImageSet, sources: Mapping[str, ImageSet]
) -> dict[str, tuple[ImageSet, np.ndarray]]:
    """Return which images of each set are compared, as many as the smallest has, drawn by seed.

    Training images are drawn twice without repetition: the pool and `real`.
    """
    sizes = [len(train) // 2, len(held_out), *map(len, sources.values())]
    count = min(config.images, *sizes)
    order = np.random.default_rng(derive_seed(config.seed, "train")).permutation(len(train))
    chosen = {POOL: (train, np.sort(order[:count])), REAL: (train, np.sort(order[count : 2 * count]))}
    for name, images in {HELD_OUT: held_out, **sources}.items():
        order = np.random.default_rng(derive_seed(config.seed, name)).permutation(len(images))
        chosen[name] = (images, np.sort(order[:count]))
    return chosen


def augmented(images: np.ndarray, how: Augmentation, seed: int, batch: int) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 as training with `how` would show them; batches of `batch` are mixed."""
    rng, parts = generator(seed, "augmented"), []
    for start in range(0, len(images), batch):
        part = np.ascontiguousarray(images[start : start + batch])
        x = torch.from_numpy(part).permute(0, 3, 1, 2).to(torch.float32).div_(255)
        x, _ = augment(x, torch.zeros(len(x), 2), how, rng)
        parts.append(x.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def projected(
    config: SyntheticReportConfig,
    space: Space,
    train: ImageSet,
    chosen: Mapping[str, tuple[ImageSet, np.ndarray]],
    changed: Mapping[str, np.ndarray],
    cache: Path,
    monitor: Monitor,
) -> dict[str, np.ndarray]:
    """Return the principal components (N, D) float64 of the features of every set, fitted on all training images.

    Sets that are only chosen from are embedded whole, so that other stages' features are used again, unless they are large.
    """
    from sklearn.decomposition import PCA

    def embedded(images: np.ndarray) -> np.ndarray:
        return np.asarray(space.embed(images, cache, monitor), np.float64)

    fitted_on = embedded(train.images)
    count = min(config.components, *fitted_on.shape)
    pca = PCA(count, svd_solver="randomized", random_state=config.seed % 2**32).fit(fitted_on)
    features = {
        name: embedded(images.images)[places]
        if len(images) <= LARGE * len(places)
        else embedded(np.ascontiguousarray(images.images[places]))
        for name, (images, places) in chosen.items()
    }
    features |= {name: embedded(images) for name, images in changed.items()}
    return {name: pca.transform(part) for name, part in features.items()}


def _rows(
    config: SyntheticReportConfig, name: str, space: str, found: tuple[Complementarity, int], dataset: str
) -> list[dict[str, Any]]:
    one, count = found
    metrics = {f"nearest is {kind} ({space})": share for kind, share in zip(KINDS, one.shares, strict=True)}
    metrics |= {f"evenness ({space})": one.evenness, f"real images that are nearest ({space})": one.coverage}
    return [row(name, dataset, config.held_out, "all", metric, value, count) for metric, value in metrics.items()]


def _summary(rows: list[dict[str, Any]], found: Found, cells: list[dict[str, Any]]) -> Summary:
    # nothing is recognised where nothing was asked for
    shares = [each for each in rows if each["metric"] in ("accepted", "recognised") and each["group"] == "all"]
    lines: list[dict[str, Any]] = [
        {
            "source": name,
            "space": space,
            **{kind: round(share[0], 3) for kind, share in zip(KINDS, one.shares, strict=True)},
            "evenness": round(one.evenness[0], 3),
            "real images that are nearest": round(one.coverage[0], 3),
        }
        for (name, space), (one, _) in found.items()
    ]
    figures = {each["metric"]: round(each["value"], 4) for each in shares}
    return Summary(figures, {"complementarity": lines, "acceptance": cells})


def draw_complementarity(found: Found, spaces: list[str], path: Path) -> None:
    """Save for each source the shares of the kinds of nearest neighbours; the lines are at thirds."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for name, _ in found))
    figure = Figure(figsize=(4.2 * len(spaces) + 1.4, 0.32 * len(names) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(spaces), squeeze=False, sharey=True)[0]
    for axes, space in zip(panels, spaces, strict=True):
        left = np.zeros(len(names))
        for kind, colour in enumerate(COLOURS[:3]):
            shares = np.array([found[name, space][0].shares[kind][0] for name in names])
            axes.barh(names, shares, left=left, color=colour, label=KINDS[kind])
            left += shares
        for third in (1 / 3, 2 / 3):
            axes.axvline(third, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlim=(0, 1), title=space)
        axes.title.set_fontsize(9)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    figure.legend(
        *panels[0].get_legend_handles_labels(), fontsize=7, frameon=False, ncols=3, loc="outside lower center"
    )
    figure.suptitle("the nearest neighbour of an image is", fontsize=9)
    save_figure(figure, path)
