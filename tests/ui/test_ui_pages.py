"""What a user sees: asset graph, one asset's metadata, MLflow and the report, in headless Chromium."""

import os
import re
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lineage, pytest.mark.ui]

SECONDS = 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as engine:
        if path is None and not Path(engine.chromium.executable_path).exists():
            pytest.skip("no Chromium here")
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        chromium = engine.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def servers(workspace):
    """Start `python -m pipelines ui` and wait until both servers answer."""
    ports = {"dagster": free_port(), "mlflow": free_port()}
    process = workspace.start("pipelines", "ui", "--port", str(ports["dagster"]), "--mlflow-port", str(ports["mlflow"]))
    try:
        for port, path in ((ports["dagster"], "server_info"), (ports["mlflow"], "health")):
            deadline = time.monotonic() + 180
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).read()
                    break
                except OSError:
                    assert process.poll() is None, process.stdout.read()
                    assert time.monotonic() < deadline, f"no answer on port {port}"
                    time.sleep(0.5)
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)


@pytest.fixture
def page(browser):
    tab = browser.new_page(viewport={"width": 1600, "height": 1000})
    tab.set_default_timeout(90 * SECONDS)
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    yield tab
    tab.close()


def keep(page, name: str) -> None:
    """Keep a screenshot where AMALGAM_SCREENSHOTS says (to look at)."""
    folder = os.environ.get("AMALGAM_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=False)


def assert_shows(page, text: str | re.Pattern[str], **how) -> None:
    """Assert that the text appears."""
    from playwright.sync_api import expect

    expect(page.get_by_text(text, **how).first).to_be_visible(timeout=90 * SECONDS)


def test_asset_graph(page, servers):
    page.goto(f"{servers['dagster']}/asset-groups")
    # the global graph shows its groups folded; each unfolds to its assets
    for group in ("raw", "generation", "synthetic", "classifiers", "evaluation", "reports"):
        assert_shows(page, group, exact=True)
    keep(page, "asset-graph")
    shown = {
        "raw": ["raw_images", "manifest"],
        "synthetic": ["synthetic_shards", "filtered_synthetic"],
        "reports": ["claims", "training_study", "report"],
        "evaluation": ["robustness", "corruptions", "shift", "fairness", "comparisons", "model_card"],
    }
    for group, names in shown.items():
        # the list, because the graph draws only those assets that its viewport shows
        page.goto(f"{servers['dagster']}/locations/amalgam/asset-groups/{group}/list")
        for name in names:
            assert_shows(page, name, exact=True)
    page.goto(f"{servers['dagster']}/locations/amalgam/asset-groups/evaluation")
    assert_shows(page, re.compile("^(robustness|fairness)$"))
    keep(page, "asset-group")


def test_one_assets_metadata(page, servers):
    page.goto(f"{servers['dagster']}/assets/curated_manifest?view=overview")
    assert_shows(page, "dvc md5")
    assert_shows(page, "Great Expectations")
    keep(page, "asset-curated-manifest")
    page.goto(f"{servers['dagster']}/assets/curated_manifest?view=checks")
    assert_shows(page, "manifest_contract")
    assert_shows(page, "Passed")
    keep(page, "asset-checks")


def test_dagster_calls_everything_fresh(page, servers):
    query = "{assetNodes { assetKey { path } staleStatus isMaterializable partitionDefinition { name } }}"
    answer = page.request.post(f"{servers['dagster']}/graphql", data={"query": query}).json()
    nodes = [n for n in answer["data"]["assetNodes"] if n["isMaterializable"] and not n["partitionDefinition"]]
    assert len(nodes) >= 12
    assert {n["staleStatus"] for n in nodes} == {"FRESH"}


def test_mlflow_shows_the_runs(page, servers):
    page.goto(f"{servers['mlflow']}/#/experiments")
    assert_shows(page, "amalgam/classifiers")
    keep(page, "mlflow")


@pytest.mark.parametrize("width", [1400, 420])
def test_report(page, workspace, width):
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto((workspace.path / "store" / "report" / "report.html").as_uri())
    headings = page.locator("h2").all_inner_texts()
    assert "claim" in headings[0].lower()
    assert page.locator("table").count() >= 3
    pictures = page.locator("img").evaluate_all("all => all.map(i => [i.complete && i.naturalWidth > 0, i.alt])")
    assert pictures
    assert all(loaded and alt for loaded, alt in pictures)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page must not scroll sideways"
    assert not page.problems
    keep(page, f"report-{width}")
