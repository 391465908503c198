from __future__ import annotations

import pytest

from benchmarks import inside
from benchmarks.__main__ import main
from benchmarks.diffedit_speed import Settings
from benchmarks.tasks import Task


@pytest.fixture
def edits(style_pipe, picture):
    task = Task(picture, "a red apple on grass", ("a green pear on grass",))
    return inside.edits(style_pipe, task, Settings(4, 1), steps=2)


def hooks(edits):
    modules = [one for edit in edits for part in edit.modules.values() for one in part]
    return [hook for one in modules for hook in (*one._forward_hooks, *one._forward_pre_hooks)]


def test_parts_are_inside_of_the_whole(edits):
    for edit in edits:
        whole, parts = inside.seconds_inside(edit)
        assert all(parts[part] > 0 for part in ("UNet", "VAE", "text encoder"))
        assert sum(parts.values()) < whole
        assert (parts["mapping networks"] > 0) == edit.what.startswith("StyleDiffusion")
    assert not hooks(edits)


def test_the_profiler_is_off_inside_the_models(edits):
    for edit in edits:
        *functions, total = inside.rest(edit, top=10_000)
        assert any("ddim_step" in one for one in functions)
        assert not any("conv2d" in one for one in functions)
        assert total.startswith("| all, ")
    assert not hooks(edits)


def test_hooks_are_removed_after_an_error(edits):
    def fail() -> None:
        raise RuntimeError("boom")

    broken = inside.Edit("broken", fail, edits[0].modules)
    for look in (inside.seconds_inside, lambda edit: inside.rest(edit, 1)):
        with pytest.raises(RuntimeError, match="boom"):
            look(broken)
    assert not hooks(edits)


def test_the_whole_command_runs_a_part(capsys):
    main(["--quick", "--only", "inside", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert printed.startswith("torch ")
    assert printed.count(inside.HEADER) == 1
    assert printed.count(inside.REST_HEADER) == 2
    assert "against" not in printed
