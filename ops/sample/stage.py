"""The stage `sampling_plan`: what generator and classifier are known to do well, and the plan that follows."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ops.progress import Monitor
from ops.sample.config import ErrorDriven, SamplingPlanConfig
from ops.sample.evidence import cell_errors, judge_generator, known_vocabularies
from ops.sample.plan import plan_samples
from ops.sample.strategies import factors_of
from ops.summary import Summary


def write_plan(
    config: SamplingPlanConfig,
    shards: Path,
    diffusion: Path,
    answers: Path | None,
    scorers: Mapping[str, Mapping[str, Path]],
    folders: Mapping[str, Path],
    out: Path,
    cache: Path,
    device: torch.device,
    monitor: Monitor,
) -> Summary:
    """Write the plan for the generator in `diffusion`; see `plan_samples`.

    Args:
        config: which images to make.
        shards: real images.
        diffusion: the generator, for what it was conditioned on.
        answers: its answers to the evaluation prompts (`generator_samples/diffusion`); needed where there is a gate.
        scorers: the model folders of each of `config.scorers`, by recipe and name.
        folders: the folder of each of `config.folders`.
        out: an empty folder.
        cache: where images and features are kept.
        device: where networks run.
        monitor: hears of progress.
    """
    strategy, gate = config.strategy, config.gate
    errors = judged = None
    if isinstance(strategy, ErrorDriven):
        errors = cell_errors(strategy, scorers.get(strategy.scorer, {}), shards, cache, device, monitor)
    if gate is not None:
        assert answers is not None
        factors = factors_of(strategy, folders)
        mine = scorers.get(gate.scorer, {}) if gate.needs_scorer else {}
        judged = judge_generator(gate, factors, shards, answers, mine, cache, device, monitor)
    known = known_vocabularies(diffusion)
    return plan_samples(config, shards, out, monitor, known=known, errors=errors, gate=judged, folders=folders)
