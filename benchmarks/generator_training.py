"""The trainings behind `benchmarks.generator`: scorers, autoencoder and diffusion model of one seed, resumable."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from benchmarks.embedded import profile, real_shards
from ops.generate.autoencoder import load_autoencoder, train_autoencoder
from ops.generate.diffusion import train_diffusion
from ops.generate.shipping import ship
from ops.runtime import pick_device
from ops.train.loop import train_classifier
from pipelines.params import Params
from pipelines.project import STATE

HOME = STATE / "studies" / "generator"
AUTOENCODER_STEPS, DIFFUSION_STEPS = 3000, 7000
"""On two cores about seven and twenty-five minutes."""
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


def once(folder: Path, make: Callable[[Path, Path], object]) -> Path:
    """Return `folder`, made by `make(out, scratch)` if it is not there; `scratch` survives a kill, `out` does not."""
    if not folder.exists():
        out, scratch = folder.with_name(f"{folder.name}.tmp"), folder.with_name(f"{folder.name}.scratch")
        shutil.rmtree(out, ignore_errors=True)
        for each in (out, scratch):
            each.mkdir(parents=True, exist_ok=True)
        make(out, scratch)
        out.rename(folder)
        shutil.rmtree(scratch)
    return folder


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
