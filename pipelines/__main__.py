"""The command line: `python -m pipelines --help`."""

import sys
from pathlib import Path

import click

from ops.errors import AmalgamError
from pipelines.importing import import_group
from pipelines.voting.command import vote_command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Amalgam: from an image dataset to robust and fair classifiers, every artefact traceable.

    \b
    python -m pipelines run                  make everything that is not up to date
    python -m pipelines status               see what is up to date, and why not
    python -m pipelines profile fashion      switch to another profile
    python -m pipelines import --help        bring a dataset that you downloaded
    python -m pipelines ui                   open Dagster and MLflow on this machine
    """  # noqa: D301 (\b tells click to keep the lines)


@main.command()
@click.argument("assets", nargs=-1)
def run(assets: tuple[str, ...]) -> None:
    """Materialize what is missing or stale (all of it, or ASSETS and what they need)."""
    from pipelines.running import run_lineage

    run_lineage(list(assets))


@main.command()
@click.argument("asset")
@click.option("--partition", help="Partition of the asset, such as seed-0.")
def materialize(asset: str, partition: str | None) -> None:
    """Materialize one ASSET (such as classifier/real), up to date or not. `dvc repro` calls this."""
    from pipelines.running import materialize_one

    materialize_one(asset, partition)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show each stage as Dagster and DVC see it."""
    from pipelines.running import print_status

    print_status(as_json)


@main.command()
def sync() -> None:
    """Tell Dagster what DVC changed (pull, checkout, run cache). The sensor `dvc_sync` does it while the UI is open."""
    from pipelines.definitions import project
    from pipelines.running import open_instance
    from pipelines.state import sync as synchronise

    with open_instance() as instance:
        reported = synchronise(project(), instance)
    click.echo(f"reported: {', '.join(reported) or 'nothing new'}")


@main.command()
@click.option("--check", is_flag=True, help="Only say whether dvc.yaml is current (exit status 1 if not).")
def dvc(check: bool) -> None:
    """Write dvc.yaml from the asset graph."""
    from ops.files import replacing
    from pipelines.definitions import project
    from pipelines.dvc import render
    from pipelines.project import ROOT

    path = ROOT / "dvc.yaml"
    text = render(project().stages)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        click.echo("dvc.yaml is current")
    elif check:
        raise AmalgamError("dvc.yaml is not what the asset graph says", "python -m pipelines dvc")
    else:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        click.echo("wrote dvc.yaml")


@main.command()
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Overwrite params.yaml even if it was edited by hand.")
def profile(name: str | None, force: bool) -> None:
    """List the profiles, or write params.yaml (and dvc.yaml) for the profile NAME."""
    from ops.files import replacing
    from pipelines.params import profiles, read_tree, resolve
    from pipelines.project import ROOT

    path = ROOT / "params.yaml"
    current = str(read_tree(path).get("profile", "")) if path.exists() else ""
    if name is None:
        for each in profiles():
            click.echo(f"{'*' if each == current else ' '} {each}")
        return
    text = resolve(name)
    edited = path.exists() and current in profiles() and path.read_text(encoding="utf-8") != resolve(current)
    if edited and not force:
        raise AmalgamError(
            f"params.yaml was edited since it was written from profile {current!r}",
            "keep a copy or commit it, then repeat with --force",
        )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"params.yaml is now profile {name!r}")
    from pipelines.definitions import project
    from pipelines.dvc import render

    with replacing(ROOT / "dvc.yaml") as temporary:
        temporary.write_text(render(project().stages), encoding="utf-8")


@main.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
def export(model: str, out: Path) -> None:
    """Write a classifier of the store to an ONNX file.

    MODEL is a folder of the store, such as classifier/real/seed-0; OUT ends in .onnx. The file takes `images`
    (N, 3, S, S), float32 in [0, 1], and gives `logits` (N, K), for any number N of images of the side S that the model
    was trained with. The normalisation is inside; class names and S are in the file's metadata. It is compared with the
    original on random images before it is kept.
    """
    from pipelines.export import export_model

    export_model(model, out)


@main.command("export-images")
@click.argument("folder")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="File with the secret key, 16 bytes or more."
)
def export_images(folder: str, out: Path, key: Path) -> None:
    """Write synthetic images of the store for others: watermarked, with provenance, and signed.

    FOLDER is synthetic_shards or filtered_synthetic; OUT is a new folder. A key is any secret file, such as
    `head -c 32 /dev/urandom > key.bin`; who holds it can recognise the images. Exports are never trained on.
    """
    from pipelines.export import export_synthetic

    export_synthetic(folder, out, key)


@main.command("verify-images")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--public-key", help="The public key (64 hexadecimal digits) that must have signed.")
@click.option("--key", type=click.Path(path_type=Path), help="The secret key: look for its watermark, too.")
def verify_images(folder: Path, public_key: str | None, key: Path | None) -> None:
    """Check an export: nothing changed since it was signed, and its images carry the mark."""
    from pipelines.export import verify_synthetic

    verify_synthetic(folder, public_key, key)


@main.command("model-info")
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True, help="Split whose figures are written.")
def model_info(model: str, out: Path, split: str) -> None:
    """Write what was measured of a classifier as RobustBench's model-info (JSON).

    MODEL is a folder of the store, such as classifier/real/seed-0. The figures are for the first threat of `robustness`;
    `autoattack_acc` is there only where its attacks are AutoAttack's (attacks: standard).
    """
    from pipelines.export import write_info

    write_info(model, out, split)


@main.command()
@click.option("--port", default=3000, show_default=True, help="Port of Dagster.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of MLflow.")
def ui(port: int, mlflow_port: int) -> None:
    """Open Dagster and MLflow on 127.0.0.1; Ctrl-C ends both."""
    from pipelines.serving import serve

    serve(port, mlflow_port)


main.add_command(import_group)
main.add_command(vote_command)


def entry() -> None:
    """Run the command line; a user's mistake is a message with a remedy, not a traceback."""
    try:
        main(standalone_mode=False)
    except AmalgamError as error:
        click.secho(f"error: {error.message}", fg="red", err=True)
        click.echo(f"  remedy: {error.remedy}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; the next run goes on from here", err=True)
        sys.exit(130)


if __name__ == "__main__":
    entry()
