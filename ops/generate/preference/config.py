"""Settings of side-by-side comparisons of generators."""

from typing import Literal

from pydantic import Field

from ops.config import Config

Tier = Literal["development", "assurance"]
Apart = Literal["concept", "caption"]


class PreferenceConfig(Config):
    """What is compared, on which prompts, and how votes become ratings."""

    tier: Tier = Field("development", description="development: prompts to improve with; assurance: prompts kept back.")
    prompts: int = Field(200, ge=2, description="Prompts of a study (all of its tier, if those are fewer).")
    ratings: int = Field(
        200, ge=1, description="Ratings wanted for each pair of generators (Imagen 3's report: 2,500)."
    )
    per_rater: int = Field(100, ge=1, description="Comparisons of a study that one person is shown at most.")
    assurance_share: float = Field(0.3, gt=0, lt=1, description="Share of the concepts that are kept for assurance.")
    apart: Apart = Field(
        "concept",
        description="What the tiers never share besides captions: concepts, or nothing else (for data in which every "
        "image is a concept of its own).",
    )
    tie_margin: float = Field(
        0.05,
        ge=0,
        description="Probabilities of the asked label that differ by no more are a tie of the classifier's votes.",
    )
    prior: float = Field(1.0, gt=0, description="Invented ties between every two generators; keeps ratings finite.")
    replicates: int = Field(1000, ge=100, description="Bootstrap replicates.")
    seed: int = Field(0, description="Seed of prompts, pairings, sides and the bootstrap.")


class PreferenceStageConfig(PreferenceConfig):
    """The stage `preference`: what its judges see, and where people's votes are."""

    votes: str | None = Field(None, description="Folder below data/ with people's votes, one <aspect>.parquet each.")
    space: str = Field("efficientnet-lite0", description="Feature space in which nearness to real images is judged.")
    batch: int = Field(128, ge=1, description="Images classified together.")
