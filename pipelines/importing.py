"""The command that makes raw data of a download: `python -m pipelines import LAYOUT --help`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
from pydantic import ValidationError

from ops.data.layouts.config import (
    Camelyon17Config,
    ChestXrayConfig,
    DermatologyConfig,
    Finding,
    ImportConfig,
    Role,
)
from ops.errors import AmalgamError
from pipelines.project import ROOT

if TYPE_CHECKING:
    from ops.data.layouts.listing import Listing

C = TypeVar("C", bound=ImportConfig)
Command = TypeVar("Command", bound=Callable[..., Any])
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("import")
def import_group() -> None:
    """Make raw data of a dataset that you downloaded, for the profile of the same name.

    \b
    mv ~/Downloads/camelyon17_v1.0 data/downloads/
    python -m pipelines import camelyon17 --source data/downloads/camelyon17_v1.0 --out data/camelyon17
    dvc add data
    python -m pipelines profile camelyon17

    The download must be below data/, where it is versioned with everything else: a table is written that says where each
    image is, what it shows, whom, and in which split; no image is copied. Rows that are left out are listed with the
    reason (left_out.csv). An import that was stopped goes on where it was.
    """  # noqa: D301 (\b tells click to keep the lines)


def common(command: Command) -> Command:
    """Add the options that every layout has."""
    fields = ImportConfig.model_fields
    shares = [
        click.option(
            f"--{name.replace('_', '-')}",
            type=float,
            default=fields[name].default,
            show_default=True,
            help=fields[name].description,
        )
        for name in ("validation_share", "test_share")
    ]
    options = [
        click.option("--source", required=True, type=FOLDER, help="Folder of the download, below data/."),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make, data/NAME."),
        *shares,
        click.option("--seed", default=0, show_default=True, help=fields["seed"].description),
        click.option(
            "--missing",
            type=click.Choice(["stop", "skip"]),
            default="stop",
            show_default=True,
            help="What to do about files that the table names and that are not there.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@import_group.command("camelyon17")
@common
@click.option(
    "--train",
    multiple=True,
    type=int,
    default=(0, 3, 4),
    show_default=True,
    help="Hospital to train on; once for each.",
)
@click.option(
    "--shift",
    multiple=True,
    type=int,
    default=(1, 2),
    show_default=True,
    help="Hospital never trained on; once for each.",
)
@click.option(
    "--unlabelled/--no-unlabelled",
    default=True,
    show_default=True,
    help=Camelyon17Config.model_fields["unlabelled"].description,
)
def import_camelyon17(source: Path, out: Path, **settings: Any) -> None:
    """CAMELYON17-WILDS: tumour or not, by hospital.

    SOURCE is WILDS' folder camelyon17_v1.0 with metadata.csv and patches/. Patients are dealt out to training, validation
    and test within each hospital of --train; those of --shift are the split `shift`. Unlabelled patches
    are taken where WILDS' folder camelyon17_unlabeled_v1.0 lies inside SOURCE: the generator learns from them.
    """
    from ops.data.layouts.camelyon17 import read_camelyon17

    run_import("camelyon17", Camelyon17Config, read_camelyon17, source, out, settings)


@import_group.command("chestxray")
@common
@click.option("--finding", type=click.Choice(get_args(Finding)), default="Pleural Effusion", show_default=True)
@click.option(
    "--uncertain",
    type=click.Choice(["drop", "positive", "negative"]),
    default="drop",
    show_default=True,
    help="What CheXpert's uncertain labels (-1) become; drop leaves the images out.",
)
@click.option("--demographics", type=FILE, help="CSV with PATIENT and PRIMARY_RACE: adds the attribute race.")
def import_chestxray(source: Path, out: Path, **settings: Any) -> None:
    """CheXpert, with ChestX-ray14 as the shift: a finding or not.

    SOURCE holds both downloads: a folder with train.csv, valid.csv and their images (CheXpert-v1.0 or -small), and one with
    Data_Entry_2017.csv and images_001/ to images_012/. Frontal views only; patients are dealt out; lateral views, uncertain
    and unlabelled images are left out and counted.
    """
    from ops.data.layouts.chestxray import read_chestxray

    run_import("chestxray", ChestXrayConfig, read_chestxray, source, out, settings)


@import_group.command("dermatology")
@common
@click.option("--metadata", default="metadata.csv", show_default=True, help="The table, in SOURCE.")
@click.option("--shift", multiple=True, help="A source that is never trained on; once for each.")
@click.option(
    "--column", "columns", multiple=True, metavar="ROLE=NAME", help=f"Name of a column: {', '.join(get_args(Role))}."
)
@click.option(
    "--require",
    multiple=True,
    type=click.Choice(["sex", "age", "skin_tone"]),
    default=("sex",),
    show_default=True,
    help="Attribute that must be known; other images are left out.",
)
@click.option("--min-images", default=20, show_default=True, help="Least training images of a diagnosis.")
def import_dermatology(source: Path, out: Path, columns: tuple[str, ...], **settings: Any) -> None:
    """Skin lesions with a table, as archives such as ISIC's have.

    The class is the diagnosis, the domain the source; sex, age and skin tone are attributes where the table has them.

    SOURCE holds the table and, anywhere below, the images. Known names of columns are found by themselves: isic_id,
    diagnosis, source, patient_id, lesion_id, sex, age_approx, fitzpatrick_skin_type and some more; name others with
    --column source=clinic. Images without a diagnosis are left out, and so are rare ones.
    """
    from ops.data.layouts.dermatology import read_dermatology

    pairs = [pair.partition("=") for pair in columns]
    if any(not (role and name) for role, _, name in pairs):
        raise click.BadParameter("write ROLE=NAME, such as source=clinic", param_hint="--column")
    settings["columns"] = {role: name for role, _, name in pairs}
    run_import("dermatology", DermatologyConfig, read_dermatology, source, out, settings)


def run_import(
    layout: str,
    kind: type[C],
    read: "Callable[[C, Path], Listing]",
    source: Path,
    out: Path,
    settings: dict[str, Any],
) -> None:
    """Read `source` as `layout` and write the folder `out`; tell what was taken, what was not, and what to do next."""
    from ops.data.layouts.writing import write_dataset

    try:
        config = kind.model_validate(settings)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or layout}: {e['msg']}" for e in error.errors()]
        raise AmalgamError("; ".join(problems), f"python -m pipelines import {layout} --help") from None
    if out.resolve().parent != (ROOT / "data").resolve():
        raise AmalgamError(f"{out} is no folder directly below data/", f"--out data/{layout}")
    with Terminal() as terminal:
        summary = write_dataset(layout, read(config, source), config, source, out, terminal)
    counts = summary.figures
    splits = ", ".join(f"{name.removesuffix(' images')} {n}" for name, n in counts.items() if name != "images")
    click.echo(f"{out}: {counts['images']} images ({splits})")
    for line in summary.tables["left out"]:
        click.echo(f"  left out: {line['rows']} ({line['reason']})")
    if summary.tables["left out"]:
        click.echo(f"  each is named in {out / 'left_out.csv'}")
    click.echo(f"next: dvc add data; python -m pipelines profile {layout}; python -m pipelines run")


class Terminal:
    """Shows bars and notes on the terminal (`ops.progress.Monitor`)."""

    def __init__(self) -> None:
        self._bar: Any = None

    def progress(self, done: int, total: int, unit: str = "it", **figures: float) -> None:
        """Move the bar; a new one begins where the unit is another."""
        from tqdm import tqdm

        if self._bar is None or self._bar.unit != unit:
            self.end()
            self._bar = tqdm(total=total, initial=done, unit=unit, dynamic_ncols=True, leave=False, disable=None)
            self._bar.unit = unit  # a bar that is disabled, because nobody watches, does not keep it
        self._bar.update(done - self._bar.n)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Ignore the call: an import has no curves."""

    def note(self, message: str) -> None:
        """Write a line."""
        self.end()
        click.echo(f"  {message}")

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
