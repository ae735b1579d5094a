"""Models of the store as files that other programs read."""

from difflib import get_close_matches
from pathlib import Path

import click

from ops.errors import AmalgamError
from pipelines.project import STORE


def export_model(name: str, out: Path) -> None:
    """Write the classifier `name` of the store to the ONNX file `out`, and say how exact the file is."""
    name = name.strip("/").removeprefix("store/")
    known = _known_models()
    if name not in known:
        hint = f"use one of: {', '.join(known)}" if known else "make one first: python -m pipelines run"
        meant = [each for each in known if each.startswith(f"{name}/")] or get_close_matches(name, known, n=1)
        if meant:
            hint = f"did you mean {meant[0]}? If not, {hint}"
        raise AmalgamError(f"there is no model {name!r} in the store", hint)
    if out.is_dir() or out.suffix != ".onnx":
        raise AmalgamError(f"{out} is no name for an ONNX file", "give a file name that ends in .onnx")
    from ops.models.export import export_onnx
    from ops.runtime import configure_torch

    configure_torch()
    difference = export_onnx(STORE / name, out)
    size = out.stat().st_size / 1e6
    click.echo(f"wrote {out} ({size:.1f} MB); logits differ by at most {difference:.1e} from those of {name}")


def _known_models() -> list[str]:
    """Return the folders of all classifiers in the store, such as classifier/real/seed-0."""
    folders = (path.parent.relative_to(STORE) for path in STORE.rglob("model.json"))
    return sorted(folder.as_posix() for folder in folders if not any(part.startswith(".") for part in folder.parts))
