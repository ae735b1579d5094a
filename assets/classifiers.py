"""Group `classifiers`: one asset per recipe, one partition per seed.

A recipe is an asset of its own, not a partition of one big asset, for two reasons: Dagster keeps one code version per
asset, so that only this makes an edit of one recipe stale exactly that recipe; and a recipe depends on just the data
that it mixes (a real-only recipe does not wait for the generator; which synthetic images a mixed one waits for is its
`mix.source`).
"""

from collections.abc import Iterable

import dagster as dg

from assets.steps import Steps, op
from ops.train.recipe import Recipe


def classifier(
    section: str, name: str, recipe: Recipe, seeds: dg.PartitionsDefinition, group: str
) -> dg.AssetsDefinition:
    """Return the asset `<section>/<name>`: the classifier that `recipe` trains, one per seed."""
    synthetic = [dg.AssetKey(recipe.mix.source.split("/"))] if recipe.uses_synthetic else []
    initial = [] if recipe.initialisation == "scratch" else [dg.AssetKey(["classifier", recipe.initialisation])]
    identifier = [dg.AssetKey(["classifier", recipe.sampling.identifier])] if recipe.sampling.identifier else []

    @dg.asset(
        key=[section, name],
        group_name=group,
        deps=[dg.AssetKey("real_shards"), *synthetic, *dict.fromkeys([*initial, *identifier])],
        partitions_def=seeds,
        kinds={"pytorch"},
        metadata=op("ops.train.launch", params=f"{section}.recipes.{name}", training=True),
        description=f"{recipe.description or 'A classifier.'} Threat: {recipe.threat}; loss: {recipe.loss}.",
    )
    def train(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        from ops.train.launch import Job, train_in

        with steps.begin(context) as step:
            job = Job(
                recipe=step.config(Recipe),
                name=name,
                real=step.parent("real_shards"),
                synthetic=step.parent(recipe.mix.source) if synthetic else None,
                initial=step.parent(initial[0].to_user_string()) if initial else None,
                identifier=step.parent(identifier[0].to_user_string()) if identifier else None,
                seed=step.seed,
                out=step.out,
                scratch=step.scratch,
                cache=step.cache,
                device=str(step.device),
            )
            summary = train_in(step.processes, job, step)
            return step.finish(summary)

    return train


def classifier_assets(
    section: str, recipes: dict[str, Recipe], seeds: dg.PartitionsDefinition, group: str
) -> Iterable[dg.AssetsDefinition]:
    """Return one asset per recipe of `section`."""
    return [classifier(section, name, recipe, seeds, group) for name, recipe in recipes.items()]
