"""Group `generation`, its second half: how good the generator is, and what it must answer for."""

from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from assets.steps import Step, Steps, op

MEMORISATION = "memorisation"
JUDGED = [dg.AssetKey("real_shards"), dg.AssetKey("generator_samples"), dg.AssetKey("baseline_samples")]


def sources_of(step: Step, baselines: Iterable[str]) -> dict[str, Path]:
    """Return the shard folders that answer the evaluation prompts, the diffusion model's first."""
    made = {name: step.parent("baseline_samples") / name for name in baselines}
    return {"diffusion": step.parent("generator_samples") / "diffusion", **made}


def keys_of(folders: Iterable[str | None]) -> list[dg.AssetKey]:
    """Return the keys of folders in `data/`."""
    return [dg.AssetKey(folder.split("/")) for folder in sorted({each for each in folders if each})]


def generator_report_asset(scorer: str, baselines: list[str], encoders: dict[str, str]) -> dg.AssetsDefinition:
    """Return the asset `generator_report`; `encoders` are folders in `data/` by the name of their feature space."""

    @dg.asset(
        group_name="generation",
        deps=[
            *JUDGED,
            dg.AssetKey("synthetic_shards"),
            dg.AssetKey(["classifier", scorer]),
            *keys_of(encoders.values()),
        ],
        kinds={"pytorch", "scikitlearn"},
        metadata=op("ops.generate.quality.stage"),
    )
    def generator_report(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Quality of the diffusion model beside baselines and real images: distances, coverage, usefulness, alignment."""
        from ops.generate.quality.config import QualityConfig
        from ops.generate.quality.stage import write_generator_report

        with steps.begin(context) as step:
            summary = write_generator_report(
                step.config(QualityConfig),
                step.parent("real_shards"),
                {**sources_of(step, baselines), "sampling plan": step.parent("synthetic_shards")},
                step.parents(f"classifier/{scorer}/"),
                {name: step.parent(folder) for name, folder in encoders.items()},
                step.out,
                step.cache,
                step.device,
                step,
            )
            return step.finish(summary)

    return generator_report


def responsibility_asset(scorer: str, baselines: list[str], unsafe: str | None) -> dg.AssetsDefinition:
    """Return the asset `responsibility`; `unsafe` is a safety classifier's folder in `data/`."""

    @dg.asset(
        group_name="generation",
        deps=[*JUDGED, dg.AssetKey("diffusion"), dg.AssetKey(["classifier", scorer]), *keys_of([unsafe])],
        check_specs=[
            dg.AssetCheckSpec(
                MEMORISATION, asset="responsibility", description="The diffusion model repeats no training images."
            )
        ],
        kinds={"pytorch", "scikitlearn"},
        metadata=op("ops.generate.responsibility.stage"),
    )
    def responsibility(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """What the generator must answer for: copies of training images, unsafe outputs, whom it shows by itself."""
        from assets.checks import memorisation_result
        from ops.files import read_json
        from ops.generate.responsibility.config import ResponsibilityStageConfig
        from ops.generate.responsibility.stage import write_responsibility_report

        with steps.begin(context) as step:
            summary = write_responsibility_report(
                step.config(ResponsibilityStageConfig),
                step.parent("real_shards"),
                sources_of(step, baselines),
                step.parent("generator_samples") / "neutral",
                step.parents(f"classifier/{scorer}/"),
                step.parent(unsafe) if unsafe else None,
                step.out,
                step.cache,
                step.device,
                step,
                step.parent("diffusion"),
            )
            verdict = read_json(step.out / "verdicts.json")["diffusion"]
            return step.finish(summary, [memorisation_result(**verdict, name=MEMORISATION)])

    return responsibility


def preference_asset(scorer: str, baselines: list[str], votes: str | None) -> dg.AssetsDefinition:
    """Return the asset `preference`; `votes` is a folder in `data/` with exported votes of people."""

    @dg.asset(
        group_name="generation",
        deps=[*JUDGED, dg.AssetKey(["classifier", scorer]), *keys_of([votes])],
        kinds={"pytorch"},
        metadata=op("ops.generate.preference.stage"),
    )
    def preference(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Generators side by side: Elo ratings and win rates from judges that are programs, and from people's votes."""
        from ops.generate.preference.config import PreferenceStageConfig
        from ops.generate.preference.stage import write_preference

        with steps.begin(context) as step:
            summary = write_preference(
                step.config(PreferenceStageConfig),
                step.parent("real_shards"),
                sources_of(step, baselines),
                step.parents(f"classifier/{scorer}/"),
                step.parent(votes) if votes else None,
                step.out,
                step.cache,
                step.device,
                step,
            )
            return step.finish(summary)

    return preference


@dg.asset(
    group_name="generation",
    deps=[
        *JUDGED,
        *map(dg.AssetKey, ("curated_manifest", "diffusion", "generator_report", "responsibility", "preference")),
    ],
    kinds={"markdown"},
    metadata=op("ops.generate.responsibility.card_stage"),
)
def generator_card(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """A card of the diffusion model: what it is, what it learnt from, how good it is, what it must answer for."""
    from ops.generate.responsibility.card_stage import write_diffusion_card
    from ops.generate.responsibility.config import GeneratorCardConfig

    with steps.begin(context) as step:
        summary = write_diffusion_card(
            step.config(GeneratorCardConfig),
            step.parent("diffusion"),
            step.parent("generator_samples"),
            step.parent("real_shards"),
            step.parent("curated_manifest"),
            step.parents(),
            step.out,
        )
        return step.finish(summary)
