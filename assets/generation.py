"""Group `generation`: the latent text-to-image diffusion model."""

import dagster as dg

from assets.steps import Steps, op


def autoencoder_asset(scorer: str | None, start: str | None) -> dg.AssetsDefinition:
    """Return the asset `autoencoder`; recipe `scorer` of `classifier` sees for its loss, `start` is a folder in `data/`."""
    judges = [dg.AssetKey(["classifier", scorer])] if scorer else []
    brought = [dg.AssetKey(start.split("/"))] if start else []

    @dg.asset(
        group_name="generation",
        deps=[dg.AssetKey("real_shards"), *judges, *brought],
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
                step.parent("real_shards"),
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


def diffusion_asset(start: str | None, encoder: str) -> dg.AssetsDefinition:
    """Return the asset `diffusion`; `start` and `encoder` are folders in `data/`, or None and "minilm"."""
    brought = [dg.AssetKey(folder.split("/")) for folder in (start, encoder) if folder and "/" in folder]

    @dg.asset(
        group_name="generation",
        deps=[dg.AssetKey("real_shards"), dg.AssetKey("autoencoder"), *brought],
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
                shards=step.parent("real_shards"),
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


@dg.asset(
    group_name="generation",
    deps=["evaluation_prompts", "diffusion"],
    kinds={"pytorch", "webdataset"},
    metadata=op("ops.generate.samples"),
)
def generator_samples(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """The diffusion model's answers to the evaluation prompts, to be judged and never to be learnt from."""
    from ops.generate.sampler_config import SyntheticShardsConfig
    from ops.generate.samples import sample_prompts

    with steps.begin(context) as step:
        summary = sample_prompts(
            step.config(SyntheticShardsConfig),
            step.parent("evaluation_prompts"),
            step.parent("diffusion"),
            step.out,
            step.scratch,
            step.device,
            step,
        )
        return step.finish(summary)
