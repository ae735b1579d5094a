"""Voting pages, served from this process or from one that can be killed."""

import hashlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import uvicorn
from PIL import Image

from ops.data.loading import open_images
from ops.data.manifest import MANIFEST_SCHEMA
from ops.data.pictures import png
from ops.data.shards import finish_shard_folder, write_shard
from ops.generate.preference.config import PreferenceConfig
from ops.generate.preference.study import build_plan
from pipelines.voting.app import voting_app
from pipelines.voting.booth import Booth

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("quokka", "zebra", "okapi")
CONFIG = PreferenceConfig(prompts=12, ratings=12, per_rater=8)
SERVE = """
    import sys
    from pathlib import Path
    from ops.generate.preference.config import PreferenceConfig
    from pipelines.voting.opening import open_study
    here, port, folders = Path(sys.argv[1]), int(sys.argv[2]), {Path(f).name: Path(f) for f in sys.argv[3:]}
    config = PreferenceConfig(prompts=12, ratings=12, per_rater=8)
    open_study(config, folders, "overall", here / "voting", port, here / "cache", here / "real")
"""


def generator_folder(folder: Path, rows: int = 40) -> Path:
    """Write shards of 32 by 32 images, of a colour of the folder's name, each with a caption of its own."""
    rng = np.random.default_rng(list(folder.name.encode()))
    (folder / "train").mkdir(parents=True)
    colour, samples, records = rng.integers(40, 216, 3), [], []
    for number in range(rows):
        image = np.clip(colour + rng.normal(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
        image[8:24, 4 : 5 + number % 24] = 255
        data, key = png(Image.fromarray(image)), f"{number:08d}"
        samples.append((key, data, {}))
        text = {"caption": f"a bar of length {number}", "name": f"bar {number}", "concept": f"bar {number}"}
        same = {"label": "bar", "domain": "paper", "attributes": [], "split": "train", "source": "synthetic"}
        place = {"id": f"{folder.name}-{number}", "shard": "train/train-000000.tar", "key": key}
        size = {"width": 32, "height": 32, "weight": 1.0, "provenance": "", "phash": "0" * 16}
        records.append({**text, **same, **place, **size, "sha256": hashlib.sha256(data).hexdigest()})
    write_shard(folder / "train" / "train-000000.tar", samples)
    dataset = {"name": "bars", "classes": ["bar"], "image_size": 32}
    finish_shard_folder(folder, pa.Table.from_pylist(records, MANIFEST_SCHEMA), dataset)
    return folder


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    here = tmp_path_factory.mktemp("generators")
    return {name: generator_folder(here / name) for name in (*NAMES, "real")}


@pytest.fixture(scope="module")
def opened(generators, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {name: open_images(folder, "train", cache) for name, folder in generators.items()}


@pytest.fixture
def start_voting(opened, tmp_path):
    """Return a function that serves a study from this process and returns its address."""
    running = []

    def run(aspect="overall"):
        shown = {name: opened[name] for name in NAMES}
        plan = build_plan(CONFIG, shown, aspect, "development", opened["real"])
        booth = Booth(plan, shown, tmp_path / "voting", opened["real"], CONFIG.per_rater)
        server = uvicorn.Server(uvicorn.Config(voting_app(booth), "127.0.0.1", 0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread, booth))
        wait_for(lambda: server.started)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield run
    for server, thread, booth in running:
        server.should_exit = True
        thread.join(timeout=20)
        booth.close()


@pytest.fixture
def start_voting_process(generators, tmp_path):
    """Return a function that serves a study from a process of its own, always at one address; returns both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []

    def run():
        paths = [str(generators[name]) for name in NAMES]
        arguments = [sys.executable, "-c", textwrap.dedent(SERVE), str(tmp_path), str(port), *paths]
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        running.append(process)

        def answers():
            assert process.poll() is None, process.stdout.read()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(answers)
        return process, f"http://127.0.0.1:{port}"

    yield run
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def names():
    return NAMES
