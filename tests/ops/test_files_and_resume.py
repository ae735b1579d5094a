"""Files are whole or absent, and training state comes back as it was."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from ops.files import link_or_copy, read_json, replace_folder, replacing, write_json
from ops.resume import Checkpoint, load_state, save_state
from ops.runtime import derive_seed, generator


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_equal_values_are_equal_bytes_and_nan_is_refused(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1, "y": [2.5, "ü"]})
    write_json(tmp_path / "b.json", {"y": [2.5, "ü"], "x": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert read_json(tmp_path / "a.json")["x"] == 1


def test_a_folder_is_replaced_whole(tmp_path):
    for name, text in (("old", "1"), ("new", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(text)
    (tmp_path / "old" / "gone").write_text("x")
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [p.name for p in (tmp_path / "old").iterdir()] == ["f"]
    assert (tmp_path / "old" / "f").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_state_survives_sigkill_in_the_middle_of_saving(tmp_path):
    """A process that saves in a loop is killed; what is on disk is one of its states, complete."""
    code = """
        import torch
        from pathlib import Path
        from ops.resume import save_state
        for n in range(10_000):
            save_state(Path("state.safetensors"), {"x": torch.full((200_000,), float(n))}, {"n": n})
            print(n, flush=True)
    """
    env = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    tensors, counters = load_state(tmp_path / "state.safetensors")
    assert counters["n"] >= 20
    assert torch.equal(tensors["x"], torch.full((200_000,), float(counters["n"])))


@pytest.mark.parametrize("kind", ["sgd", "adamw", "fused adamw"])
def test_an_optimizer_resumes_exactly(kind, tmp_path):
    """Also where weights are laid out channels-last: fused optimizers pair numbers by their place in memory."""

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 1, 3))
        model = model.to(memory_format=torch.channels_last)
        if kind == "sgd":
            return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
        return model, torch.optim.AdamW(model.parameters(), 0.01, fused=kind == "fused adamw")

    def step(model, optimizer, number):
        x = torch.randn(16, 4, 6, 6, generator=generator("x", number))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    whole, optimizer = make()
    for n in range(6):
        step(whole, optimizer, n)
    model, optimizer = make()
    checkpoint = Checkpoint(tmp_path, {"model": model}, optimizer)
    assert checkpoint.restore() == 0
    for n in range(3):
        step(model, optimizer, n)
    checkpoint.history.append({"loss": 0.5})
    checkpoint.save(3)
    model, optimizer = make()
    checkpoint = Checkpoint(tmp_path, {"model": model}, optimizer)
    assert checkpoint.restore() == 3
    assert checkpoint.history == [{"loss": 0.5}]
    for n in range(3, 6):
        step(model, optimizer, n)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), model.state_dict().values(), strict=True))


def test_states_are_safetensors(tmp_path):
    save_state(tmp_path / "s", {"x": torch.arange(3)}, {"step": 1})
    header = (tmp_path / "s").read_bytes()
    assert header[8:9] == b"{", "eight bytes of length, then JSON: no pickle"
    assert load_state(tmp_path / "none") is None


def test_seeds_depend_on_every_part():
    seeds = {derive_seed(a, b, c) for a in range(8) for b in ("noise", "order") for c in range(50)}
    assert len(seeds) == 800
    assert derive_seed(1, "x") == derive_seed(1, "x")
    assert all(0 <= s < 2**63 for s in seeds)


def test_a_file_has_a_second_name_where_the_disk_can(tmp_path, monkeypatch):
    source = tmp_path / "a.bin"
    source.write_bytes(b"content")
    link_or_copy(source, tmp_path / "linked.bin")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("across disks")))
    link_or_copy(source, tmp_path / "copied.bin")
    source.unlink()
    assert [(tmp_path / name).read_bytes() for name in ("linked.bin", "copied.bin")] == [b"content"] * 2
