"""Compiled loops share torch's threads and do not change how many there are."""

import os

import pytest


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core cannot become two")
def test_torch_keeps_its_threads(in_fresh_python):
    """numba starts as many threads as there are cores; torch, told to use one, goes on with one: the same bytes."""
    code = """
import torch
torch.set_num_threads(1)
from ops.models.norm_silu import norm_silu
x = torch.rand(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
norm_silu(torch.nn.BatchNorm2d(8), x)
print(torch.get_num_threads())
"""
    assert in_fresh_python(code) == "1"
