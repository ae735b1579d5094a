"""Does a generator copy its training images? Measures, each beside that of held-out images, and a gate.

What honest images look like is learnt from a held-out split V: thresholds are percentiles of its distances to the training
images T, and its own copies, authenticity and closeness are what the generator's are compared with. That is fair only if
V is as near to T as honest images may be: a split of unseen concepts makes every generator of known concepts look like a
copyist, and a split of near-duplicates lets mild copies pass. What a copy is says `ops.generate.responsibility.originals`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from ops.errors import AmalgamError
from ops.evaluate.intervals import Interval, wilson
from ops.generate.responsibility.config import MemorisationConfig
from ops.generate.responsibility.copies import Nearest, Sample
from ops.generate.responsibility.copying import (
    CellTest,
    authenticity,
    closeness,
    closeness_of_held_out,
    data_copying,
    distance_ratio,
)
from ops.generate.responsibility.neighbours import nearest_others
from ops.generate.responsibility.originals import CopySearch, Found, learn_comparison
from ops.runtime import derive_seed


@dataclass(frozen=True)
class Honest:
    """What held-out images are like, and what is known of the training images; the same for all generators."""

    split: str
    train: Sample
    held_out: Sample
    search: CopySearch
    spacing: np.ndarray
    """Distance (n,) of each training image to its nearest other one."""
    cells: KMeans
    features: float
    """Feature distance that few held-out images are within."""
    closer: Interval
    authentic: Interval
    copies: Interval
    reconstructed: Interval | None

    @property
    def near(self) -> Nearest:
        """What is nearest to each held-out image."""
        return self.search.plain.held_out


@dataclass(frozen=True)
class Measures:
    """What was found of one generator."""

    images: int
    exact: Interval
    """Share of images with the pixels of a training image."""
    copies: Interval
    """Share of images that are copies, of training images or of their reconstructions."""
    copies_held_out: Interval
    reconstructed: Interval | None
    """Share of images that are copies of reconstructions; None without an autoencoder."""
    reconstructed_held_out: Interval | None
    """The same of reconstructions of held-out images."""
    closer: Interval
    closer_held_out: Interval
    ratio: Interval
    """Median of the distance to training images over that to held-out ones."""
    authentic: Interval
    authentic_held_out: Interval
    cells: CellTest | None
    found: Found
    listed: pd.DataFrame = field(repr=False)
    """Suspects, with the columns of `COPIES_SCHEMA` but for source and space; closest first."""


@dataclass(frozen=True)
class Verdict:
    """Of a gate."""

    passed: bool
    reasons: tuple[str, ...]
    """Why not; empty where it passed."""


def pick_reference(config: MemorisationConfig, splits: Sequence[str]) -> str:
    """Return the held-out split to compare with; AmalgamError if none of the configured ones exists."""
    for name in config.reference:
        if name in splits:
            return name
    raise AmalgamError(
        f"there are no held-out images to compare with: {', '.join(config.reference)}",
        f"memorisation.reference: name one of {', '.join(sorted(splits)) or 'the splits, of which there is none'}",
    )


def learn_honest(
    config: MemorisationConfig,
    train: Sample,
    held_out: Sample,
    split: str,
    reconstructed: tuple[Sample, Sample] | None = None,
) -> Honest:
    """Return what held-out images are like; AmalgamError if there are fewer than two of either.

    `reconstructed` are both sets after the autoencoder of the generator, in the same order: then copies are also sought
    among those, and nothing else changes.
    """
    if min(len(train), len(held_out)) < 2:
        raise AmalgamError(
            f"{len(train)} training and {len(held_out)} {split} images are too few to tell what copies are",
            "give both splits more images",
        )
    spacing = nearest_others(train.features)
    again = learn_comparison(config, *reconstructed) if reconstructed else None
    search = CopySearch(learn_comparison(config, train, held_out), again)
    near, found = search.plain.held_out, search.find_held_out()
    cells = KMeans(min(config.cells, len(train)), n_init=3, random_state=derive_seed(config.seed, "cells") % 2**32).fit(
        train.features
    )
    return Honest(
        split,
        train,
        held_out,
        search,
        spacing,
        cells,
        features=float(np.percentile(near.distances, config.percentile, method="lower")),
        closer=closeness_of_held_out(train.features, held_out.features),
        authentic=authenticity(near.distances, near.places, spacing),
        copies=_share(found.copies),
        reconstructed=_reconstructed(search, found),
    )


def measure_memorisation(config: MemorisationConfig, honest: Honest, generated: Sample) -> Measures:
    """Return what is found of generated images; AmalgamError if their size or features are not those of real images."""
    train = honest.train
    for what, ours, theirs in (
        ("pixels", generated.images.shape[1:], train.images.shape[1:]),
        ("features", generated.features.shape[1:], train.features.shape[1:]),
    ):
        if ours != theirs:
            raise AmalgamError(
                f"generated images have {what} of the shape {ours}, training images {theirs}", "compare like with like"
            )
    found = honest.search.find(generated)
    near = found.near
    cells = data_copying(
        near.distances,
        honest.near.distances,
        honest.cells.predict(generated.features),
        honest.cells.predict(honest.held_out.features),
        config.cell_images,
    )
    return Measures(
        images=len(generated),
        exact=_share(near.exact),
        copies=_share(found.copies),
        copies_held_out=honest.copies,
        reconstructed=_reconstructed(honest.search, found),
        reconstructed_held_out=honest.reconstructed,
        closer=closeness(generated.features, train.features, honest.held_out.features),
        closer_held_out=honest.closer,
        ratio=distance_ratio(
            generated.features, train.features, honest.held_out.features, derive_seed(config.seed, "ratio")
        ),
        authentic=authenticity(near.distances, near.places, honest.spacing),
        authentic_held_out=honest.authentic,
        cells=cells,
        found=found,
        listed=_listed(config, honest, generated, found),
    )


def memorisation_gate(config: MemorisationConfig, measures: Measures) -> Verdict:
    """Say whether a generator passes, and why not.

    Intervals are on its side: it fails only where the end of the 95 % interval that is kindest to it is beyond the limit.
    """
    reasons = []
    exact, copies, closer, authentic = measures.exact, measures.copies, measures.closer, measures.authentic
    if exact[0] > config.max_exact:
        reasons.append(
            f"{exact[0]:.1%} of the images have the pixels of a training image (at most {config.max_exact:.1%})"
        )
    if copies[1] > config.max_copies:
        reasons.append(
            f"{copies[0]:.1%} are copies [{copies[1]:.1%}, {copies[2]:.1%}] (at most {config.max_copies:.1%}; held-out "
            f"images: {measures.copies_held_out[0]:.1%})"
        )
    if exchangeable(config, measures) and closer[1] > 0.5 + config.max_closer:
        limit = 0.5 + config.max_closer
        reasons.append(f"{closer[0]:.2f} are nearer to training than to held-out images (at most {limit:.2f})")
    limit = measures.authentic_held_out[0] - config.max_authenticity_loss
    if authentic[2] < limit:
        reasons.append(f"{authentic[0]:.2f} are authentic (at least {limit:.2f})")
    if measures.cells is not None and measures.cells.c_t[2] < config.least_c_t:
        reasons.append(f"C_T is {measures.cells.c_t[0]:.1f} (at least {config.least_c_t:.1f})")
    if measures.cells is not None and measures.cells.worst < config.least_cell:
        reasons.append(f"the lowest z-score of a cell is {measures.cells.worst:.1f} (at least {config.least_cell:.1f})")
    return Verdict(not reasons, tuple(reasons))


def exchangeable(config: MemorisationConfig, measures: Measures) -> bool:
    """Say whether held-out images are as near to training images as to each other, give or take `config.max_closer`.

    Where they are not (other concepts, families of drawings), 1/2 is not what an honest generator would have, and the
    share that is closer to training images is reported but not judged.
    """
    return abs(measures.closer_held_out[0] - 0.5) <= config.max_closer


def _share(hits: np.ndarray) -> Interval:
    return wilson(int(hits.sum()), len(hits))


def _reconstructed(search: CopySearch, found: Found) -> Interval | None:
    """Return the share of copies of reconstructions; None without an autoencoder."""
    if search.reconstructed is None or found.reconstructed is None:
        return None
    return _share(search.reconstructed.copies(found.reconstructed))


def _listed(config: MemorisationConfig, honest: Honest, generated: Sample, found: Found) -> pd.DataFrame:
    """Return the suspects: exact, alike by hash, near in features or pixels, or near to a reconstruction.

    Pixels, of a training image or of its reconstruction, confirm what the others suspect.
    """
    near, again = found.near, found.reconstructed
    routes = {
        "exact": near.exact,
        "phash": near.bits <= config.phash_bits,
        "features": near.distances <= honest.features,
        "pixels": near.pixels <= honest.search.plain.threshold,
    }
    if honest.search.reconstructed is not None and again is not None:
        routes["reconstruction"] = honest.search.reconstructed.copies(again)
    chosen = np.flatnonzero(np.any(list(routes.values()), axis=0))
    chosen = chosen[np.argsort(near.pixels[chosen], kind="stable")]
    return pd.DataFrame(
        {
            "id": [generated.ids[i] for i in chosen],
            "training_id": [honest.train.ids[found.closest[i]] for i in chosen],
            "confirmed": found.copies[chosen],
            "found": pd.Series([[name for name, hit in routes.items() if hit[i]] for i in chosen], dtype=object),
            "pixel_distance": near.pixels[chosen],
            "reconstruction_distance": again.pixels[chosen] if again else np.nan,
            "feature_distance": near.distances[chosen],
            "phash_bits": near.bits[chosen],
        }
    )
