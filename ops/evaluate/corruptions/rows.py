"""What the outcomes under corruptions come to: one row for each image, and measurements with intervals."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ops.evaluate.corruption_config import CorruptionsConfig
from ops.evaluate.corruptions.images import PLAIN, Source
from ops.evaluate.corruptions.score import ALEXNET, ALEXNET_NAME, mean_corruption_error
from ops.evaluate.corruptions.tables import CORRUPTIONS
from ops.evaluate.intervals import Interval, bootstrap, wilson
from ops.evaluate.measurements import row, split_name
from ops.files import replacing
from ops.runtime import derive_seed

PLAIN_ACCURACY = "accuracy without corruption"
MEAN_ERROR = "mean corruption error"

PREDICTIONS = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int64()),
        ("split", pa.string()),
        ("id", pa.string()),
        ("label", pa.string()),
        ("corruption", pa.string()),
        ("severity", pa.int64()),
        ("predicted", pa.string()),
        ("right", pa.bool_()),
    ]
)
"""`corruption` is "none" and `severity` 0 for the images as they are; `id` is that of the manifest of `real_shards`."""


def write_predictions(path: Path, predicted: Mapping[str, np.ndarray], source: Source) -> None:
    """Write one row for each model, piece and image; one model's rows are in memory at a time."""
    images, repeats = source.images, len(source.pieces)
    count = len(images)
    classes = np.array(images.classes, dtype=object)
    same = {
        "split": np.tile(images.table["split"].to_numpy(), repeats),
        "id": np.tile(images.table["id"].to_numpy(), repeats),
        "label": np.tile(classes[images.labels], repeats),
        "corruption": np.repeat(np.array([name for name, _ in source.pieces], dtype=object), count),
        "severity": np.repeat([severity for _, severity in source.pieces], count),
    }
    with replacing(path) as temporary, pq.ParquetWriter(temporary, PREDICTIONS, compression="zstd") as writer:
        for model, found in predicted.items():
            name, seed = split_name(model)
            columns = same | {
                "model": np.full(repeats * count, name, dtype=object),
                "seed": np.full(repeats * count, seed),
                "predicted": classes[found].ravel(),
                "right": (found == images.labels).ravel(),
            }
            writer.write_table(pa.table({field.name: columns[field.name] for field in PREDICTIONS}, PREDICTIONS))


def corruption_rows(
    predicted: Mapping[str, np.ndarray], source: Source, config: CorruptionsConfig, dataset: str
) -> list[dict[str, Any]]:
    """Return measurement rows of every model and split.

    Shares of one piece have Wilson intervals. Means over severities and corruptions have those of a paired bootstrap: a
    drawn image brings its outcomes under all corruptions (and those of the baseline), since they depend on each other.

    Args:
        predicted: for each model the classes (pieces, images) int64.
        source: the images and their pieces.
        config: which corruptions and severities are meant.
        dataset: its name.
    """
    rows = []
    splits = source.images.table["split"].to_numpy()
    wrong = {model: found != source.images.labels for model, found in predicted.items()}
    for split in source.splits:
        mine = {model: found[:, splits == split] for model, found in wrong.items()}
        baseline = _baseline(mine, source, config)
        for model in wrong:
            one = _ModelRows(model, mine[model], source, config, dataset, split)
            rows += [*one.single(), *one.means(), *one.mean_errors(baseline)]
    return rows


def _by_corruption(wrong: np.ndarray, source: Source, names: Sequence[str]) -> np.ndarray:
    """Return each image's share of wrong answers (images, corruptions) over the severities; `wrong` is (pieces, images)."""
    found = [wrong[[place for place, piece in enumerate(source.pieces) if piece[0] == name]] for name in names]
    return np.stack([levels.mean(axis=0) for levels in found], axis=1)


def _baseline(wrong: Mapping[str, np.ndarray], source: Source, config: CorruptionsConfig) -> np.ndarray | None:
    """Return the baseline's errors (images, counted corruptions), seeds averaged.

    None where there is no baseline, or it errs on no image under some corruption: nothing can be relative to that. The
    published errors of AlexNet are the same for every image.
    """
    if config.baseline == ALEXNET_NAME:
        return np.tile([ALEXNET[name] for name in counted(config)], (next(iter(wrong.values())).shape[1], 1))
    found = [
        _by_corruption(mine, source, counted(config))
        for model, mine in wrong.items()
        if split_name(model)[0] == config.baseline
    ]
    mean = np.mean(found, axis=0) if found else None
    return None if mean is None or not mean.any(axis=0).all() else mean


def counted(config: CorruptionsConfig) -> list[str]:
    """Return the corruptions that means count: those of the benchmark, not those set aside for validation."""
    return [name for name in config.corruptions if name in CORRUPTIONS]


class _ModelRows:
    """The rows of one model on one split."""

    def __init__(
        self, model: str, wrong: np.ndarray, source: Source, config: CorruptionsConfig, dataset: str, split: str
    ) -> None:
        self.model, self.dataset, self.split = model, dataset, split
        self.wrong, self.source, self.config = wrong, source, config
        self.count = wrong.shape[1]

    def single(self) -> list[dict[str, Any]]:
        """Return the accuracy under each piece."""
        rows = []
        for piece, wrong in zip(self.source.pieces, self.wrong, strict=True):
            metric = PLAIN_ACCURACY if piece == PLAIN else f"accuracy under {piece[0]} (severity {piece[1]})"
            rows.append(self._row(metric, wilson(int((~wrong).sum()), self.count)))
        return rows

    def means(self) -> list[dict[str, Any]]:
        """Return the accuracy under each corruption, severities averaged."""
        rows = []
        for name in self.config.corruptions:
            right = 1 - _by_corruption(self.wrong, self.source, [name])
            if len(self.config.severities) == 1:  # a share like any other
                interval = wilson(int(right.sum()), self.count)
            else:
                interval = self._bootstrap(right, lambda means: means[:, 0])
            rows.append(self._row(f"accuracy under {name}", interval))
        return rows

    def mean_errors(self, baseline: np.ndarray | None) -> list[dict[str, Any]]:
        """Return the mean corruption error, and the one relative to the baseline's errors (images, corruptions)."""
        names = counted(self.config)
        errors = _by_corruption(self.wrong, self.source, names)
        levels = {
            name: [
                float(wrong.mean())
                for piece, wrong in zip(self.source.pieces, self.wrong, strict=True)
                if piece[0] == name
            ]
            for name in names
        }
        _, *ends = self._bootstrap(errors, lambda means: means.mean(axis=1))
        kind = self.source.kind
        rows = [self._row(f"{MEAN_ERROR} ({kind})", (mean_corruption_error(levels), *ends))]
        if baseline is not None:
            value = mean_corruption_error(levels, dict(zip(names, baseline.mean(axis=0), strict=True)))
            _, *ends = self._bootstrap(np.concatenate([errors, baseline], axis=1), _relative)
            rows.append(self._row(f"{MEAN_ERROR} ({kind}, relative to {self.config.baseline})", (value, *ends)))
        return rows

    def _bootstrap(self, values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
        """Return a statistic of the means (R, K) of drawn rows of `values` (images, K), with its interval.

        What is drawn are the images' numbers, and each row counts as often as its number was drawn: the drawn rows of
        all replicates would not fit into memory. The seed is that of the split, so models meet the same draws.
        """

        def of_draws(draws: np.ndarray) -> np.ndarray:
            counts = np.stack([np.bincount(draw, minlength=len(values)) for draw in draws])
            return statistic(counts @ values / draws.shape[1])

        numbers, seed = np.arange(self.count), derive_seed(self.config.seed, "bootstrap", self.split)
        return bootstrap(of_draws, numbers, np.zeros(self.count), self.config.replicates, seed)

    def _row(self, metric: str, interval: Sequence[float]) -> dict[str, Any]:
        value, low, high = interval
        # a percentile interval of few images may end just short of the estimate
        ends = (value, min(low, value), max(high, value))
        return row(self.model, self.dataset, self.split, "all", metric, ends, self.count)


def _relative(means: np.ndarray) -> np.ndarray:
    """Return the mean ratio of errors to the baseline's, both in `means` (R, 2 K); nan where a draw holds no error of it.

    Such draws do not count (`bootstrap` leaves nan out): with few images the interval is a little too narrow.
    """
    errors, baseline = np.split(means, 2, axis=1)
    return np.where(baseline > 0, errors / np.where(baseline > 0, baseline, 1), np.nan).mean(axis=1)
