"""What is compiled is of today's sources."""

from ops.models.kernels.compiling import forget_stale


def test_what_was_compiled_of_other_sources_is_removed(tmp_path):
    """numba itself looks at the file of a loop only, not at those of what the loop calls."""
    (tmp_path / "__pycache__").mkdir()
    loop, called = tmp_path / "loop.py", tmp_path / "called.py"
    loop.write_text("1")
    called.write_text("2")
    compiled = [tmp_path / "__pycache__" / name for name in ("loop.f-1.nbi", "loop.f-1.1.nbc")]

    def compile_all():
        for path in compiled:
            path.write_text("code")

    compile_all()
    forget_stale(tmp_path)
    assert not any(path.exists() for path in compiled), "of unknown sources"
    compile_all()
    forget_stale(tmp_path)
    assert all(path.exists() for path in compiled)
    called.write_text("3")
    forget_stale(tmp_path)
    assert not any(path.exists() for path in compiled)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_written_to_is_left(tmp_path):
    (tmp_path / "loop.py").write_text("1")
    (tmp_path / "__pycache__").write_text("no folder")
    forget_stale(tmp_path)
    assert (tmp_path / "__pycache__").read_text() == "no folder"


def test_all_loops_are_compiled_at_once(in_fresh_python):
    code = """
from numba.core.registry import CPUDispatcher
from ops.models.kernels import chain, finish, norm_silu, tiles, winograd
from ops.models.kernels.__main__ import compile_all
compile_all()
for module in (chain, finish, norm_silu, tiles, winograd):
    loops = [each for each in vars(module).values() if isinstance(each, CPUDispatcher)]
    print(*(each.__name__ for each in loops if each.targetoptions.get("parallel") and not each.signatures))
"""
    assert in_fresh_python(code).split() == []
