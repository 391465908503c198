from __future__ import annotations

import pytest

from benchmarks.sd15 import NAME, open_pipeline, side_of
from benchmarks.tasks import recolouring
from semantic_edit.pipelines import StyleDiffusionPipeline

PUBLISHED_PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}


@pytest.fixture(scope="module")
def pipe():
    """The model at its real size, without any weights in memory."""
    return open_pipeline(StyleDiffusionPipeline, NAME, "meta", "float32")


def test_the_models_have_the_size_of_the_published_ones(pipe):
    sizes = {
        name: sum(one.numel() for one in getattr(pipe, name).parameters()) for name in PUBLISHED_PARAMETERS
    }
    assert sizes == PUBLISHED_PARAMETERS
    assert side_of(NAME) == 512
    assert side_of(None) is None


def test_prompts_fill_its_tokens_and_are_known(pipe):
    task = recolouring(edits=4)
    tokens = pipe.tokenizer([task.source_prompt, *task.prompts], padding="max_length").input_ids
    assert {len(row) for row in tokens} == {pipe.text_encoder.config.max_position_embeddings} == {77}
    assert len({tuple(row) for row in tokens}) == 5
