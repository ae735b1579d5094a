"""Group `raw`: the images as they came, and the table that describes them."""

from collections.abc import Iterable

import dagster as dg

from assets.steps import Steps, op

SHARDS = "Shards of generated images"
CORRUPTIONS = "Published files of CIFAR-10-C or ImageNet-C"
MODEL = "Code and weights of a classifier that was trained elsewhere"
IMAGES = "Images from elsewhere"
GENERATOR = "A trained generator to start from"
ENCODER = "A text or vision encoder"
VOTES = "Votes of people on generated images"
TARGETS = "Tables of who should be shown how often"


def brought_folders(uses: Iterable[tuple[str, str]], dataset: str) -> list[dg.AssetSpec]:
    """Return the external assets that are folders below `data/` which a user brings, but that of the `dataset`.

    `uses` has each folder with what it is, such as `SHARDS`; one with several uses is one asset.
    """
    found: dict[str, set[str]] = {}
    for folder, use in uses:
        found.setdefault(folder, set()).add(use)
    return [
        dg.AssetSpec(
            folder.split("/"),
            group_name="raw",
            description=f"{'; '.join(sorted(what))}. Versioned by `data.dvc`; `dvc pull` brings them.",
            kinds={"dvc"},
        )
        for folder, what in sorted(found.items())
        if folder != dataset
    ]


def raw_assets(dataset: str) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return the assets of this group; `dataset` is the folder of raw files, relative to the project."""
    source = dg.AssetSpec(
        dataset.split("/"),
        group_name="raw",
        description="Raw files, versioned by `data.dvc`; `dvc pull` brings them.",
        kinds={"dvc"},
    )

    @dg.asset(group_name="raw", deps=[source.key], kinds={"webdataset"}, metadata=op("ops.data.sources"))
    def raw_images(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
        """Every image of the dataset that decodes, as WebDataset shards; the others are in quarantine and counted."""
        from ops.data.config import RawImagesConfig
        from ops.data.sources import ingest_images

        with steps.begin(context) as step:
            summary = ingest_images(step.config(RawImagesConfig), step.parent(dataset), step.out, step)
            return step.finish(summary)

    return [source, raw_images, manifest]


@dg.asset(group_name="raw", deps=["raw_images"], kinds={"parquet"}, metadata=op("ops.data.manifest"))
def manifest(context: dg.AssetExecutionContext, steps: dg.ResourceParam[Steps]) -> dg.MaterializeResult:
    """One row per image: class, domain, attributes, hashes, and the split it belongs to."""
    from ops.data.config import ManifestConfig
    from ops.data.manifest import build_manifest

    with steps.begin(context) as step:
        summary = build_manifest(step.config(ManifestConfig), step.parent("raw_images"), step.out, step)
        return step.finish(summary)
