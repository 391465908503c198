from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from benchmarks.contenders import counted
from benchmarks.published_editing import edit_as_published, without_inversion
from semantic_edit.pipelines import RestyleSettings

PROMPT = "a green pear on grass"
TAUS = [
    {},
    {"tau_v": 0.0, "tau_c": 0.0, "tau_s": 0.0, "tau_u": 0.0},
    {"tau_v": 0.5, "tau_c": 1.0, "tau_s": 0.75, "tau_u": 0.25},
]


@pytest.fixture
def learned(learned):
    """Without the inversion, on which the published loop does not put the source back."""
    return without_inversion(learned)


@pytest.mark.parametrize("prompt", [PROMPT, "a photo of a red apple on grass"])
@pytest.mark.parametrize("taus", TAUS)
def test_the_plain_loop_makes_our_pictures(style_pipe, learned, picture, prompt, taus):
    before = dict(style_pipe.unet.attn_processors)
    published = edit_as_published(style_pipe, learned, picture, prompt, RestyleSettings(**taus))
    assert style_pipe.unet.attn_processors == before
    here = style_pipe(prompt, mapping_network=learned, output_type="pt", **taus)
    both = torch.cat([here.reconstruction, here.images])
    assert_close(published, both, rtol=0, atol=1e-4)
    assert (published[1] - published[0]).abs().max() > 1e-2


def test_their_evaluations(style_pipe, learned, picture):
    """The published loop inverts again and evaluates the source for every prompt."""
    prompts = [PROMPT, "a blue mug on grass"]
    ways = [
        partial(edit_as_published, style_pipe, learned, picture, PROMPT),
        partial(style_pipe, PROMPT, learned),
        partial(style_pipe, prompts, learned),
    ]
    seen = []
    for edit in ways:
        with counted(style_pipe.unet) as batches:
            edit()
        seen.append(batches)
    assert seen == [[1] * 4 + [2] * 8, [4] * 4, [6] * 4]
    assert not style_pipe.unet._forward_pre_hooks
