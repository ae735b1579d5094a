"""How rare the rare tones should be in training: the measurement behind `manifest.rare_keep`.

    python -m benchmarks.imbalance [--quick]

For each share of the medium-dark and dark training images that is kept, plain classifiers (no attacks, no synthetic
images; the architecture of the default profile) are trained with several seeds and evaluated on unseen concepts. Writes
`docs/results/imbalance.json` and `.md`. About ten minutes on two cores; finished trainings are kept in
`.amalgam/studies/imbalance` and not repeated.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.embedded import profile, real_shards
from benchmarks.results import interval, table, write_result
from ops.data.loading import open_images
from ops.evaluate.fairness.extremes import gap_interval, standard_errors
from ops.evaluate.fairness.resampling import by_group
from ops.evaluate.intervals import Interval, bootstrap
from ops.evaluate.measurements import row
from ops.files import replacing
from ops.models.checkpoint import load_classifier
from ops.progress import Silent
from ops.runtime import configure_torch, pick_device
from ops.train.loop import train_classifier
from ops.train.recipe import Recipe
from pipelines.params import Params
from pipelines.project import STATE

COMMAND = "python -m benchmarks.imbalance"
SHARES = (1.0, 0.3, 0.1, 0.03)
SEEDS = (0, 1, 2)
EPOCHS = 20
HOME = STATE / "studies" / "imbalance"


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one share, one seed, one epoch; writes nothing")
    quick = parser.parse_args().quick
    configure_torch()
    params = profile()
    shares, seeds, epochs = ((0.1,), (0,), 1) if quick else (SHARES, SEEDS, EPOCHS)
    outcomes = []
    for share in shares:
        shards = _shards(params, share)
        for seed in tqdm(seeds, desc=f"rare_keep {share}"):
            outcomes.append(_outcomes(params, shards, share, seed, epochs).assign(share=share, seed=seed))
    found = pd.concat(outcomes, ignore_index=True)
    rows, page = _rows(found, params), _page(found, params)
    print(page)
    if not quick:
        write_result("imbalance", COMMAND, "default", rows, [], page)


def _shards(params: Params, share: float) -> Path:
    """Return real shards whose training split keeps `share` of the rare tones."""
    kept = params.manifest.model_copy(update={"rare_keep": share})
    return real_shards(params.model_copy(update={"manifest": kept}), HOME / f"keep-{share}")


def _outcomes(params: Params, shards: Path, share: float, seed: int, epochs: float) -> pd.DataFrame:
    """Return the outcome of each test image for one plain classifier."""
    ledger = HOME / f"outcomes-{share}-{seed}-{epochs}.parquet"
    if ledger.exists():
        return pd.read_parquet(ledger)
    tree = params.classifier.recipes["real"].model_dump()
    tree |= {"loss": "clean", "reviews": {"count": 1}, "schedule": {**tree["schedule"], "epochs": epochs}}
    out, scratch = (HOME / f"{kind}-{share}-{seed}-{epochs}" for kind in ("model", "scratch"))
    for folder in (out, scratch):
        folder.mkdir(exist_ok=True)
    device, cache = pick_device(), STATE / "cache"
    recipe = Recipe.model_validate(tree)
    train_classifier(recipe, "plain", shards, None, None, seed, out, scratch, cache, device, Silent())
    model, _ = load_classifier(out, device)
    images = open_images(shards, "test", cache)
    with torch.no_grad():
        parts = np.array_split(np.arange(len(images)), max(1, len(images) // 256))
        predicted = torch.cat([model(images.batch(part).to(device)).argmax(dim=1).cpu() for part in parts]).numpy()
    found = images.table[["id", "label", f"attribute:{params.manifest.attribute}"]].copy()
    found = found.rename(columns={f"attribute:{params.manifest.attribute}": "group"})
    found["right"] = predicted == images.labels
    with replacing(ledger) as temporary:
        found.to_parquet(temporary)
    shutil.rmtree(scratch)
    return found


def _matrix(found: pd.DataFrame, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes (images, seeds) and groups (images,) of one share."""
    mine = found[found["share"] == share]
    wide = mine.pivot(index="id", columns="seed", values="right")
    groups = mine.drop_duplicates("id").set_index("id")["group"].reindex(wide.index)
    return wide.to_numpy(np.float64), groups.to_numpy(dtype=str)


def _figures(found: pd.DataFrame, share: float, rare: set[str]) -> dict[str, Interval]:
    """Return accuracy, its gap between groups, and common minus rare, all of the mean over seeds, with intervals."""
    right, groups = _matrix(found, share)
    is_rare = np.isin(groups, list(rare))

    def difference(values: np.ndarray) -> np.ndarray:
        return values[:, ~is_rare].mean(axis=(1, 2)) - values[:, is_rare].mean(axis=(1, 2))

    return {
        "accuracy": bootstrap(lambda v: v.mean(axis=(1, 2)), right, groups, 2000, 0),
        "accuracy gap": accuracy_gap(right.mean(axis=1), groups),
        "common minus rare": bootstrap(difference, right, groups, 2000, 0),
    }


def accuracy_gap(right: np.ndarray, groups: np.ndarray) -> Interval:
    """Return the best less the worst group's mean outcome (N,), with an interval that holds for all groups (N,) at once."""
    members = [right[groups == name] for name in np.unique(groups)]
    sizes = [len(each) for each in members]
    values = by_group(lambda g, w: {"accuracy": members[g] @ w / sizes[g]}, sizes, 2000, range(len(sizes)))["accuracy"]
    return gap_interval(values, standard_errors(values, np.array(sizes), share=False))


def _rows(found: pd.DataFrame, params: Params) -> list[dict[str, Any]]:
    rows = []
    for share in dict.fromkeys(found["share"]):
        for metric, estimate in _figures(found, share, set(params.manifest.rare_values)).items():
            n = found[found["share"] == share]["id"].nunique()
            name = f"plain, rare_keep {share}"
            rows.append({**row(name, "emoji-people", "test", "all", metric, estimate, n), "seed": -1})
    return rows


def _page(found: pd.DataFrame, params: Params) -> str:
    """Return the page."""
    one = found.drop_duplicates("id")
    chance = one["label"].value_counts(normalize=True).iloc[0]
    rare = set(params.manifest.rare_values)
    lines = []
    for share in dict.fromkeys(found["share"]):
        figures = _figures(found, share, rare)
        mine = found[found["share"] == share]
        spread = mine.groupby("seed")["right"].mean()
        difference = figures["common minus rare"]
        lines.append(
            [
                f"{share:g}",
                interval(*figures["accuracy"]),
                ", ".join(f"{v:.2f}" for v in spread),
                interval(*figures["accuracy gap"]),
                f"{100 * difference[0]:+.1f} [{100 * difference[1]:+.1f}, {100 * difference[2]:+.1f}]",
            ]
        )
    return "\n".join(
        [
            "# The arranged imbalance",
            "",
            "Plain classifiers (clean training, no synthetic images) on emoji-people, by the share of medium-dark and dark "
            f"training images that is kept. {len(one)} test images of concepts that training never saw; chance (the most "
            f"frequent class) is {chance:.2f}. {found['seed'].nunique()} seeds, {EPOCHS} epochs; 95 % bootstrap intervals "
            "over images within tones, which do not include the variation between seeds or between concepts. Gaps are of "
            "the mean accuracy of the seeds, and their intervals hold for all tones at once.",
            "",
            table(
                ["rare_keep", "accuracy", "by seed", "gap (best minus worst tone)", "common minus rare tones (points)"],
                lines,
            ),
            "",
            f"The default is {params.manifest.rare_keep:g}. The gap of six groups is positive by chance alone (the best of "
            "six against the worst of six); the first line is what it is without an arranged imbalance.",
        ]
    )


if __name__ == "__main__":
    main()
