"""The voting page as people meet it: keys and buttons, phone and desktop, reload, kill and return."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.ui


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


@pytest.fixture
def page(browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(30_000)
    tab.problems = []
    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    yield tab
    tab.close()


def keep(page, name: str) -> None:
    """Keep a screenshot where AMALGAM_SCREENSHOTS says (to look at)."""
    folder = os.environ.get("AMALGAM_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def enter(page, address: str, name: str) -> None:
    page.goto(address)
    page.get_by_label("Your name, or an alias").fill(name)
    page.get_by_role("button", name="Start").click()
    ready(page, 0)


def ready(page, done: int) -> None:
    """Wait until a comparison is there to be voted on, after `done` votes."""
    from playwright.sync_api import expect

    expect(page.locator("#count")).to_have_text(re.compile(f"^{done} of "))
    expect(page.locator("[data-choice=left]")).to_have_attribute("aria-disabled", "false")


def written(folder: Path) -> list[dict]:
    (path,) = (folder / "voting" / "votes").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def tickets(page) -> tuple[str, str]:
    return tuple(page.locator(f"#{place}").get_attribute("src") for place in ("left", "right"))


def test_keys_and_buttons_vote_until_the_end(start_voting, page, tmp_path):
    from playwright.sync_api import expect

    address = start_voting()
    enter(page, address, "Ada")
    expect(page.get_by_role("heading", name="Which image do you prefer for this prompt?")).to_be_visible()
    expect(page.get_by_text(re.compile("a bar of length"))).to_be_visible()
    seen = {tickets(page)}
    for done, press in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown"), start=1):
        page.keyboard.press(press)
        ready(page, done)
        seen.add(tickets(page))
    for done, name in enumerate(("Left", "Tie", "Right"), start=4):
        page.get_by_role("button", name=name, exact=True).click()
        ready(page, done)
    assert len(seen) == 4
    choices = [
        {("AB", "A"): "left", ("BA", "B"): "left", ("AB", "tie"): "tie", ("BA", "tie"): "tie"}.get(
            (line["side"], line["choice"]), "right"
        )
        for line in written(tmp_path)
    ]
    assert choices == ["left", "right", "tie", "left", "tie", "right"]
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "6")
    page.keyboard.press("ArrowLeft")
    ready(page, 7)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="Done, thank you")).to_be_visible()
    assert len(written(tmp_path)) == 8
    keep(page, "voting-end")
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    rows = json.loads(Path(download.value.path()).read_text())
    assert len(rows) == 8
    assert {row["rater_id"] for row in rows} == {"Ada"}
    assert not page.problems


def test_undo_brings_the_pair_back(start_voting, page, tmp_path):
    address = start_voting()
    enter(page, address, "Ada")
    first = tickets(page)
    page.keyboard.press("ArrowLeft")
    ready(page, 1)
    assert tickets(page) != first
    page.keyboard.press("u")
    ready(page, 0)
    assert tickets(page) == first
    page.keyboard.press("u")  # nothing is left to take back
    page.keyboard.press("ArrowDown")
    ready(page, 1)
    page.get_by_role("button", name="Undo last vote").click()
    ready(page, 0)
    assert [line["choice"] for line in written(tmp_path)][1::2] == ["undone", "undone"]


def test_a_killed_server_loses_nothing_and_the_open_page_goes_on(start_voting_process, page, tmp_path):
    from playwright.sync_api import expect

    process, address = start_voting_process()
    enter(page, address, "Ada")
    for done in (1, 2, 3):
        page.keyboard.press("ArrowLeft")
        ready(page, done)
    process.kill()
    process.wait(timeout=30)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("alert").filter(has_text="The server does not answer")).to_be_visible()
    start_voting_process()
    page.keyboard.press("ArrowRight")
    ready(page, 4)
    shown = tickets(page)
    page.reload()  # the name is remembered, and the pair is the same
    ready(page, 4)
    assert tickets(page) == shown
    assert [line["rater_id"] for line in written(tmp_path)] == ["Ada"] * 4


def test_several_raters_vote_in_turn(start_voting, page, tmp_path):
    from playwright.sync_api import expect

    address = start_voting()
    enter(page, address, "Ada")
    page.keyboard.press("ArrowLeft")
    ready(page, 1)
    page.get_by_role("button", name="Change").click()
    field = page.get_by_label("Your name, or an alias")
    field.fill("judge:Ada")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert").filter(has_text="no name for a rater")).to_be_visible()
    field.fill("Zoë")
    field.press("Enter")
    ready(page, 0)
    page.keyboard.press("ArrowDown")
    ready(page, 1)
    assert [line["rater_id"] for line in written(tmp_path)] == ["Ada", "Zoë"]


def test_a_held_key_or_a_shortcut_of_the_browser_is_no_vote(start_voting, page, tmp_path):
    address = start_voting()
    enter(page, address, "Ada")
    page.keyboard.down("ArrowLeft")
    ready(page, 1)
    for _ in range(5):
        page.keyboard.down("ArrowLeft")  # the key repeats as long as it is down
    page.keyboard.up("ArrowLeft")
    page.keyboard.press("Control+ArrowRight")
    page.keyboard.press("x")
    page.wait_for_timeout(300)
    ready(page, 1)
    assert len(written(tmp_path)) == 1


def test_nothing_on_the_page_tells_the_generators(start_voting, page, names):
    address = start_voting()
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    enter(page, address, "Ada")
    page.keyboard.press("ArrowLeft")
    ready(page, 1)
    told = page.content() + " ".join(requested) + page.locator("main").aria_snapshot()
    assert not any(name in told for name in names)
    assert all(url.startswith((address, "data:")) for url in requested), "no resource comes from elsewhere"
    assert [page.locator(f"#{place}").get_attribute("alt") for place in ("left", "right")] == [
        "Left image",
        "Right image",
    ]


def test_another_page_in_the_browser_cannot_vote(start_voting, page, browser, tmp_path):
    address = start_voting()
    enter(page, address, "Ada")
    ticket = tickets(page)[0].split("/")[2]
    other = browser.new_page()
    (tmp_path / "evil.html").write_text("<h1>evil</h1>")
    other.goto((tmp_path / "evil.html").as_uri())
    attempt = """([url, ticket]) => fetch(url + "/vote", {method: "POST", mode: "no-cors", headers: {"Content-Type":
        "text/plain"}, body: JSON.stringify({rater: "Ada", ticket, choice: "left"})}).then(() => "sent", e => String(e))"""
    other.evaluate(attempt, [address, ticket])
    other.close()
    page.keyboard.press("ArrowRight")
    ready(page, 1)
    assert len(written(tmp_path)) == 1


@pytest.mark.parametrize("aspect", ["overall", "appeal", "detailed"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_images_are_large_and_crisp_and_the_page_fits(start_voting, page, aspect, width, height):
    address = start_voting(aspect)
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address)
    page.get_by_label("Your name, or an alias").wait_for()
    keep(page, f"voting-start-{width}")
    enter(page, address, "Ada")
    page.keyboard.press("ArrowLeft")
    ready(page, 1)
    keep(page, f"voting-{aspect}-{width}")
    places = ["left", "right", *(["reference"] if aspect == "detailed" else [])]
    boxes = [page.locator(f"#{place}").bounding_box() for place in places]
    sides = {round(box[side]) for box in boxes for side in ("width", "height")}
    assert len(sides) == 1
    least = 150 if width < 500 else 280
    assert sides.pop() >= least
    styles = page.locator("#images img:visible").evaluate_all(
        "all => all.map(i => [getComputedStyle(i).imageRendering, parseFloat(getComputedStyle(i).width) % 32, i.naturalWidth])"
    )
    assert styles == [["pixelated", 0, 32]] * len(places), "each pixel is a square of whole size"
    assert page.locator("#prompt-box").is_visible() == (aspect == "overall")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for name in ("Left", "Tie", "Right"):
        box = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box["y"] + box["height"] <= height, "the buttons are in sight without scrolling"
        assert min(box["width"], box["height"]) >= 44
    assert not page.problems
