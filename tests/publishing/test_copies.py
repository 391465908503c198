"""A pipeline's file that is loaded more than once, as by diffusers: different classes, the same networks."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

TARGET, OTHER = "a green pear on grass", "a blue mug"


@pytest.fixture
def copies(files, tmp_path, make_style_pipe, make_unet) -> Iterator[list[Any]]:
    """Two pipelines from one file, and one of the installed package, with the same UNet."""
    usual = make_style_pipe(unet=make_unet())
    path = tmp_path / "stylediffusion.py"
    path.write_text(files["stylediffusion"])
    pipes = [usual]
    for name in ("first_copy", "second_copy"):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        pipe = module.StyleDiffusionPipeline(**usual.components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        pipes.append(pipe)
    yield pipes
    for name in ("first_copy", "second_copy"):
        del sys.modules[name]


def restyled(pipe: Any, prompt: str, learned: Any, **options: Any) -> np.ndarray:
    return pipe(prompt, learned, output_type="np", **options).images


def test_one_may_edit_in_anothers_callback(copies, learned):
    expected = [restyled(copies[0], prompt, learned) for prompt in (TARGET, OTHER)]
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.extend(restyled(one, OTHER, learned) for one in copies[1:] if step == 1)
        return {}

    actual = restyled(copies[1], TARGET, learned, callback_on_step_end=callback)
    np.testing.assert_allclose(actual, expected[0], atol=1e-5)
    for one in seen:
        np.testing.assert_allclose(one, expected[1], atol=1e-5)
    assert len(seen) == 2


def test_they_wait_for_each_other(copies, learned):
    unet, threads, waiting = copies[0].unet, [], list[Future[np.ndarray]]()
    expected = [restyled(copies[0], prompt, learned) for prompt in (TARGET, OTHER)]
    with ThreadPoolExecutor(2) as pool:

        def note(*_: Any) -> None:
            threads.append(threading.current_thread())
            if not waiting:
                waiting.extend(pool.submit(restyled, pipe, OTHER, learned) for pipe in (copies[0], copies[2]))
                threading.Event().wait(0.2)  # the others come as far as they can

        handle = unet.conv_in.register_forward_pre_hook(note)
        actual = restyled(copies[1], TARGET, learned)
        results = [one.result(timeout=60) for one in waiting]
        handle.remove()
    np.testing.assert_allclose(actual, expected[0], atol=1e-5)
    for one in results:
        np.testing.assert_allclose(one, expected[1], atol=1e-5)
    assert sum(one is not another for one, another in pairwise(threads)) == 2  # one after the other
