"""The trainings behind `benchmarks.generator`: scorers, autoencoder and diffusion model of one seed, resumable."""

import shutil
from collections.abc import Callable
from pathlib import Path

from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.embedded import profile, real_shards
from benchmarks.study_folders import once
from ops.files import read_json, write_json
from ops.generate.autoencoder import load_autoencoder, train_autoencoder
from ops.generate.diffusion import train_diffusion
from ops.generate.model_config import DiffusionConfig
from ops.generate.shipping import ship
from ops.runtime import pick_device
from ops.train.loop import train_classifier
from pipelines.params import Params
from pipelines.project import STATE

HOME = STATE / "studies" / "generator"
AUTOENCODER_STEPS, DIFFUSION_STEPS = 3000, 7000
"""Optimizer steps of autoencoder and diffusion model."""
SCORER_SEEDS = (0, 1)


class Bar:
    """A monitor that draws a progress bar on the terminal."""

    def __init__(self, name: str) -> None:
        self.bar: tqdm = tqdm(desc=name, mininterval=5)

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Move the bar."""
        self.bar.total, self.bar.unit = total, unit
        self.bar.n = done
        self.bar.set_postfix(figures, refresh=False)
        self.bar.update(0)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep no curves."""

    def note(self, message: str) -> None:
        """Print a line."""
        self.bar.write(message)


def study_params(seed: int, share: float = 1.0) -> Params:
    """Return the default profile with the study's longer trainings of the generator (`share` of them) and `seed`."""
    params = profile()
    longer = {"finetune_steps": 0, "start": None, "seed": seed}
    autoencoder = {"steps": max(1, round(share * AUTOENCODER_STEPS)), "perceptual_weight": 0.1, **longer}
    diffusion = {"steps": max(1, round(share * DIFFUSION_STEPS)), "ema": 0.999, **longer}
    return params.model_copy(
        update={
            "autoencoder": params.autoencoder.model_copy(update=autoencoder),
            "diffusion": params.diffusion.model_copy(update=diffusion),
        }
    )


def pixel_params(params: Params, steps: int) -> Params:
    """Return `params` without an autoencoder: the same network on pixels, in patches of 4x4 for the latents' 2x2.

    Both networks work on 8x8 patches, so that a step costs nearly the same.
    """
    backbone = params.diffusion.backbone.model_copy(update={"patch": 4})
    return params.model_copy(
        update={
            "autoencoder": params.autoencoder.model_copy(update={"space": "pixel", "perceptual_weight": 0.0}),
            "diffusion": params.diffusion.model_copy(update={"backbone": backbone, "steps": steps}),
        }
    )


def pixel_steps(params: Params, shards: Path, home: Path) -> int:
    """Return how many steps in pixels take as many operations as both trainings of `params` together; kept in `home`.

    Counted by torch's FlopCounterMode: convolutions and products of matrices, forward and backward.
    """

    def count(out: Path, scratch: Path) -> None:
        judges, device, cache = scorers(params, shards, home), pick_device(), STATE / "cache"
        latent = trained_generator(params, shards, home)[0]
        pixels = once(home / "pixels", lambda target, _: train_autoencoder(
            pixel_params(params, 1).autoencoder, shards, {}, target, target, cache, device, Bar("pixels")))  # fmt: skip

        def autoencoder(steps: int, place: Path) -> None:
            config = params.autoencoder.model_copy(update={"steps": steps})
            train_autoencoder(config, shards, judges, place, place, cache, device, Bar("operations"))

        def diffusion(codec: Path, config: DiffusionConfig) -> Callable[[int, Path], None]:
            def train(steps: int, place: Path) -> None:
                given = config.model_copy(update={"steps": steps})
                train_diffusion(given, shards, codec, place, place, cache, device, Bar("operations"))

            return train

        found = {
            "autoencoder": operations_of_a_step(autoencoder, scratch / "autoencoder"),
            "latent": operations_of_a_step(diffusion(latent, params.diffusion), scratch / "latent"),
            "pixel": operations_of_a_step(diffusion(pixels, pixel_params(params, 1).diffusion), scratch / "pixel"),
        }
        total = params.autoencoder.steps * found["autoencoder"] + params.diffusion.steps * found["latent"]
        write_json(out / "steps.json", {**found, "steps": round(total / found["pixel"])})

    return int(read_json(once(home / "operations", count) / "steps.json")["steps"])


def operations_of_a_step(train: Callable[[int, Path], None], scratch: Path) -> int:
    """Return the operations of one step: what a training of two steps, `train(2, folder)`, has more than one of one."""
    counts = []
    for steps in (1, 2):
        folder = scratch / str(steps)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with FlopCounterMode(display=False) as counter:
            train(steps, folder)
        counts.append(counter.get_total_flops())
    return counts[1] - counts[0]


def shards_of(params: Params, home: Path = HOME) -> Path:
    """Return the real shards of the embedded dataset."""
    return real_shards(params, home / "data")


def scorers(params: Params, shards: Path, home: Path = HOME) -> dict[str, Path]:
    """Return the model folders of the scorer, one for each of its seeds."""
    name = params.filtered_synthetic.scorer
    recipe, device = params.classifier.recipes[name], pick_device()
    return {
        f"classifier/{name}/seed-{seed}": once(
            home / f"{name}-{seed}",
            lambda out, scratch, seed=seed: train_classifier(  # type: ignore[misc]
                recipe, name, shards, None, None, seed, out, scratch, STATE / "cache", device, Bar(f"{name} {seed}")
            ),
        )
        for seed in SCORER_SEEDS
    }


def pixel_generator(params: Params, shards: Path, home: Path = HOME) -> Path:
    """Return the diffusion model on pixels that takes as many operations as `params` ask for in latents."""
    steps = pixel_steps(params, shards, home)
    config = pixel_params(params, steps).diffusion
    device, cache = pick_device(), STATE / "cache"
    return once(
        home / f"pixel-diffusion-{config.seed}",
        lambda out, scratch: train_diffusion(
            config, shards, home / "pixels", out, scratch, cache, device, Bar(f"diffusion in pixels {config.seed}")
        ),
    )


def trained_generator(params: Params, shards: Path, home: Path = HOME) -> tuple[Path, Path]:
    """Return the folders of autoencoder and diffusion model of the parameters' seed.

    The autoencoder is rounded to half precision before the diffusion model learns its latents, so that both can be shipped
    (`shipped-<seed>/autoencoder`) without a difference.
    """
    seed, device, cache = params.diffusion.seed, pick_device(), STATE / "cache"
    judges = scorers(params, shards, home)
    trained = once(
        home / f"autoencoder-exact-{seed}",
        lambda out, scratch: train_autoencoder(
            params.autoencoder, shards, judges, out, scratch, cache, device, Bar(f"autoencoder {seed}")
        ),
    )
    shipped = once(
        home / f"shipped-{seed}",
        lambda out, _: ship(load_autoencoder(trained, device), out / "autoencoder" / "model"),
    )
    autoencoder = once(
        home / f"autoencoder-{seed}",
        lambda out, scratch: train_autoencoder(
            params.autoencoder,
            shards,
            judges,
            out,
            scratch,
            cache,
            device,
            Bar(f"autoencoder {seed}, as shipped"),
            shipped / "autoencoder",
        ),
    )
    diffusion = once(
        home / f"diffusion-{seed}",
        lambda out, scratch: train_diffusion(
            params.diffusion, shards, autoencoder, out, scratch, cache, device, Bar(f"diffusion {seed}")
        ),
    )
    return autoencoder, diffusion
