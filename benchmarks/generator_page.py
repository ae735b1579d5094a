"""The page of the study `benchmarks.generator`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.results import HOLDS, table


def page_of(
    rows: pd.DataFrame,
    verdicts: Sequence[Mapping[str, Any]],
    gates: Mapping[int, Mapping[str, Mapping[str, Any]]],
    spaces: pd.DataFrame,
    operations: Mapping[str, int],
    revisions: Mapping[str, str],
) -> str:
    """Return the page."""
    gate = [
        [seed, name, "passes" if each["passed"] else "fails", "; ".join(each["reasons"]) or "–"]
        for seed, found in gates.items()
        for name, each in found.items()
    ]
    claims = [
        [v["claim"], f"{v['effect']:+.3g} [{v['low']:+.3g}, {v['high']:+.3g}]", v["seeds"], HOLDS[v["holds"]]]
        for v in verdicts
    ]
    real = rows[(rows["model"] == "real") & (rows["split"] == "validation") & (rows["group"] == "all")]
    covered = float(real.loc[real["metric"] == "coverage (efficientnet-lite0)", "value"].mean())
    return f"""# The generator

The networks of the default profile, trained for longer on the embedded data, and simple sources of images, all asked the
same. `real` is what real training images reach. Means over seeds, with the mean of the seeds' 95 % intervals. Distances are
in declared feature spaces; none is FID.

## Does it beat the baselines?

{table(["claim", "difference (better is positive), 95 % interval over images and seeds", "seeds", "verdict"], claims)}

A Gaussian fitted to pixels has their mean and covariance: in principal components of pixels its Fréchet distance is at the
floor by construction, whatever its images look like. And of held-out concepts, as EfficientNet-Lite0 sees them, training
images themselves cover {covered:.0%}.

## Against held-out concepts (validation)

{metrics_table(rows)}

## Latents or pixels, at equal compute

One seed. The same network on pixels (4x4 patches) has trained for {operations["steps"]:,} steps, which are as many operations
as those of the autoencoder and of the latent diffusion model together (GFLOP of a step: autoencoder
{operations["autoencoder"] / 1e9:.2f}, diffusion in latents {operations["latent"] / 1e9:.2f}, in pixels
{operations["pixel"] / 1e9:.2f}). Intervals are over images; another seed would differ by more.

{metrics_table(spaces)}

## Copies of training images

{table(["seed", "source", "gate", "reasons"], gate)}

![Samples of the diffusion model by class, tone and style](generator-samples.png)

![Samples of diffusion in pixels](generator-pixels.png)

![Real images by class, tone and style](generator-real.png)

Trained and judged at revisions: {"; ".join(f"{name} `{revision}`" for name, revision in revisions.items())}.
"""


def metrics_table(rows: pd.DataFrame) -> str:
    """Return metrics (lines) by model (columns) against validation images, seeds averaged."""
    mine = rows[(rows["split"] == "validation") & (rows["group"] == "all") & ~rows["metric"].str.contains(" gap ")]
    models = list(dict.fromkeys(["real", *mine["model"]]))
    lines = []
    for metric in dict.fromkeys(mine["metric"]):
        part = mine[mine["metric"] == metric].groupby("model")[["value", "low", "high"]].mean()
        lines.append([metric, *(_shown(part.loc[name]) if name in part.index else "–" for name in models)])
    return table(["metric", *models], lines)


def _shown(row: "pd.Series[float]") -> str:
    value, low, high = (f"{row[name]:.3g}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
