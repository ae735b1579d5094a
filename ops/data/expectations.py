"""What later stages rely on, as a Great Expectations suite over the curated manifest."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ops.data.config import UNLABELLED, Split
from ops.data.manifest import read_manifest
from ops.files import read_json


@dataclass(frozen=True)
class ExpectationOutcome:
    """One expectation: critical ones are the contract of later stages, the others deserve a look."""

    name: str
    success: bool
    severity: str
    observed: dict[str, Any]
    failed_ids: list[str]


def check_manifest(folder: Path) -> list[ExpectationOutcome]:
    """Return the outcome of every expectation on the manifest in `folder`."""
    import great_expectations as gx
    from great_expectations import expectations as gxe
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    frame = read_manifest(folder)
    dataset = read_json(folder / "dataset.json")
    trained = frame[frame["split"] == "train"]
    free = frame["split"] == UNLABELLED
    evaluated = frame.loc[frame["split"].isin(["validation", "test"]), "concept"]
    table = frame.drop(columns=["attributes", "provenance"]).assign(
        concept_splits=_splits_of_concept(frame),
        class_images=frame["label"].map(trained["label"].value_counts()).fillna(0).astype(int).mask(free),
        caption_length=frame["caption"].str.len().mask(free & (frame["caption"] == "")),
        labelled=(frame["label"].notna() != free).astype(int),
        concept_evaluated=(free & frame["concept"].isin(evaluated)).astype(int),
    )
    size = dataset["image_size"]
    critical: dict[str, Any] = {
        "ids are unique": gxe.ExpectColumnValuesToBeUnique(column="id"),
        "ids are there": gxe.ExpectColumnValuesToNotBeNull(column="id"),
        "all images have a label but the unlabelled ones": gxe.ExpectColumnValuesToBeInSet(
            column="labelled", value_set=[1]
        ),
        "labels are known": gxe.ExpectColumnValuesToBeInSet(column="label", value_set=dataset["classes"]),
        "domains are known": gxe.ExpectColumnValuesToBeInSet(column="domain", value_set=dataset["domains"]),
        "splits are known": gxe.ExpectColumnDistinctValuesToBeInSet(column="split", value_set=SPLITS),
        "there is a training split": gxe.ExpectColumnDistinctValuesToContainSet(column="split", value_set=["train"]),
        "images have the declared width": gxe.ExpectColumnValuesToBeInSet(column="width", value_set=[size]),
        "images have the declared height": gxe.ExpectColumnValuesToBeInSet(column="height", value_set=[size]),
        "hashes are SHA-256": gxe.ExpectColumnValuesToMatchRegex(column="sha256", regex="^[0-9a-f]{64}$"),
        "no concept is in two of train, validation, test": gxe.ExpectColumnValuesToBeBetween(
            column="concept_splits", max_value=1
        ),
        "images are real": gxe.ExpectColumnValuesToBeInSet(column="source", value_set=["real"]),
        "weights are in (0, 1]": gxe.ExpectColumnValuesToBeBetween(
            column="weight", min_value=0, max_value=1, strict_min=True
        ),
        **{
            f"every image has a known {name}": gxe.ExpectColumnValuesToBeInSet(
                column=f"attribute:{name}", value_set=values
            )
            for name, values in dataset["attributes"].items()
        },
    }
    warning: dict[str, Any] = {
        "classes have enough training images": gxe.ExpectColumnValuesToBeBetween(
            column="class_images", min_value=dataset.get("min_class_images", 1)
        ),
        "captions are neither empty nor long": gxe.ExpectColumnValuesToBeBetween(
            column="caption_length", min_value=3, max_value=200
        ),
        "bytes are not repeated": gxe.ExpectColumnValuesToBeUnique(column="sha256"),
    }
    if free.any():
        warning["no unlabelled image is of a concept of validation or test"] = gxe.ExpectColumnValuesToBeInSet(
            column="concept_evaluated", value_set=[0]
        )
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = gx.ExpectationSuite(name="curated_manifest")
    names = {}
    for severity, chosen in (("critical", critical), ("warning", warning)):
        for name, expectation in chosen.items():
            expectation.meta = {"name": name}
            suite.add_expectation(expectation)
            names[name] = severity
    batch = context.data_sources.pandas_default.read_dataframe(table)
    report = batch.validate(suite, result_format={"result_format": "SUMMARY", "unexpected_index_column_names": ["id"]})
    return [_outcome(each, names) for each in report.results]


SPLITS = list(get_args(Split))


def _splits_of_concept(frame: Any) -> Any:
    """Return in how many of train, validation and test the concept of each row occurs."""
    main = frame[frame["split"].isin(["train", "validation", "test"])]
    return frame["concept"].map(main.groupby("concept")["split"].nunique()).fillna(0).astype(int)


def _outcome(result: Any, severities: dict[str, str]) -> ExpectationOutcome:
    name = result.expectation_config.meta["name"]
    detail = result.result or {}
    failed = [str(row.get("id")) for row in detail.get("partial_unexpected_index_list") or []]
    kept = ("element_count", "unexpected_count", "observed_value", "partial_unexpected_list")
    observed = {key: detail[key] for key in kept if key in detail}
    if result.exception_info.get("raised_exception"):
        observed["error"] = str(result.exception_info.get("exception_message", ""))[:200]
    return ExpectationOutcome(name, bool(result.success), severities[name], observed, failed)
