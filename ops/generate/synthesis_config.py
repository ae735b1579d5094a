"""Settings of the shards that the diffusion model fills."""

from pydantic import Field

from ops.generate.sampler_config import SamplerConfig
from ops.generate.upsampler_config import UpsamplingConfig


class SyntheticShardsConfig(SamplerConfig):
    """How the planned images are sampled, and written."""

    shard_size: int = Field(500, ge=1, description="Images in one shard; a killed run loses at most one.")
    upsampling: UpsamplingConfig = Field(
        UpsamplingConfig(), description="How a cascade enlarges them, where there is one."
    )
