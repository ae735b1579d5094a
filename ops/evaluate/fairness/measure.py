"""For whom every model works, in and out of distribution, from the answers that `robustness` kept (nothing is run again).

plan.py         which images, classes, groups, splits        model.py        everything about one model
groups.py       which images belong to which group           part.py         every measure along one axis
counting.py     which groups are large enough                measured.py     groups, worst group, gap, disparity
evidence.py     what a model says, at its operating point    resampling.py   bootstrap samples, the same for all models
differences.py  paired tests between models                  pictures.py     groups with intervals; utility against gap
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ops.evaluate.fairness import differences
from ops.evaluate.fairness.answers import read_answers
from ops.evaluate.fairness.config import FairnessConfig
from ops.evaluate.fairness.counting import LEFT_OUT
from ops.evaluate.fairness.differences import Family, compare
from ops.evaluate.fairness.model import Tables, measure_model
from ops.evaluate.fairness.names import names_of
from ops.evaluate.fairness.pictures import draw_groups, draw_utility
from ops.evaluate.fairness.plan import Plan, make_plan
from ops.evaluate.fairness.summary import summarise
from ops.evaluate.measurements import write_measurements
from ops.files import read_json, replacing
from ops.progress import Monitor
from ops.summary import Summary


def measure_fairness(config: FairnessConfig, robustness: Path, real: Path, out: Path, monitor: Monitor) -> Summary:
    """Write what every model does for each group, and how sure that is.

    `measurements.parquet`: splits one by one have accuracy and robust accuracy by attribute; the splits in distribution
    together, and those out of it, all measures by attribute, by intersection and of all images. Of each measure there is
    the worst group (its name is the row's group), the gap max - min and the standard deviation over groups (the row's group
    is the axis), and what is gained or lost out of distribution.

    `classes.parquet`: the same of each class against the rest. `differences.parquet`: paired tests between models
    (`differences.SCHEMA`). `left_out.parquet`: what is too small to be measured (`counting.LEFT_OUT`).

    Equalised odds difference is the larger of the gaps in sensitivity and in specificity, demographic parity difference the
    gap in the selection rate; without positive classes both are of each class against the rest, then the mean, for
    equalised odds over the classes that every group has. High-risk sensitivity is the share of images of high-risk classes
    that are called high-risk, of whichever of these classes. Intervals are Wilson's for shares of a group's images, else
    the bootstrap over images within groups; for worst groups and gaps see `extremes`.

    Raises AmalgamError for unknown attributes, classes and splits, an axis without labelled images, images of one class,
    models that met different images or seeds, and a reference that was not evaluated.
    """
    plan, tables, lines = measure_models(config, robustness, real, monitor)
    small = list(tables.small.values())
    write_measurements(out / "measurements.parquet", tables.rows)
    write_measurements(out / "classes.parquet", tables.by_class)
    _write(out / "differences.parquet", lines, differences.SCHEMA)
    _write(out / "left_out.parquet", small, LEFT_OUT)
    frame, names = pd.DataFrame(tables.rows), names_of(read_json(real / "dataset.json"))
    main, *others = [axis.name for axis in plan.axes[1:]]
    draw_groups(frame, main, names, out / "pictures" / "groups.png")
    for axis in others:
        draw_groups(frame, axis, names, out / "pictures" / f"groups-{axis}.png")
    draw_utility(frame, main, out / "pictures" / "utility.png")
    return summarise(frame, [main, *others], lines, small, names)


def measure_models(
    config: FairnessConfig, robustness: Path, real: Path, monitor: Monitor
) -> tuple[Plan, Tables, list[dict[str, Any]]]:
    """Return what was measured of every model, and lines of `differences.SCHEMA`; raises what `measure_fairness` raises."""
    plan, tables = make_plan(config, robustness, real), Tables()
    families: differences.Families = {}
    answers = list(read_answers(robustness, plan.images, plan.classes))
    for done, mine in enumerate(answers, start=1):
        for (part, axis, name), values in measure_model(plan, robustness, mine, tables).samples.items():
            if name in config.tested:
                family = families.setdefault((part, axis, name), Family(plan.size(part, axis)))
                family.samples.setdefault(mine.model, {})[mine.seed] = values
        monitor.progress(done, len(answers), "model")
    return plan, tables, compare(config, families)


def _write(path: Path, lines: list[dict[str, Any]], schema: pa.Schema) -> None:
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(lines, schema), temporary, compression="zstd")
