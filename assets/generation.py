"""Group `generation`: the latent text-to-image diffusion model."""

import dagster as dg

from assets.steps import Steps, op

SMALL, UPSAMPLER = "small_shards", "upsampler"


def cascade_assets(factor: int) -> list[dg.AssetsDefinition]:
    """Return the assets of a cascade, whose base makes images that are smaller by `factor`."""

    @dg.asset(
        group_name="generation",
        deps=["real_shards"],
        kinds={"webdataset"},
        metadata=op("ops.generate.low_resolution", params="upsampler"),
    )
    def small_shards(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """The real images, shrunk: what the first stage of the cascade learns from."""
        from ops.generate.low_resolution import write_small_shards

        with steps.begin(context) as step:
            return step.finish(write_small_shards(factor, step.parent("real_shards"), step.out, step))

    @dg.asset(
        group_name="generation",
        deps=["real_shards"],
        kinds={"pytorch"},
        metadata=op("ops.generate.upsampler_training", training=True),
    )
    def upsampler(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """The second stage of the cascade: a diffusion model that enlarges what the first one draws."""
        from ops.generate.upsampler_config import UpsamplerConfig
        from ops.generate.upsampler_training import train_upsampler

        with steps.begin(context) as step:
            summary = train_upsampler(
                step.config(UpsamplerConfig),
                step.parent("real_shards"),
                step.out,
                step.scratch,
                step.cache,
                step.device,
                step,
            )
            return step.finish(summary)

    return [small_shards, upsampler]


def autoencoder_asset(shards: str, scorer: str | None, start: str | None) -> dg.AssetsDefinition:
    """Return the asset `autoencoder`; recipe `scorer` of `classifier` sees for its loss, `start` is a folder in `data/`."""
    judges = [dg.AssetKey(["classifier", scorer])] if scorer else []
    brought = [dg.AssetKey(start.split("/"))] if start else []

    @dg.asset(
        group_name="generation",
        deps=[dg.AssetKey(shards), *judges, *brought],
        kinds={"pytorch"},
        metadata=op("ops.generate.autoencoder", training=True),
    )
    def autoencoder(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """A KL autoencoder: the space in which the diffusion model works."""
        from ops.generate.autoencoder import train_autoencoder
        from ops.generate.config import AutoencoderConfig

        with steps.begin(context) as step:
            summary = train_autoencoder(
                step.config(AutoencoderConfig),
                step.parent(shards),
                step.parents(f"classifier/{scorer}/") if scorer else {},
                step.out,
                step.scratch,
                step.cache,
                step.device,
                step,
                step.parent(start) if start else None,
            )
            return step.finish(summary)

    return autoencoder


def diffusion_asset(shards: str, start: str | None, encoder: str) -> dg.AssetsDefinition:
    """Return the asset `diffusion`; `start` and `encoder` are folders in `data/`, or None and "minilm"."""
    brought = [dg.AssetKey(folder.split("/")) for folder in (start, encoder) if folder and "/" in folder]

    @dg.asset(
        group_name="generation",
        deps=[dg.AssetKey(shards), dg.AssetKey("autoencoder"), *brought],
        kinds={"pytorch"},
        metadata=op("ops.generate.launch", training=True),
    )
    def diffusion(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """A latent diffusion model conditioned on caption, label, domain and attributes."""
        from ops.generate.launch import DiffusionJob, train_diffusion_in
        from ops.generate.model_config import DiffusionConfig

        with steps.begin(context) as step:
            config = step.config(DiffusionConfig)
            if "/" in encoder:
                config = config.model_copy(update={"encoder": str(step.parent(encoder))})
            job = DiffusionJob(
                config=config,
                shards=step.parent(shards),
                autoencoder=step.parent("autoencoder"),
                start=step.parent(start) if start else None,
                out=step.out,
                scratch=step.scratch,
                cache=step.cache,
                device=str(step.device),
            )
            return step.finish(train_diffusion_in(step.processes, job, step))

    return diffusion


@dg.asset(
    group_name="generation",
    deps=["real_shards"],
    kinds={"parquet"},
    metadata=op("ops.generate.prompts"),
)
def evaluation_prompts(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """What every generator is asked for: prompts as in the training split, and neutral ones."""
    from ops.generate.prompts import write_prompts
    from ops.generate.prompts_config import EvaluationPromptsConfig

    with steps.begin(context) as step:
        summary = write_prompts(step.config(EvaluationPromptsConfig), step.parent("real_shards"), step.out, step)
        return step.finish(summary)


@dg.asset(
    group_name="generation",
    deps=["real_shards", "evaluation_prompts"],
    kinds={"scikitlearn", "webdataset"},
    metadata=op("ops.generate.baselines.writing"),
)
def baseline_samples(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """Images of simple sources that a learned generator must beat: a Gaussian, a kernel density, the data redrawn."""
    from ops.generate.baselines.config import BaselinesConfig
    from ops.generate.baselines.writing import write_baselines

    with steps.begin(context) as step:
        summary = write_baselines(
            step.config(BaselinesConfig),
            step.parent("real_shards"),
            step.parent("evaluation_prompts"),
            step.out,
            step.scratch,
            step.cache,
            step,
        )
        return step.finish(summary)


def generator_samples_asset(*, cascade: bool) -> dg.AssetsDefinition:
    """Return the asset `generator_samples`, which waits for the upsampler of a cascade."""

    @dg.asset(
        group_name="generation",
        deps=["evaluation_prompts", "diffusion", *([UPSAMPLER] if cascade else [])],
        kinds={"pytorch", "webdataset"},
        metadata=op("ops.generate.samples"),
    )
    def generator_samples(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """The diffusion model's answers to the evaluation prompts, to be judged and never to be learnt from."""
        from ops.generate.samples import sample_prompts
        from ops.generate.synthesis_config import SyntheticShardsConfig

        with steps.begin(context) as step:
            summary = sample_prompts(
                step.config(SyntheticShardsConfig),
                step.parent("evaluation_prompts"),
                step.parent("diffusion"),
                step.out,
                step.scratch,
                step.launcher,
                step,
                step.parent(UPSAMPLER) if cascade else None,
            )
            return step.finish(summary)

    return generator_samples
