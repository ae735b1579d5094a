"""Does label + attribute synthesis make classifiers fairer than what everybody would try first? In and out of distribution.

    python -m benchmarks.fairness [--quick]

Every arm of `benchmarks.fairness_arms` is trained with five seeds on the embedded data, whose dark tones are rare in training
and whose styles of the shift splits were never seen; all take as many optimizer steps. How many synthetic images there are, and
their share in a batch, are chosen on validation images alone, with other seeds. Writes `docs/results/fairness.json`, `.md` and
a picture. Up to two hours on two cores; what is finished is kept in `.amalgam/studies/fairness` and not repeated.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ops.runtime import prepare_threads

prepare_threads()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from benchmarks.embedded import profile, training_images  # noqa: E402
from benchmarks.fairness_arms import CONTROL, LABEL, LABEL_ATTRIBUTE, REMEDIES, fairness_arms, plain_recipe, remedy_arms  # noqa: E402
from benchmarks.fairness_data import HOME, drawn, gate_of, real, synthetic  # noqa: E402
from benchmarks.fairness_page import OURS, page_of, shown_rows, verdicts_of  # noqa: E402
from benchmarks.fairness_remedies import OVERSAMPLING, made_by_group, remedies_text  # noqa: E402
from benchmarks.generator_training import Bar  # noqa: E402
from benchmarks.results import RESULTS, write_result  # noqa: E402
from benchmarks.study_folders import once  # noqa: E402
from ops.data.loading import open_images  # noqa: E402
from ops.evaluate.fairness.config import FairnessConfig  # noqa: E402
from ops.evaluate.fairness.measure import measure_fairness  # noqa: E402
from ops.evaluate.measurements import read_measurements  # noqa: E402
from ops.evaluate.outcomes import classify_images  # noqa: E402
from ops.evaluate.probabilities import FILE, join_probabilities, write_probabilities  # noqa: E402
from ops.models.checkpoint import load_classifier  # noqa: E402
from ops.runtime import configure_torch, pick_device  # noqa: E402
from ops.train.arms import arms_of, lineage_of  # noqa: E402
from ops.train.loop import train_classifier  # noqa: E402
from ops.train.recipe import Recipe  # noqa: E402
from pipelines.project import STATE  # noqa: E402

COMMAND = "python -m benchmarks.fairness"
SEEDS, CHOOSING = (0, 1, 2, 3, 4), (10, 11)
EPOCHS = 18
ALPHAS, MULTIPLES = (0.25, 0.5, 0.75), (1.0, 3.0)
SPLITS = ("test", "near", "shift_seen", "shift_unseen")
NAME = "fairness"
"""What seeds weights and order are drawn with: the same for all arms, so that seeds are paired."""
CHOSEN_BY = "worst-group accuracy on validation, mean of the seeds"
Arms = Mapping[str, Recipe]
Sources = Mapping[str, Path]


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, one mix; writes no page")
    quick = parser.parse_args().quick
    configure_torch()
    seeds, choosing, epochs = ((0,), (10,), 2.0) if quick else (SEEDS, CHOOSING, float(EPOCHS))
    alphas, multiples = ((0.5,), (1.0,)) if quick else (ALPHAS, MULTIPLES)
    home, shards = HOME / ("quick" if quick else "full"), real()
    tree = plain_recipe().model_dump()
    plain = Recipe.model_validate(tree | {"schedule": tree["schedule"] | {"epochs": epochs}})
    chosen, tried = choose_mixes(plain, shards, home, alphas, multiples, choosing)
    arms, sources = final_arms(plain, shards, chosen)
    folder = evaluated(arms, sources, shards, home, seeds, "fairness", OURS)
    rows = read_measurements(folder)
    differences = pq.read_table(folder / "differences.parquet").to_pandas()
    verdicts = verdicts_of(differences)
    page = page_of(rows, differences, verdicts, chosen, tried, len(seeds), CHOSEN_BY)
    text, helped = remedied(plain, shards, chosen[LABEL_ATTRIBUTE], arms, sources, home, seeds)
    page += text
    print(page)
    if not quick:
        shutil.copyfile(folder / "pictures" / "utility.png", RESULTS / "fairness.png")
        records = shown_rows(pd.concat([rows, helped[helped["model"].isin([*REMEDIES, CONTROL])]])).to_dict("records")
        write_result("fairness", COMMAND, "default", records, verdicts, page, chosen=chosen, tried=tried)


def choose_mixes(
    plain: Recipe,
    shards: Path,
    home: Path,
    alphas: Sequence[float],
    multiples: Sequence[float],
    seeds: Sequence[int],
) -> tuple[dict[str, tuple[float, float]], list[dict[str, Any]]]:
    """Return for each kind of synthetic images the best share of real images and multiple, and all that were tried."""
    tried: list[dict[str, Any]] = []
    images = training_images(shards)
    for kind, arm in ((LABEL, "label_synthesis"), (LABEL_ATTRIBUTE, "label_attribute_synthesis")):
        for multiple in multiples:
            made = synthetic(shards, kind, multiple)
            for alpha in alphas:
                recipe = fairness_arms(plain, images, alpha)[arm]
                places = home / "choosing" / f"{kind}-{multiple:g}-{alpha:g}"
                worst = [
                    worst_group(trained({arm: recipe}, arm, {kind: made}, shards, places, seed), shards)
                    for seed in seeds
                ]
                tried.append({"kind": kind, "multiple": multiple, "alpha": alpha, "value": float(np.mean(worst))})
    best = {
        kind: max((line for line in tried if line["kind"] == kind), key=lambda line: line["value"])
        for kind in (LABEL, LABEL_ATTRIBUTE)
    }
    return {kind: (line["alpha"], line["multiple"]) for kind, line in best.items()}, tried


def worst_group(model: Path, shards: Path) -> float:
    """Return the worst tone's accuracy on validation images."""
    images = open_images(shards, "validation", STATE / "cache")
    table, _ = classify_images(
        load_classifier(model, pick_device())[0], NAME, images, "validation", RULES, pick_device()
    )
    return float(table["clean"].groupby(images.table[f"attribute:{GROUP}"].to_numpy()).mean().min())


def final_arms(
    plain: Recipe, shards: Path, chosen: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, Recipe], Sources]:
    """Return the arms, each kind of synthesis with its own mix, and the shards that they name."""
    images = training_images(shards)
    by_kind = {kind: fairness_arms(plain, images, alpha) for kind, (alpha, _) in chosen.items()}
    arms = {
        name: by_kind[LABEL if recipe.mix.source == LABEL and recipe.uses_synthetic else LABEL_ATTRIBUTE][name]
        for name, recipe in by_kind[LABEL_ATTRIBUTE].items()
    }
    return arms, {kind: synthetic(shards, kind, multiple) for kind, (_, multiple) in chosen.items()}


def remedied(
    plain: Recipe,
    shards: Path,
    mix: tuple[float, float],
    arms: Arms,
    sources: Sources,
    home: Path,
    seeds: Sequence[int],
) -> tuple[str, pd.DataFrame]:
    """Return what remedies do for label + attribute synthesis, whose share and multiple are `mix`, and the rows of it."""
    alpha, multiple = mix
    remedies = remedy_arms(plain, training_images(shards), alpha)
    kinds = {recipe.mix.source for recipe in remedies.values() if recipe.uses_synthetic} - set(sources)
    given = {**sources, **{kind: synthetic(shards, kind, multiple) for kind in sorted(kinds)}}
    compared = {name: arms[name] for name in (OVERSAMPLING, OURS)} | remedies
    folder = evaluated(compared, given, shards, home, seeds, "remedies", OVERSAMPLING)
    differences = pq.read_table(folder / "differences.parquet").to_pandas()
    pair = {name: remedies[name] for name in (CONTROL, "augmented_synthesis")}
    alike = evaluated(pair, given, shards, home, seeds, "augmented", CONTROL)
    differences = pd.concat([differences, pq.read_table(alike / "differences.parquet").to_pandas()])
    groups = made_by_group(gate_of(shards), drawn(shards, LABEL_ATTRIBUTE, multiple), given[LABEL_ATTRIBUTE], shards)
    rows = read_measurements(folder)
    return remedies_text(rows, differences, groups), rows


def trained(arms: Arms, name: str, sources: Sources, shards: Path, home: Path, seed: int) -> Path:
    """Return the model folder of an arm, after those that it needs."""
    folders: dict[str, Path] = {}
    for each in lineage_of(arms, name):
        recipe = arms[each]
        mixed = sources[recipe.mix.source] if recipe.uses_synthetic else None
        initial = None if recipe.initialisation == "scratch" else folders[recipe.initialisation]
        identifier = folders.get(recipe.sampling.identifier)

        job = partial(
            fit,
            recipe=recipe,
            shards=shards,
            mixed=mixed,
            initial=initial,
            identifier=identifier,
            seed=seed,
            title=each,
        )
        folders[each] = once(home / f"{each}-{seed}", job)
    return folders[name]


def fit(
    out: Path,
    scratch: Path,
    recipe: Recipe,
    shards: Path,
    mixed: Path | None,
    initial: Path | None,
    identifier: Path | None,
    seed: int,
    title: str,
) -> None:
    """Train one recipe into `out`."""
    train_classifier(
        recipe, NAME, shards, mixed, initial, seed, out, scratch, STATE / "cache", pick_device(), Bar(f"{title} {seed}"),
        identifier=identifier,
    )  # fmt: skip


def evaluated(
    arms: Arms, sources: Sources, shards: Path, home: Path, seeds: Sequence[int], name: str, reference: str
) -> Path:
    """Return the folder `name` with what `measure_fairness` says of all arms, compared with `reference`."""
    answers = home / f"answers of {name}"
    answers.mkdir(parents=True, exist_ok=True)
    tables, pieces = [], []
    for arm in arms_of(arms):
        for seed in seeds:
            model = load_classifier(trained(arms, arm, sources, shards, home / "models", seed), pick_device())[0]
            for split in SPLITS:
                images = open_images(shards, split, STATE / "cache")
                title, piece = f"{arm}/seed-{seed}", answers / f"{arm}-{seed}-{split}.parquet"
                table, said = classify_images(model, title, images, split, RULES, pick_device())
                labels = np.array(images.classes, object)[images.labels]
                write_probabilities(piece, title, split, images.table["id"], labels, said)
                tables.append(table)
                pieces.append(piece)
    predictions = pa.Table.from_pandas(pd.concat(tables, ignore_index=True), preserve_index=False)
    pq.write_table(predictions, answers / "predictions.parquet", compression="zstd")
    join_probabilities(pieces, answers / FILE)
    config = FairnessConfig(
        attributes=[GROUP],
        in_distribution=["test", "near"],
        out_of_distribution=["shift_seen", "shift_unseen"],
        reference=reference,
        tested=["accuracy", "worst-group accuracy", "accuracy gap", "AUROC"],
    )
    out = home / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    measure_fairness(config, answers, shards, out, Bar("fairness"))
    return out


RULES = profile().robustness
GROUP = "tone"


if __name__ == "__main__":
    main()
