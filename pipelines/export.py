"""Models of the store as files that other programs read."""

from difflib import get_close_matches
from pathlib import Path

import click
import numpy as np

from ops.errors import AmalgamError
from pipelines.project import STORE


def export_model(name: str, out: Path) -> None:
    """Write the classifier `name` of the store to the ONNX file `out`, and say how exact the file is."""
    name = _model(name)
    if out.is_dir() or out.suffix != ".onnx":
        raise AmalgamError(f"{out} is no name for an ONNX file", "give a file name that ends in .onnx")
    from ops.models.export import export_onnx
    from ops.runtime import configure_torch

    configure_torch()
    difference = export_onnx(STORE / name, out)
    size = out.stat().st_size / 1e6
    click.echo(f"wrote {out} ({size:.1f} MB); logits differ by at most {difference:.1e} from those of {name}")


def write_info(name: str, out: Path, split: str) -> None:
    """Write RobustBench's model-info of the classifier `name` of the store from what was measured of it.

    That is what `robustness` measured, and `corruptions`, if it is up to date and measured the whole benchmark.
    """
    from ops.evaluate.corruption_info import with_corruptions
    from ops.evaluate.measurements import read_measurements
    from ops.evaluate.model_info import model_info_of, read_model_info, write_model_info
    from ops.files import read_json
    from ops.models.card import ModelCard
    from pipelines.definitions import project
    from pipelines.running import open_instance
    from pipelines.state import status

    name, loaded = _model(name), project()
    stages = {stage.folder: stage for stage in loaded.stages}
    with open_instance() as instance:
        states = {each: status(loaded, instance, stages[each])[0] for each in ("robustness", "corruptions")}
    if states["robustness"] != "FRESH":  # params.yaml may say of other attacks than those that ran
        raise AmalgamError(f"robustness is {states['robustness'].lower()}", "python -m pipelines run robustness")
    card = ModelCard.model_validate(read_json(STORE / name / "model.json"))
    published = STORE / name / "published.json"
    about = read_model_info(published) if published.exists() else None
    rows = read_measurements(STORE / "robustness")
    doubts = read_json(STORE / "robustness" / "honesty.json")["warnings"]
    info = model_info_of(card, name, rows, loaded.params.robustness, split, about=about, doubts=doubts)
    if states["corruptions"] == "FRESH":
        info = with_corruptions(info, name, read_measurements(STORE / "corruptions"), split)
    else:
        click.echo(f"corruptions is {states['corruptions'].lower()}: nothing is said of them")
    write_model_info(out, info)
    click.echo(f"wrote {out}")


def export_synthetic(name: str, out: Path, key: Path) -> None:
    """Write the synthetic images `name` of the store to `out`, marked with `key` and signed."""
    from ops.generate.watermark.export import export_marked
    from ops.progress import Silent

    folder = STORE / name.strip("/").removeprefix("store/")
    if not (folder / "manifest.parquet").exists():
        raise AmalgamError(
            f"there are no images in {name}", "name synthetic_shards or filtered_synthetic, and make it first"
        )
    figures = export_marked(folder, key, out, Silent()).figures
    click.echo(f"wrote {figures['images']} marked images to {out} (PSNR at least {figures['least PSNR (dB)']} dB)")
    click.echo(f"verify: python -m pipelines verify-images {out} --public-key {_signer(out)}")


def verify_synthetic(folder: Path, public_key: str | None, key: Path | None) -> None:
    """Check signature and files of an export and, with its key, the mark in each shard."""
    from ops.generate.watermark.signature import verify_folder

    signer = verify_folder(folder, public_key)
    click.echo(f"signed by {signer}; no file was changed")
    if public_key is None:
        click.echo("  anybody can sign: give --public-key to know that it was the one you trust")
    if key is None:
        return
    from ops.data.hashing import decode
    from ops.data.shards import read_shard
    from ops.generate.watermark.config import WatermarkConfig
    from ops.generate.watermark.detection import detect, detect_pooled, threshold
    from ops.generate.watermark.keys import read_key

    secret, limit = read_key(key), threshold(WatermarkConfig())
    for shard in sorted(folder.rglob("*.tar")):
        images = np.stack([decode(data) for _, data in read_shard(shard)])
        found, pooled = detect(images, secret), detect_pooled(images, secret)
        click.echo(
            f"{shard.relative_to(folder)}: the mark is in {(found > limit).mean():.1%} of {len(images)} images "
            f"(score of the shard {pooled:.1f}, of chance below {limit:.1f})"
        )


def _signer(folder: Path) -> str:
    from ops.files import read_json
    from ops.generate.watermark.signature import SIGNATURE

    return str(read_json(folder / SIGNATURE)["public_key"])


def _model(name: str) -> str:
    """Return the folder of the model `name` below the store; raises AmalgamError that knows what was meant."""
    name = name.strip("/").removeprefix("store/")
    known = _known_models()
    if name in known:
        return name
    hint = f"use one of: {', '.join(known)}" if known else "make one first: python -m pipelines run"
    meant = [each for each in known if each.startswith(f"{name}/")] or get_close_matches(name, known, n=1)
    if meant:
        hint = f"did you mean {meant[0]}? If not, {hint}"
    raise AmalgamError(f"there is no model {name!r} in the store", hint)


def _known_models() -> list[str]:
    """Return the folders of all classifiers in the store, such as classifier/real/seed-0."""
    folders = (path.parent.relative_to(STORE) for path in STORE.rglob("model.json"))
    return sorted(folder.as_posix() for folder in folders if not any(part.startswith(".") for part in folder.parts))
