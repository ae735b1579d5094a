"""Shards on real Ray workers: the bytes of one process, a killed worker's shard again, errors in the user's words."""

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from ops.errors import AmalgamError
from ops.files import content_hash
from ops.generate.shards import write_synthetic
from ops.launching import Here
from ops.progress import Silent
from ops.runtime import generator
from pipelines.compute import Ray
from pipelines.launchers import RayLauncher

CPU = torch.device("cpu")
DATASET = {"classes": ["bar"], "attributes": {"tone": ["0"]}, "groups": "tone", "image_size": 8, "notes": {}}
ROWS = [
    {
        "index": i,
        "label": "bar",
        "domain": "paper",
        "attributes": {"tone": "0"},
        "name": "bar",
        "concept": "bar",
        "caption": "a bar",
    }
    for i in range(40)
]


@dataclass(frozen=True)
class Noise:
    """A source of noise, which says in `seen` who drew which shard; it ends its process, once, at the row `deadly`."""

    seen: Path
    deadly: int = -1
    mistaken: bool = False
    name: str = "noise"
    identity: str = "0" * 64
    seed: int = 7

    @property
    def sampler(self):
        return {}

    def __call__(self, device):
        return self

    def draw(self, rows, monitor):
        first = rows[0]["index"]
        with (self.seen / f"{first}").open("a") as file:
            file.write(f"{os.getpid()}\n")
        if self.mistaken and first:
            raise AmalgamError("the generator made values that are no numbers", "lower guidance")
        if first == self.deadly and len((self.seen / f"{first}").read_text().split()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)  # long enough for the other worker to have its turn
        return np.stack(
            [torch.randint(256, (8, 8, 3), generator=generator(7, row["index"])).numpy() for row in rows]
        ).astype(np.uint8)


def drawn(source, home, launcher):
    out, scratch = (home / f"{source.seen.name}-{name}" for name in ("out", "scratch"))
    for folder in (source.seen, out, scratch):
        folder.mkdir()
    write_synthetic(source, ROWS, DATASET, out, scratch, 5, launcher, Silent())
    return out, {int(path.name): path.read_text().split() for path in source.seen.iterdir()}


@pytest.fixture(scope="module")
def ray_here():
    """One cluster for all tests of this file: starting it takes seconds."""
    from pipelines.launchers import connect

    connect(Ray(workers=2))
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
    yield
    ray.shutdown()


@pytest.fixture
def whole(tmp_path):
    return drawn(Noise(tmp_path / "here"), tmp_path, Here(CPU))[0]


def test_two_workers_share_the_shards_and_give_the_bytes_of_one_process(ray_here, whole, tmp_path):
    out, drawers = drawn(Noise(tmp_path / "seen"), tmp_path, RayLauncher(Ray(workers=2), "cpu"))
    assert content_hash(out) == content_hash(whole)
    assert len({pid for pids in drawers.values() for pid in pids}) == 2
    assert all(len(pids) == 1 for pids in drawers.values()), "no shard is made twice"


def test_a_killed_worker_costs_its_current_shard(ray_here, whole, tmp_path):
    out, drawers = drawn(Noise(tmp_path / "seen", deadly=20), tmp_path, RayLauncher(Ray(workers=2), "cpu"))
    assert content_hash(out) == content_hash(whole)
    assert {first: len(pids) for first, pids in drawers.items()} == {**dict.fromkeys(range(0, 40, 5), 1), 20: 2}


def test_a_mistake_in_a_worker_is_told_as_one(ray_here, tmp_path):
    with pytest.raises(AmalgamError, match="no numbers") as error:
        drawn(Noise(tmp_path / "seen", mistaken=True), tmp_path, RayLauncher(Ray(workers=2), "cpu"))
    assert error.value.remedy == "lower guidance"


def test_the_cluster_of_one_machine_listens_on_loopback_only(ray_here):
    ours = psutil.Process().children(recursive=True)
    addresses = set()
    for process in ours:
        with contextlib.suppress(psutil.NoSuchProcess):  # workers of the test before end in their own time
            found = process.net_connections(kind="inet")
            addresses |= {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN}
    assert addresses, "Ray listens somewhere"
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_cluster_that_is_not_there_is_named():
    import ray

    ray.shutdown()
    with pytest.raises(AmalgamError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        list(RayLauncher(Ray(address="127.0.0.1:1"), "cpu").run(print, [0], Silent()))
