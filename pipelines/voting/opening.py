"""From folders of images to an open voting page."""

from collections.abc import Mapping
from pathlib import Path

from ops.generate.preference.aspects import aspect_of
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.study import EvalPlan, build_plan, read_plan, write_plan

REFERENCE_SPLITS = ("train", "near", "validation", "test")
"""All but those of domains that the generators never saw."""


def open_study(
    config: PreferenceConfig,
    folders: Mapping[str, Path],
    aspect: str,
    folder: Path,
    port: int,
    cache: Path,
    real_shards: Path,
) -> None:
    """Plan a study of the generators in `folders`, or find it again, and serve its page.

    All plans are kept in `folder/plans`, so that no study shows prompts that one of the other tier has used. Aspects with
    a reference take it from `REFERENCE_SPLITS` of `real_shards`.

    Raises AmalgamError as `build_plan` and `serve` do.
    """
    from ops.data.loading import open_images
    from ops.generate.preference.sources import open_sources
    from pipelines.voting.serving import serve

    sources = open_sources(folders, cache)
    real = None
    if aspect_of(aspect).shows_reference:
        real = open_images(real_shards, REFERENCE_SPLITS, cache)
    plan = build_plan(config, sources, aspect, config.tier, real, earlier=plans(folder))
    write_plan(plan, folder / "plans" / f"{plan.study_id}.json")
    serve(plan, sources, folder, port, real, config.per_rater)


def plans(folder: Path) -> list[EvalPlan]:
    """Return all plans that were served with votes in `folder`."""
    return [read_plan(path) for path in sorted((folder / "plans").glob("*.json"))]
