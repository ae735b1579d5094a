"""The stage `preference`: generators side by side, before judges that are programs, and before people who voted.

Two judges stand in for people and are called so: `judge:scorer` prefers the image in which held-out classifiers see more
of the asked label (a part of alignment), `judge:realism` the one that is nearer to a real held-out image in a feature
space (a part of appeal). Votes of people come from `python -m pipelines vote` and are rated apart from judges.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ops.data.loading import open_images
from ops.generate.preference.aspects import ASPECTS
from ops.generate.preference.comparing import compare_generators
from ops.generate.preference.config import PreferenceStageConfig
from ops.generate.preference.exports import read_votes
from ops.generate.preference.scoring import asked_label_judge, nearest_real_judge
from ops.generate.preference.sources import open_sources
from ops.generate.preference.study import build_plan
from ops.generate.preference.votes import Vote
from ops.generate.quality.config import QualityConfig
from ops.generate.quality.encoders import make_spaces
from ops.generate.quality.stage import HELD_OUT
from ops.models.checkpoint import load_classifier
from ops.progress import Monitor
from ops.sample.scoring import probabilities
from ops.summary import Summary


def write_preference(
    config: PreferenceStageConfig,
    shards: Path,
    sources: Mapping[str, Path],
    scorers: Mapping[str, Path],
    votes: Path | None,
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Write studies, votes, ratings and pictures of `sources`, shard folders that answer one plan, by name.

    Ties of `judge:realism` are distances that differ by less than `tie_margin` of their median.

    Raises AmalgamError if votes of people are on another study than `config` makes.
    """
    opened = open_sources(sources, cache)
    train, real = (open_images(shards, split, cache) for split in ("train", HELD_OUT))
    models = [load_classifier(folder, device)[0] for _, folder in sorted(scorers.items())]
    seen = {
        name: probabilities(models, np.array(images.images), config.batch, device) for name, images in opened.items()
    }
    space = make_spaces(QualityConfig(spaces=[config.space]), train.images, scorers, {}, device)[config.space]
    features = {name: space.embed(images.images, cache, monitor) for name, images in opened.items()}
    wanted = space.embed(real.images, cache, monitor)
    realism = nearest_real_judge("realism", features, wanted, 0.0)
    scale = float(np.median(np.concatenate([np.abs(score) for score in realism.scores.values()])))
    judges = {
        "alignment": [asked_label_judge(config, "scorer", opened, seen)],
        "appeal": [nearest_real_judge("realism", features, wanted, config.tie_margin * scale)],
    }
    given: dict[str, list[Vote]] = {}
    for aspect in ASPECTS if votes else ():
        path = votes / f"{aspect}.parquet"  # type: ignore[operator]
        if path.exists():
            given[aspect] = read_votes(path, build_plan(config, opened, aspect, config.tier, real))
    wished = {aspect: judges.get(aspect, []) for aspect in {**judges, **given}}
    return compare_generators(config, sources, wished, out, cache, monitor, real, given)
