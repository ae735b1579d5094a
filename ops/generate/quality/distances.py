"""Rows of distances and manifolds: every source against every real split, in every space, as a whole and by group."""

import numpy as np

from ops.evaluate.intervals import wilson
from ops.evaluate.measurements import row
from ops.generate.quality.checks import Compared, Pool, values_of
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.frechet import frechet_interval
from ops.generate.quality.groups import Row, discrepancy_gap, gap_interval
from ops.generate.quality.kernel import SCALE, cubic, discrepancy, gaussian_kernel, normalised, scaled
from ops.generate.quality.manifolds import manifolds
from ops.progress import Monitor
from ops.runtime import derive_seed


def distance_rows(config: QualityConfig, dataset: str, sets: Compared, space: str, monitor: Monitor) -> list[Row]:
    """Return the rows of one space.

    All Fréchet distances and manifolds are at one number of images, that of the smallest set: both change with it. Kernel
    distances do not, but are of the same images.
    """
    rows: list[Row] = []
    references = sets.references()
    for done, (split, reference) in enumerate(references.items(), start=1):
        real = _drawn(config, reference.features[space], sets.smallest(), split)
        for model, pool in sets.against(split).items():
            generated = _drawn(config, pool.features[space], sets.smallest(), model)
            rows += _whole(config, (model, dataset, split), space, real, generated)
        for column, factor in (("label", "class"), (sets.column, sets.attribute)):
            rows += _coverage_by_group(config, dataset, sets, split, space, column, factor)
        rows += _kernel_by_group(config, dataset, sets, split, space)
        monitor.progress(done, len(references), f"split in {space}")
    return rows


def _whole(
    config: QualityConfig, where: tuple[str, str, str], space: str, real: np.ndarray, generated: np.ndarray
) -> list[Row]:
    """Return the rows of one source against one split, for features (n, D) of both."""
    seed = derive_seed(config.seed, space, *where)
    kernel = discrepancy(real, generated, cubic)
    unit = discrepancy(normalised(real), normalised(generated), gaussian_kernel(config.bandwidth))
    found = {
        "Fréchet distance": frechet_interval(real, generated, config.half_samples, seed),
        "kernel distance": kernel.interval(),
        "Gaussian kernel distance x 1000": scaled(unit, SCALE).interval(),
        **manifolds(real, generated, config.neighbours).intervals(config.replicates, seed),
    }
    return [row(*where, "all", f"{name} ({space})", interval, len(real)) for name, interval in found.items()]


def _coverage_by_group(
    config: QualityConfig, dataset: str, sets: Compared, split: str, space: str, column: str, factor: str
) -> list[Row]:
    """Return coverage within each class or group: how much of its real images its own generated images cover.

    Every cell has the same number of images on both sides, that of the smallest cell of any source that is large enough:
    coverage changes with it. The gap is over the groups of the reference; a source that lacks one has none.
    """
    rows: list[Row] = []
    reference, compared, metric = sets.references()[split], sets.against(split), f"coverage ({space})"
    expected = values_of(reference.table[column], config.min_group)
    cells = {model: _common(expected, pool, column, config) for model, pool in compared.items()}
    sizes = [_size(pool, column, v) for model, pool in compared.items() for v in cells[model]]
    count = min([*sizes, *(_size(reference, column, v) for v in expected)], default=0)
    for model, pool in compared.items():
        outcomes: dict[str, np.ndarray] = {}
        for value in cells[model]:
            real, generated = (
                _drawn(config, _of_group(each, space, column, value), count, name, column, value)
                for each, name in ((reference, split), (pool, model))
            )
            outcomes[value] = manifolds(real, generated, config.neighbours).covered
        for value, covered in outcomes.items():
            interval = wilson(int(covered.sum()), count)
            rows.append(row(model, dataset, split, f"{factor}={value}", metric, interval, count))
        if len(outcomes) == len(expected) > 1:
            groups = np.repeat(list(outcomes), count)
            seed = derive_seed(config.seed, "gap", model, split, space, factor)
            gap = gap_interval(groups, np.concatenate(list(outcomes.values())), config.replicates, seed)
            rows.append(row(model, dataset, split, "all", f"{metric} gap ({factor})", gap, len(groups)))
    return rows


def _kernel_by_group(config: QualityConfig, dataset: str, sets: Compared, split: str, space: str) -> list[Row]:
    """Return the kernel distance within each group, of all its images, and the gap.

    There is no Fréchet distance by group: at a few dozen images it would be mostly bias, and differ with their number.
    """
    rows: list[Row] = []
    metric, reference = f"kernel distance ({space})", sets.references()[split]
    expected = values_of(reference.table[sets.column], config.min_group)
    for model, pool in sets.against(split).items():
        found = {
            value: discrepancy(
                _of_group(reference, space, sets.column, value), _of_group(pool, space, sets.column, value), cubic
            )
            for value in _common(expected, pool, sets.column, config)
        }
        counts = [min(len(part) for part in each.moved) for each in found.values()]
        for (value, each), count in zip(found.items(), counts, strict=True):
            rows.append(row(model, dataset, split, f"{sets.attribute}={value}", metric, each.interval(), count))
        if len(found) == len(expected) > 1:
            gap = discrepancy_gap(found, config.replicates, derive_seed(config.seed, "gap", model, split, space))
            rows.append(row(model, dataset, split, "all", f"{metric} gap ({sets.attribute})", gap, sum(counts)))
    return rows


def _common(expected: list[str], pool: Pool, column: str, config: QualityConfig) -> list[str]:
    """Return the values that the pool has enough images of, too."""
    return [value for value in expected if value in values_of(pool.table[column], config.min_group)]


def _size(pool: Pool, column: str, value: str) -> int:
    return int((pool.values(column) == value).sum())


def _of_group(pool: Pool, space: str, column: str, value: str) -> np.ndarray:
    return pool.features[space][pool.values(column) == value]


def _drawn(config: QualityConfig, features: np.ndarray, count: int, *purpose: str) -> np.ndarray:
    """Return `count` of the features (N, D), drawn without replacement, all of them in their order if there are no more."""
    if len(features) == count:
        return features
    rng = np.random.default_rng(derive_seed(config.seed, "draw", *purpose))
    return features[np.sort(rng.permutation(len(features))[:count])]
