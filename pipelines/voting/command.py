"""The command that opens the voting page."""

from pathlib import Path

import click

from ops.errors import AmalgamError
from ops.generate.preference.aspects import ASPECTS


@click.command("vote")
@click.argument("generators", nargs=-1, required=True)
@click.option("--aspect", type=click.Choice(list(ASPECTS)), default="overall", show_default=True, help="What is asked.")
@click.option(
    "--tier", type=click.Choice(["development", "assurance"]), default="development", show_default=True, help="Prompts."
)
@click.option(
    "--apart", type=click.Choice(["concept", "caption"]), help="What the tiers never share  [default: concept]"
)
@click.option("--prompts", type=click.IntRange(2), help="Prompts of the study.")
@click.option("--ratings", type=click.IntRange(1), help="Ratings wanted for each pair.")
@click.option("--each", type=click.IntRange(1), help="Comparisons that one person is asked for.")
@click.option("--seed", type=int, help="Seed of the plan.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where plans and votes are kept  [default: votes]")
@click.option("--port", default=8300, show_default=True, help="Port on 127.0.0.1.")
def vote_command(
    generators: tuple[str, ...],
    aspect: str,
    tier: str,
    apart: str | None,
    prompts: int | None,
    ratings: int | None,
    each: int | None,
    seed: int | None,
    folder: Path | None,
    port: int,
) -> None:
    """Open a page to vote on pairs of images of GENERATORS, blind and side by side.

    GENERATORS are folders of the store (synthetic_shards), or paths; all must be made from one sampling plan. Who votes
    gives a name and can stop and come back at any time; each vote is on the disk at once. The page exports the votes.

    Prompts of the tier `assurance` are kept back: a study of one tier never shows prompts of the other.
    """
    from ops.generate.preference.config import PreferenceConfig
    from pipelines.params import load_params
    from pipelines.project import ROOT, STATE, STORE
    from pipelines.voting.opening import open_study

    given = {"tier": tier, "apart": apart, "prompts": prompts, "ratings": ratings, "per_rater": each, "seed": seed}
    told = {name: value for name, value in given.items() if value is not None}
    config = PreferenceConfig.model_validate(
        {**load_params().preference.model_dump(include=set(PreferenceConfig.model_fields)), **told}
    )
    folders = {Path(name).name: _folder(name) for name in generators}
    if len(folders) < len(generators):
        raise AmalgamError("two generators have one name", "rename a folder: votes tell generators apart by name")
    votes = folder or ROOT / "votes"
    open_study(config, folders, aspect, votes, port, STATE / "cache", STORE / "real_shards")


def _folder(name: str) -> Path:
    """Return the folder of a generator's images; raises AmalgamError if there is none."""
    from pipelines.project import STORE

    for path in (STORE / name, Path(name)):
        if (path / "manifest.parquet").exists():
            return path
    raise AmalgamError(
        f"there are no images in {name}", "name a folder of the store, such as synthetic_shards, or a path to shards"
    )
