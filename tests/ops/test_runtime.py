"""What `prepare_threads` and `configure_torch` change in a process."""

import platform

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_kept_for_the_next_tensor(in_fresh_python):
    code = """
import psutil, torch
from ops.runtime import configure_torch
{configure}
tensor = torch.ones(2**26)
del tensor
print(psutil.Process().memory_info().rss / 2**20)
"""
    before, after = (float(in_fresh_python(code.format(configure=c))) for c in ("", "configure_torch()"))
    assert after - before > 200, "of the 256 MiB of the tensor"


def test_threads_sleep_soon_unless_the_user_says_otherwise(in_fresh_python, monkeypatch):
    code = """
import os
from ops.runtime import prepare_threads
prepare_threads()
print(os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"])
"""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert in_fresh_python(code) == "PASSIVE 1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    assert in_fresh_python(code) == "PASSIVE 0"
