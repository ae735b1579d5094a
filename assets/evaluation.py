"""Group `evaluation`: how good, how robust, and for whom."""

from collections.abc import Mapping, Sequence

import dagster as dg

from assets.steps import Steps, op

HONESTY = "no_masked_gradients"


def robustness_asset(models: Sequence[dg.AssetKey]) -> dg.AssetsDefinition:
    """Return the asset `robustness`, which attacks every one of `models`."""

    @dg.asset(
        group_name="evaluation",
        deps=["real_shards", *models],
        kinds={"pytorch", "parquet"},
        metadata=op("ops.evaluate.robustness"),
        check_specs=[dg.AssetCheckSpec(HONESTY, asset="robustness", description="No model shows masked gradients.")],
    )
    def robustness(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Clean and robust accuracy of every model on every split, with the outcome of each single image."""
        from assets.checks import honesty_result
        from ops.evaluate.config import RobustnessConfig
        from ops.evaluate.robustness import measure_robustness
        from ops.files import read_json

        with steps.begin(context) as step:
            folders = step.parents()
            real = folders.pop("real_shards")
            summary = measure_robustness(
                step.config(RobustnessConfig), folders, real, step.out, step.ledger, step.cache, step.device, step
            )
            doubts = read_json(step.out / "honesty.json")["warnings"]
            return step.finish(summary, [honesty_result(doubts, name=HONESTY)])

    return robustness


def corruptions_asset(models: Sequence[dg.AssetKey], published: str | None) -> dg.AssetsDefinition:
    """Return the asset `corruptions`, which shows every one of `models` corrupted images (or those in `published`)."""

    @dg.asset(
        group_name="evaluation",
        deps=["real_shards", *models, *([published.split("/")] if published else [])],
        kinds={"pytorch", "parquet", "webdataset"},
        metadata=op("ops.evaluate.corruptions.measure"),
    )
    def corruptions(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Accuracy of every model under common corruptions (C-style), by image, and the corrupted images."""
        from ops.evaluate.corruption_config import CorruptionsConfig
        from ops.evaluate.corruptions.measure import measure_corruptions

        with steps.begin(context) as step:
            folders = step.parents()
            real = folders.pop("real_shards")
            config = step.config(CorruptionsConfig)
            files = step.parent(published) if published else None
            summary = measure_corruptions(
                config, folders, real, step.out, step.ledger, step.cache, step.device, step, files
            )
            return step.finish(summary)

    return corruptions


def shift_asset(models: Sequence[dg.AssetKey], sets: Mapping[str, str]) -> dg.AssetsDefinition:
    """Return the asset `shift`, which shows every one of `models` images from elsewhere; `sets` are the user's folders."""

    @dg.asset(
        group_name="evaluation",
        deps=["real_shards", *models, *(folder.split("/") for folder in sorted(set(sets.values())))],
        kinds={"pytorch", "parquet", "webdataset"},
        metadata=op("ops.evaluate.shift.measure"),
    )
    def shift(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Accuracy of every model by domain, on sets from elsewhere and under other class priors; few-shot splits."""
        from ops.evaluate.shift.config import ShiftConfig
        from ops.evaluate.shift.measure import measure_shift

        with steps.begin(context) as step:
            folders = step.parents()
            real = folders.pop("real_shards")
            config = step.config(ShiftConfig)
            raw = {name: step.parent(folder) for name, folder in sets.items()}
            summary = measure_shift(
                config, folders, real, raw, step.out, step.scratch, step.ledger, step.cache, step.device, step
            )
            return step.finish(summary)

    return shift


def model_card_asset(
    models: Sequence[dg.AssetKey], evaluations: Sequence[dg.AssetKey], sources: Sequence[str]
) -> dg.AssetsDefinition:
    """Return the asset `model_card`: a card for every one of `models`, with the figures of `evaluations`.

    `sources` are the stages or folders of synthetic images that some model was trained on.
    """

    @dg.asset(
        group_name="evaluation",
        deps=["real_shards", *models, *evaluations, *(dg.AssetKey(source.split("/")) for source in sources)],
        kinds={"markdown"},
        metadata=op("ops.report.cards"),
    )
    def model_card(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """What every model is, what it was trained on, how it was measured, and what to mind."""
        from ops.report.cards import write_model_cards
        from ops.report.config import ModelCardConfig

        with steps.begin(context) as step:
            folders = step.parents()
            measured = {name: folders.pop(name) for name in ("/".join(key.path) for key in evaluations)}
            mixed = {source: step.parent(source) for source in sources}
            trained = {name: path for name, path in folders.items() if name not in {"real_shards", *mixed}}
            config = step.config(ModelCardConfig)
            summary = write_model_cards(config, trained, measured, mixed, folders["real_shards"], step.out, step)
            return step.finish(summary)

    return model_card


@dg.asset(
    group_name="evaluation",
    deps=["robustness", "real_shards"],
    kinds={"parquet"},
    metadata=op("ops.evaluate.fairness.measure"),
)
def fairness(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """Every measure by group, the worst group and the gap, in and out of distribution; models compared in them."""
    from ops.evaluate.fairness.config import FairnessConfig
    from ops.evaluate.fairness.measure import measure_fairness

    with steps.begin(context) as step:
        config = step.config(FairnessConfig)
        summary = measure_fairness(config, step.parent("robustness"), step.parent("real_shards"), step.out, step)
        return step.finish(summary)


@dg.asset(
    group_name="evaluation",
    deps=["robustness"],
    kinds={"parquet"},
    metadata=op("ops.evaluate.comparisons"),
)
def comparisons(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """Which models differ by more than chance: every pair on the same images, with tests and intervals."""
    from ops.evaluate.comparison_config import ComparisonsConfig
    from ops.evaluate.comparisons import compare_models

    with steps.begin(context) as step:
        config = step.config(ComparisonsConfig)
        return step.finish(compare_models(config, step.parent("robustness"), step.out, step))
