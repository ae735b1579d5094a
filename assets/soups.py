"""Group `soups`: classifiers mixed in weight space. Ingredients are recipes that start from a trained classifier."""

from collections.abc import Sequence

import dagster as dg

from assets.steps import Steps, op


def soup_asset(ingredients: Sequence[str], seeds: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset `soup`, which mixes the weights of `ingredients` (asset names), one per seed."""

    @dg.asset(
        group_name="soups",
        deps=["real_shards", *(dg.AssetKey(name.split("/")) for name in ingredients)],
        partitions_def=seeds,
        kinds={"pytorch"},
        metadata=op("ops.soup.search", training=True),
    )
    def soup(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """The weighted sum of the ingredients' weights that does best on the validation split."""
        from ops.soup.config import SoupConfig
        from ops.soup.search import make_soup

        with steps.begin(context) as step:
            summary = make_soup(
                step.config(SoupConfig),
                {name: step.parent(name) for name in ingredients},
                step.parent("real_shards"),
                step.seed,
                step.out,
                step.scratch,
                step.cache,
                step.device,
                step,
            )
            return step.finish(summary)

    return soup
