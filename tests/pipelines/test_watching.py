"""Progress that is shown elsewhere, and a call that is stopped from another thread."""

from threading import Event

import numpy as np
import pytest
import torch

from semantic_edit.pipelines.watching import StoppedOnRequest, watched_pipeline

WORDS = {"prompt": "a blue mug", "source_prompt": "a red mug", "num_inference_steps": 4}


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.filterwarnings("ignore:The mask covers")
def test_a_watched_call_gives_the_same_and_tells_of_every_stage(pipe, picture):
    told = []
    mine = watched_pipeline(pipe, lambda done, total, text: told.append((done, total, text)), Event())
    expected = pipe(picture, generator=seeded(), **WORDS).images[0]
    assert np.array_equal(mine(picture, generator=seeded(), **WORDS).images[0], expected)
    assert isinstance(mine, type(pipe))
    assert {"invert", "decode"} <= {text.partition(",")[0] for _, _, text in told}
    assert all(0 <= done <= total for done, total, _ in told)
    assert "progress_bar" not in vars(type(pipe))


@pytest.mark.filterwarnings("ignore:The mask covers")
def test_a_call_ends_at_the_next_step_and_the_pipeline_is_as_before(pipe, picture):
    stop, told = Event(), []

    def show(done, total, text):
        told.append(text)
        if len(told) == 4:
            stop.set()

    before = dict(pipe.unet.attn_processors)
    with pytest.raises(StoppedOnRequest):
        watched_pipeline(pipe, show, stop)(picture, **WORDS)
    assert len(told) == 4
    assert pipe.unet.attn_processors == before
    pipe(picture, **WORDS)
