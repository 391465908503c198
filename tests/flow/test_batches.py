"""Several images, prompts and copies in one call: each result is what a call of its own gives."""

import inspect

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.conftest import make_picture
from tests.flow.conftest import of_flows
from tests.flow.qwen import QWEN
from tests.flow.sd3 import SD3
from tests.flow.z_image import Z_IMAGE

pytestmark = pytest.mark.filterwarnings("ignore:The mask")

SHORT, LONG = "a red apple", "a photo of a green pear on the grass"
SEEDS = (3, 4)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def edited(family, edit):
    """An edit that also finds its masks."""

    def run(pipe, **changes):
        given = {"mask_image": None, "num_maps_per_mask": 2, "mask_threshold": 0.3, "focus": False}
        return edit(pipe, **{**given, **changes})

    return run


def pictures(family):
    return [make_picture(seed, *family.size) for seed in (1, 2)]


def both(family, **changes):
    """Two edits with prompts of different lengths."""
    given = {"image": pictures(family), "source_prompt": [SHORT, LONG], "prompt": [LONG, SHORT]}
    return {**given, "generator": generators(*SEEDS), **changes}


def alone(family, row, **changes):
    """One of them."""
    given = both(family)
    return {**{name: given[name][row] for name in given}, "generator": generators(SEEDS[row]), **changes}


OTHERS = ({"encoding": "noise"}, {"encoding": "flowedit"}, {"tau_s": 0.5})
ENCODINGS = [{}, *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)]


@of_flows(QWEN, Z_IMAGE)
@pytest.mark.parametrize("told", ENCODINGS, ids=str)
def test_a_batch_equals_its_parts(family, pipe, edited, told):
    if not told.keys() <= inspect.signature(family.edit.__call__).parameters.keys():
        pytest.skip("it has no such argument")
    together = edited(pipe, **both(family, **told))
    for row in range(2):
        one = edited(pipe, **alone(family, row, **told))
        assert_close(together[row : row + 1], one, rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


@of_flows(SD3)
@pytest.mark.parametrize("told", ENCODINGS[:1] + ENCODINGS[3:], ids=str)
def test_copies_are_adjacent(family, pipe, edited, told):
    if not told.keys() <= inspect.signature(family.edit.__call__).parameters.keys():
        pytest.skip("it has no such argument")
    copies = edited(pipe, **both(family, num_images_per_prompt=2, **told))
    once = edited(pipe, **both(family, **told))
    assert_close(copies, once.repeat_interleave(2, dim=0), rtol=0, atol=1e-4)


@of_flows(SD3)
def test_one_image_or_one_prompt_serves_all_edits(family, pipe, edited):
    image, prompts = pictures(family)[0], [SHORT, LONG, SHORT]
    several = edited(pipe, image=image, prompt=prompts, source_prompt="a mug", generator=generators(1, 2, 1))
    assert len(several) == 3
    assert_close(several[0], several[2], rtol=0, atol=1e-4)
    assert len(edited(pipe, image=pictures(family), prompt=SHORT, source_prompt="a mug")) == 2
    with pytest.raises(ValueError, match="`generator` holds 2 generators for 3 edits"):
        edited(pipe, image=image, prompt=prompts, generator=generators(1, 2))
    with pytest.raises(ValueError, match=r"do not match in number: `prompt` 3.*`image` 2"):
        edited(pipe, image=pictures(family), prompt=prompts)


@of_flows(SD3)
def test_an_image_of_odd_sides_comes_back_at_its_size(family, pipe, edit):
    image, mask = make_picture(1, 61, 47), np.zeros((47, 61))
    mask[:, :30] = 1
    (edited,) = edit(pipe, image=image, mask_image=mask, output_type="pil")
    assert edited.size == (61, 47)
    before, after = (np.asarray(one)[:, 31:] for one in (image, edited))
    assert np.array_equal(before, after)
    assert not np.array_equal(np.asarray(image), np.asarray(edited))
