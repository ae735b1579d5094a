"""Group `generation`: the latent text-to-image diffusion model."""

import dagster as dg

from assets.steps import Steps, op


@dg.asset(
    group_name="generation",
    deps=["real_shards"],
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
            step.out,
            step.scratch,
            step.cache,
            step.device,
            step,
        )
        return step.finish(summary)


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
