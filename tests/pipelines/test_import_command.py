"""The command `import`: help that says what is asked, errors without a traceback, and what to do next."""

import shutil
import sys

import downloads
import pytest
from click.testing import CliRunner

from ops.data.config import RawImagesConfig
from ops.data.sources import ingest_images
from ops.progress import Silent
from pipelines.__main__ import entry, main


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return downloads.camelyon17(tmp_path_factory.mktemp("original") / "camelyon17_v1.0")


@pytest.fixture
def project(original, tmp_path, monkeypatch):
    """A folder that stands for the project, with a download below data/."""
    shutil.copytree(original, tmp_path / "data" / "downloads" / "camelyon17_v1.0")
    monkeypatch.setattr("pipelines.importing.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    """Run the command line as a shell does; return exit status, output and errors."""
    monkeypatch.setattr(sys, "argv", ["pipelines", "import", *arguments])
    status = 0
    try:
        entry()
    except SystemExit as ended:
        status = ended.code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return status, shown.out, shown.err


CAMELYON17 = ("camelyon17", "--source", "data/downloads/camelyon17_v1.0", "--out", "data/camelyon17")


def test_an_import_says_what_it_took_and_what_is_next(project, monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, *CAMELYON17, "--missing", "skip")
    assert status == 0
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0].startswith("3 of the patients in WILDS")
    assert "data/camelyon17: 80 images (train 24, validation 12, test 12, shift 32)" in lines
    assert "left out: 1 (no label)" in lines
    assert "left out: 1 (the file is missing)" in lines
    assert lines[-1] == "next: dvc add data; python -m pipelines profile camelyon17; python -m pipelines run"
    (project / "raw").mkdir()
    config = RawImagesConfig(dataset="data/camelyon17", image_size=16)
    summary = ingest_images(config, project / "data" / "camelyon17", project / "raw", Silent())
    assert summary.figures == {"images": 80, "quarantined": 0, "classes": 2}


@pytest.mark.parametrize(
    ("arguments", "words", "remedy"),
    [
        (CAMELYON17, "1 of 81 files", "--missing skip"),
        ((*CAMELYON17[:-1], "elsewhere/x"), "no folder directly below data/", "--out data/camelyon17"),
        ((*CAMELYON17, "--shift", "1", "--shift", "9"), "hospital 9", "--shift"),
        ((*CAMELYON17, "--shift", "3"), "hospital 3 cannot be", "import camelyon17 --help"),
        ((*CAMELYON17, "--test-share", "0.7"), "test_share: Input should be less than 0.5", "--help"),
        (("chestxray", *CAMELYON17[1:]), "has no train.csv", "into one folder"),
        (("dermatology", *CAMELYON17[1:]), "no column for image", "--column image=NAME"),
        (("dermatology", *CAMELYON17[1:], "--column", "who=x"), "columns.who", "--help"),
    ],
)
def test_mistakes_are_a_message_and_a_remedy(project, monkeypatch, capsys, arguments, words, remedy):
    status, _, err = run(monkeypatch, capsys, *arguments)
    assert status == 1
    message, _, advice = err.partition("remedy:")
    assert words in message
    assert remedy in advice
    assert [path.name for path in (project / "data").iterdir()] == ["downloads"]


def test_a_column_without_a_name_and_a_source_that_is_not_there(project, monkeypatch, capsys):
    status, _, err = run(monkeypatch, capsys, "dermatology", *CAMELYON17[1:], "--column", "sex")
    assert (status, "ROLE=NAME" in err) == (2, True)
    status, _, err = run(monkeypatch, capsys, "camelyon17", "--source", "nowhere", "--out", "data/x")
    assert (status, "does not exist" in err) == (2, True)


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("camelyon17", ["--train", "--shift", "default: 0, 3, 4"]),
        ("chestxray", ["--finding", "--uncertain", "--demographics", "Pneumothorax"]),
        ("dermatology", ["--shift", "--column", "--require", "--min-images", "skin_tone"]),
    ],
)
def test_help_says_what_is_asked(layout, options):
    text = " ".join(CliRunner().invoke(main, ["import", layout, "--help"]).output.split())
    for word in [*options, "--source", "--out", "--missing", "--seed", "--test-share"]:
        assert word in text
    assert layout in CliRunner().invoke(main, ["import", "--help"]).output
