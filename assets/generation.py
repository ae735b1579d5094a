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


@dg.asset(
    group_name="generation",
    deps=["real_shards", "autoencoder"],
    kinds={"pytorch"},
    metadata=op("ops.generate.diffusion", training=True),
)
def diffusion(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """A latent diffusion model conditioned on caption, label, domain and attributes."""
    from ops.generate.config import DiffusionConfig
    from ops.generate.diffusion import train_diffusion

    with steps.begin(context) as step:
        summary = train_diffusion(
            step.config(DiffusionConfig),
            step.parent("real_shards"),
            step.parent("autoencoder"),
            step.out,
            step.scratch,
            step.cache,
            step.device,
            step,
        )
        return step.finish(summary)
