"""The voting server over HTTP: who may vote, what an address gives away, what is kept."""

import hashlib
import http.client
import io
import json
import re
import threading
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import uvicorn
from click.testing import CliRunner
from PIL import Image

from ops.data.loading import ImageSet
from ops.errors import AmalgamError
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.study import build_plan
from pipelines.voting.app import voting_app
from pipelines.voting.booth import Booth
from pipelines.voting.command import vote_command

NAMES = ("quokka", "zebra")
ROWS = 40


def images(name: str, rows: int = ROWS) -> ImageSet:
    """Return images whose first pixel tells the generator, and whose second tells the row."""
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 8, 8, 3)).astype(np.uint8)
    pixels[:, 0, 0] = [10, 20, 30] if name == "real" else [NAMES.index(name), 0, 0]
    pixels[:, 0, 1] = np.arange(rows)[:, None]
    texts = [f"shape {n}" for n in range(rows)]
    table = pd.DataFrame({"key": texts, "caption": texts, "name": texts, "concept": texts, "label": "bar"})
    table = table.assign(id=[f"{name}-{n}" for n in range(rows)], domain="paper")
    table = table.assign(attributes=[{} for _ in range(rows)])
    table["sha256"] = [hashlib.sha256(p.tobytes()).hexdigest() for p in pixels]
    return ImageSet(pixels, np.zeros(rows, int), table, ("bar",))


SOURCES = {name: images(name) for name in NAMES}


@dataclass
class Client:
    port: int

    def call(self, method: str, path: str, body=None, **headers: str | None) -> tuple[int, dict, bytes]:
        """Return status, headers and content; a header that is None is not sent."""
        base = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json"}
        base["Origin"] = f"http://127.0.0.1:{self.port}"
        sent = {k: v for k, v in (base | {k.replace("_", "-"): v for k, v in headers.items()}).items() if v is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def post(self, path: str, **body) -> dict:
        status, _, content = self.call("POST", path, body)
        assert status == 200, content
        return json.loads(content)

    def pixels(self, ticket: str, place: str) -> np.ndarray:
        status, headers, content = self.call("GET", f"/image/{ticket}/{place}")
        assert (status, headers["content-type"]) == (200, "image/png")
        return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture
def open_booth(tmp_path):
    """Return a function that serves a study and returns its plan, its booth and a client."""
    running = []

    def start(aspect="overall", folder=tmp_path / "voting", real=None, per_rater=100, ratings=20):
        plan = build_plan(PreferenceConfig(prompts=20, ratings=ratings), SOURCES, aspect, "development", real)
        booth = Booth(plan, SOURCES, folder, real, per_rater)
        server = uvicorn.Server(uvicorn.Config(voting_app(booth), "127.0.0.1", 0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.append((server, thread, booth))
        return plan, booth, Client(server.servers[0].sockets[0].getsockname()[1])

    yield start
    for server, thread, booth in running:
        server.should_exit = True
        thread.join(timeout=20)
        booth.close()


def test_a_press_is_a_vote_for_the_generator_on_that_side(open_booth):
    _, booth, client = open_booth()
    shown = client.post("/show", rater="ada")
    sides_seen = set()
    for number, press in enumerate(["left", "right", "tie"] * 6):
        assert shown["done"] == number
        left, right = client.pixels(shown["ticket"], "left"), client.pixels(shown["ticket"], "right")
        assert shown["prompt"] == f"shape {left[0, 1, 0]}" == f"shape {right[0, 1, 0]}"
        at = {"left": NAMES[left[0, 0, 0]], "right": NAMES[right[0, 0, 0]]}
        assert set(at.values()) == set(NAMES)
        sides_seen.add(at["left"])
        shown = client.post("/vote", rater="ada", ticket=shown["ticket"], choice=press)
        vote = booth.store.votes()[-1]
        winner = {"A": NAMES[0], "B": NAMES[1], "tie": "tie"}[vote.choice]
        assert winner == at.get(press, "tie")
        assert vote.side == ("AB" if at["left"] == NAMES[0] else "BA")
    assert sides_seen == set(NAMES)
    assert len({v.comparison for v in booth.store.votes()}) == 18


def test_nothing_that_the_page_gets_names_a_generator(open_booth):
    plan, _, client = open_booth()
    shown = client.post("/show", rater="ada")
    texts = [client.call("GET", path)[2].decode() for path in ("/", "/voting.js", "/voting.css", "/about")]
    texts += [json.dumps(shown), str(client.call("GET", f"/image/{shown['ticket']}/left"))]
    for name in (*NAMES, plan.study_id):
        assert not any(name in text for text in texts)
    assert re.fullmatch("[0-9a-f]{32}", shown["ticket"])
    other = client.post("/show", rater="bob")
    assert other["ticket"] != shown["ticket"]
    one, two = (client.call("GET", f"/image/{shown['ticket']}/{place}")[1] for place in ("left", "right"))
    assert set(one) == set(two), "no header tells the sides apart"


def test_only_the_page_of_this_server_can_vote(open_booth):
    _, booth, client = open_booth()
    ticket = client.post("/show", rater="ada")["ticket"]
    body = {"rater": "ada", "ticket": ticket, "choice": "left"}
    for expected, headers in [
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": f"http://127.0.0.1:{client.port + 1}"}),
        (403, {"Origin": "null"}),
        (403, {"Origin": None}),
        (400, {"Host": "evil.example", "Origin": "http://evil.example"}),
        (415, {"Content_Type": "text/plain"}),
        (415, {"Content_Type": "application/x-www-form-urlencoded"}),
    ]:
        assert client.call("POST", "/vote", body, **headers)[0] == expected, headers
    for path in ("/vote", "/undo", "/show"):
        assert client.call("GET", path)[0] == 405
    for wrong in ([1], "text"):
        assert client.call("POST", "/vote", wrong)[0] == 400
    assert client.call("GET", "/export.json", Host="evil.example")[0] == 400
    assert booth.store.votes() == []
    assert (
        client.call("POST", "/vote", body, Host=f"localhost:{client.port}", Origin=f"http://localhost:{client.port}")[0]
        == 200
    )
    headers = client.call("GET", "/")[1]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_vote_needs_a_ticket_of_its_own_voter(open_booth):
    _, booth, client = open_booth()
    ticket = client.post("/show", rater="ada")["ticket"]
    client.post("/show", rater="bob")
    for body in (
        {"rater": "bob", "ticket": ticket, "choice": "left"},
        {"rater": "ada", "ticket": "0" * 32, "choice": "left"},
        {"rater": "ada", "ticket": ticket, "choice": "A"},
        {"rater": "ada", "choice": "left"},
        {"rater": "judge:x", "ticket": ticket, "choice": "left"},
        {"rater": 7, "ticket": ticket, "choice": "left"},
        {"ticket": ticket, "choice": "left"},
    ):
        status, _, content = client.call("POST", "/vote", body)
        assert status == 400
        assert json.loads(content)["remedy"]
    assert booth.store.votes() == []
    for path in (f"/image/{'0' * 32}/left", f"/image/{ticket}/up", f"/image/{ticket}/reference"):
        assert client.call("GET", path)[0] == 400


def test_a_comparison_stays_until_it_is_voted_on_and_undo_brings_it_back(open_booth):
    _, booth, client = open_booth()
    first = client.post("/show", rater="Ada  Lovelace ")
    assert client.post("/show", rater="Ada Lovelace") == first
    second = client.post("/vote", rater="Ada Lovelace", ticket=first["ticket"], choice="tie")
    assert (second["done"], second["ticket"] != first["ticket"]) == (1, True)
    back = client.post("/undo", rater="Ada Lovelace")
    assert back == first
    assert booth.store.votes() == []
    assert client.call("POST", "/undo", {"rater": "Ada Lovelace"})[0] == 400
    again = client.post("/vote", rater="Ada Lovelace", ticket=first["ticket"], choice="left")
    repeated = client.post("/vote", rater="Ada Lovelace", ticket=first["ticket"], choice="right")
    assert repeated["done"] == again["done"] == 1, "a second press on one pair is a changed mind"


def test_an_open_page_goes_on_after_a_restart(open_booth, tmp_path):
    _, booth, client = open_booth()
    shown = client.post("/show", rater="ada")
    shown = client.post("/vote", rater="ada", ticket=shown["ticket"], choice="left")
    with pytest.raises(AmalgamError, match="open in another process"):
        open_booth()
    booth.close()
    _, again, other = open_booth()
    assert len(again.store.votes()) == 1
    after = other.post("/vote", rater="ada", ticket=shown["ticket"], choice="right")
    assert after["done"] == 2
    assert ((tmp_path / "voting" / ".tickets").stat().st_mode & 0o777) == 0o600


def test_a_session_ends_and_votes_are_exported(open_booth, tmp_path):
    plan, _, client = open_booth(per_rater=5)
    for rater in ("ada", "bob"):
        shown = client.post("/show", rater=rater)
        while shown["ticket"]:
            shown = client.post("/vote", rater=rater, ticket=shown["ticket"], choice="left")
        assert shown == {"done": 5, "total": 5, "ticket": None}
    (tmp_path / "v.parquet").write_bytes(client.call("GET", "/export.parquet")[2])
    rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
    _, headers, content = client.call("GET", "/export.json")
    assert json.loads(content) == rows
    assert f'filename="{plan.study_id}.json"' in headers["content-disposition"]
    assert len(rows) == 10
    assert "at" not in rows[0]
    assert client.post("/undo", rater="bob")["done"] == 4


def test_the_aspect_says_what_is_shown(open_booth, tmp_path):
    seen = {}
    for aspect in ("overall", "alignment", "appeal", "detailed"):
        _, _, client = open_booth(aspect, tmp_path / aspect, images("real"))
        shown = client.post("/show", rater="ada")
        seen[aspect] = (shown["prompt"] is not None, shown["reference"])
    assert seen == {
        "overall": (True, False),
        "alignment": (True, False),
        "appeal": (False, False),
        "detailed": (False, True),
    }
    reference, left = client.pixels(shown["ticket"], "reference"), client.pixels(shown["ticket"], "left")
    assert reference[0, 0].tolist() == [10, 20, 30]
    assert reference[0, 1, 0] == left[0, 1, 0], "of the same content"


def test_images_of_another_study_are_refused(tmp_path):
    plan = build_plan(PreferenceConfig(prompts=20, ratings=20), SOURCES, "overall", "development")
    with pytest.raises(AmalgamError, match="not those of study"):
        Booth(plan, {"quokka": SOURCES["quokka"], "zebra": images("quokka")}, tmp_path)


def test_the_command_explains_itself_and_says_what_is_wrong():
    done = CliRunner().invoke(vote_command, ["--help"])
    assert done.exit_code == 0
    for word in ("blind and side by side", "--aspect", "overall|alignment|appeal|detailed", "--port", "default: votes"):
        assert word in " ".join(done.output.split())
    for arguments, message in (
        (["nowhere", "elsewhere"], "no images in nowhere"),
        ([], "Missing argument"),
        (["a", "b", "--aspect", "beauty"], "beauty"),
    ):
        done = CliRunner().invoke(vote_command, arguments)
        assert done.exit_code != 0
        assert message in done.output + str(done.exception)
