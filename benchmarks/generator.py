"""How good the generator is, trained for longer than in the demo, and whether it beats simple sources of images.

    python -m benchmarks.generator [--quick]
    python -m benchmarks.generator --ship data/generators/emoji-people    # seed 0's weights, to start from

For each of three seeds: autoencoder, diffusion model (the default profile's networks), its answers to evaluation prompts,
those of the baselines, and both reports; for one seed also diffusion in pixels, at equal compute. Writes
`docs/results/generator.json`, `.md` and pictures. This takes hours; what is finished is kept in
`.amalgam/studies/generator` and not repeated, and trainings go on after a kill.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from ops.launching import Here
from ops.runtime import prepare_threads

prepare_threads()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.stats import t  # noqa: E402

from benchmarks.embedded import training_images  # noqa: E402
from benchmarks.generator_page import page_of  # noqa: E402
from benchmarks.generator_training import (  # noqa: E402
    HOME,
    Bar,
    pixel_generator,
    scorers,
    shards_of,
    study_params,
    trained_generator,
)
from benchmarks.results import RESULTS, write_result  # noqa: E402
from benchmarks.study_folders import once, revision_of  # noqa: E402
from ops.data.loading import open_images  # noqa: E402
from ops.evaluate.measurements import read_measurements  # noqa: E402
from ops.files import read_json  # noqa: E402
from ops.generate.baselines.writing import write_baselines  # noqa: E402
from ops.generate.prompts import write_prompts  # noqa: E402
from ops.generate.quality.pictures import draw_samples  # noqa: E402
from ops.generate.quality.stage import write_generator_report  # noqa: E402
from ops.generate.responsibility.stage import write_responsibility_report  # noqa: E402
from ops.generate.samples import sample_prompts  # noqa: E402
from ops.generate.shipping import write_record  # noqa: E402
from ops.generate.start import ship_generator  # noqa: E402
from ops.runtime import configure_torch, pick_device  # noqa: E402
from pipelines.params import Params  # noqa: E402
from pipelines.project import STATE  # noqa: E402

COMMAND = "python -m benchmarks.generator"
SEEDS = (0, 1, 2)
SAMPLING_STEPS = 12
PIXEL = "pixel diffusion"
SCORE = "classification accuracy score"


def main() -> None:
    """Run the study, or ship what it trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, hardly trained, few images; writes nothing")
    parser.add_argument("--ship", type=Path, metavar="FOLDER", help="write the weights of seed 0 to FOLDER and stop")
    chosen = parser.parse_args()
    configure_torch()
    if chosen.ship:
        return ship_weights(chosen.ship)
    seeds, share = ((0,), 0.01) if chosen.quick else (SEEDS, 1.0)
    home = HOME.with_name("generator-quick") if chosen.quick else HOME
    images = 120 if chosen.quick else training_images(shards_of(study_params(seeds[0], share), home))
    reports = {seed: judged(study_params(seed, share), home, images) for seed in seeds}
    rows = pd.concat(
        [read_measurements(folder / name) for folder in reports.values() for name in ("quality", "answers")]
    )
    spaces = read_measurements(spaces_judged(study_params(seeds[0], share), home, images))
    verdicts = verdicts_of(rows)
    gates = {s: read_json(f / "answers" / "verdicts.json") for s, f in reports.items()}
    trained = [f"diffusion-{seed}" for seed in seeds] + [f"pixel-diffusion-{seeds[0]}"]
    revisions = {name: revision_of(home / name) for name in [*trained, *(path.name for path in reports.values())]}
    page = page_of(rows, verdicts, gates, spaces, read_json(home / "operations" / "steps.json"), revisions)
    print(page)
    if not chosen.quick:
        everything = pd.concat([rows, spaces[spaces["model"] == PIXEL]])
        write_result("generator", COMMAND, "default", everything.to_dict("records"), verdicts, page)
        pictures(study_params(seeds[0]), home)


def judged(params: Params, home: Path, images: int) -> Path:
    """Return the folder with the reports on one seed's generator and on the baselines."""
    seed, device, cache = params.diffusion.seed, pick_device(), STATE / "cache"
    shards = shards_of(params, home)
    _, diffusion = trained_generator(params, shards, home)
    prompts = once(home / "prompts", lambda out, _: write_prompts(
        params.evaluation_prompts.model_copy(update={"images": images}), shards, out, Bar("prompts")))  # fmt: skip
    baselines = once(
        home / f"baselines-{seed}",
        lambda out, scratch: write_baselines(
            params.baseline_samples.model_copy(update={"seed": seed}),
            shards,
            prompts,
            out,
            scratch,
            cache,
            Bar("baselines"),
        ),
    )
    samples = answers(params, diffusion, prompts, home / f"samples-{seed}")
    sources: dict[str, Path] = {"diffusion": samples / "diffusion"}
    sources |= {str(kind): baselines / kind for kind in params.baseline_samples.kinds}
    eyes = scorers(params, shards, home)

    def judge(out: Path, _: Path) -> None:
        for name in ("quality", "answers"):
            (out / name).mkdir()
        quality = params.generator_report.model_copy(update={"images": images, "seed": seed})
        write_generator_report(quality, shards, sources, eyes, {}, out / "quality", cache, device, Bar("quality"))
        write_responsibility_report(
            params.responsibility, shards, sources, samples / "neutral", eyes, None, out / "answers", cache, device,
            Bar("responsibility"), diffusion,
        )  # fmt: skip
        for name in ("quality", "answers"):
            path = out / name / "measurements.parquet"
            pd.read_parquet(path).assign(seed=seed).to_parquet(path)

    return once(home / f"judged-{seed}", judge)


def answers(params: Params, diffusion: Path, prompts: Path, folder: Path) -> Path:
    """Return `folder` with what the model in `diffusion` answers to the prompts."""
    config = params.generator_samples.model_copy(update={"steps": SAMPLING_STEPS, "seed": params.diffusion.seed})
    return once(
        folder,
        lambda out, scratch: sample_prompts(
            config, prompts, diffusion, out, scratch, Here(pick_device()), Bar(folder.name)
        ),
    )


def spaces_judged(params: Params, home: Path, images: int) -> Path:
    """Return the folder with the quality of latent and pixel diffusion at equal compute, of the parameters' seed."""
    seed, shards = params.diffusion.seed, shards_of(params, home)
    made = answers(params, pixel_generator(params, shards, home), home / "prompts", home / f"samples-pixel-{seed}")
    sources = {"diffusion": home / f"samples-{seed}" / "diffusion", PIXEL: made / "diffusion"}
    quality = params.generator_report.model_copy(update={"images": images, "seed": seed})
    return once(
        home / f"judged-pixel-{seed}",
        lambda out, _: write_generator_report(
            quality,
            shards,
            sources,
            scorers(params, shards, home),
            {},
            out,
            STATE / "cache",
            pick_device(),
            Bar("spaces"),
        ),
    )


def verdicts_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each metric and baseline whether the diffusion model is better by more than both intervals.

    The effect is the mean over seeds; its variance is that of the two models' intervals (of images), as independent ones,
    and that of the seeds' effects, which are a random sample. Its interval is Student's, with the degrees of freedom of
    Satterthwaite (1946), in which images count as many; as in `ops.evaluate.significance.statistic_effect`.
    """
    metrics = [
        (name, name.startswith("Fréchet"))
        for name in dict.fromkeys(rows["metric"])
        if (name.startswith(("Fréchet", "coverage")) and " gap " not in name) or name == SCORE
    ]
    return [
        verdict
        for metric, smaller in metrics
        for baseline in ("gaussian", "mixture")
        if (verdict := _verdict(rows, metric, baseline, smaller=smaller))
    ]


def _verdict(rows: pd.DataFrame, metric: str, baseline: str, *, smaller: bool) -> dict[str, Any] | None:
    mine = rows[(rows["metric"] == metric) & (rows["group"] == "all") & (rows["split"] == "validation")]
    ours, theirs = (mine[mine["model"] == name].set_index("seed") for name in ("diffusion", baseline))
    if ours.empty or theirs.empty:
        return None
    sign = -1 if smaller else 1
    effects = sign * (ours["value"] - theirs["value"])
    widths = [(part["high"] - part["low"]).to_numpy() / 3.92 for part in (ours, theirs)]
    seeds = len(effects)
    of_images = float(np.mean(widths[0] ** 2 + widths[1] ** 2)) / seeds
    of_seeds = float(effects.var(ddof=1)) / seeds if seeds > 1 else 0.0
    df = (seeds - 1) * ((of_images + of_seeds) / of_seeds) ** 2 if of_seeds else np.inf
    effect, width = float(effects.mean()), float(t.ppf(0.975, df)) * (of_images + of_seeds) ** 0.5
    return {
        "claim": f"The diffusion model beats the {baseline} baseline in {metric}.",
        "source": "Gowal et al. 2021 compare such sources by what robust training gains from them",
        "paper_effect": "no figure for this metric",
        "effect": effect,
        "low": effect - width,
        "high": effect + width,
        "seeds": seeds,
        "holds": True if effect - width > 0 else False if effect + width < 0 else None,
    }


def pictures(params: Params, home: Path) -> None:
    """Put samples of both diffusion models and real images, by class, tone and style, beside the page."""
    shards, cache, seed = shards_of(params, home), STATE / "cache", params.diffusion.seed
    dataset = read_json(shards / "dataset.json")
    attribute = str(dataset["groups"])
    for name, target, folder in (
        ("diffusion", "samples", home / f"samples-{seed}" / "diffusion"),
        ("diffusion in pixels", "pixels", home / f"samples-pixel-{seed}" / "diffusion"),
        ("real", "real", shards),
    ):
        images, names = open_images(folder, "train", cache), dataset.get("attribute_names", {}).get(attribute, {})
        draw_samples(name, images, attribute, names, RESULTS / f"generator-{target}.png", seed)


def ship_weights(folder: Path) -> None:
    """Write autoencoder and diffusion model of seed 0 to `folder`, in half precision, with what they came from."""
    params = study_params(0)
    _, diffusion = trained_generator(params, shards_of(params))
    shutil.copytree(HOME / "shipped-0" / "autoencoder", folder / "autoencoder", dirs_exist_ok=True)
    images = open_images(shards_of(params), "train", STATE / "cache")
    origin = f"trained by `{COMMAND}`, seed 0"
    write_record(folder / "autoencoder", images, f"{params.autoencoder.steps} steps, {origin}")
    steps = f"{params.autoencoder.steps} steps of the autoencoder and {params.diffusion.steps} of the diffusion model"
    ship_generator(diffusion, folder / "diffusion", f"{steps}, {origin}")


if __name__ == "__main__":
    main()
