"""The columns of plans."""

import pyarrow as pa

ROW_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("label", pa.string()),
        ("domain", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.string())),
        ("name", pa.string()),
        ("concept", pa.string()),
        ("caption", pa.string()),
    ]
)
"""What a source of images is told: a row of any plan has these."""

GENERATE, OVERSAMPLE, NONE = "generate", "oversample", "none"
OVERSAMPLED = "oversampled"
"""The source, in manifests of synthetic shards, of training images that a plan repeats."""
"""Methods: an image is generated, a training image is repeated; a cell gets none."""
SEEN, EXTRAPOLATED, UNCONDITIONAL = "seen", "extrapolated", "unconditional"
"""Kinds of cells: training images show the combination; or each of its values, and never together; or nothing is asked for."""

PLAN_SCHEMA = pa.schema(
    [
        *ROW_SCHEMA,
        ("cell", pa.int32()),
        ("kind", pa.string()),
        ("method", pa.string()),
        ("copy_of", pa.string()),
    ]
)
"""A row of a sampling plan; `cell` is the line of `cells.parquet`, `copy_of` the id of the training image to repeat."""
