"""An object is removed with every family: its place is filled, and edited as that family edits."""

import numpy as np
import PIL.Image
import pytest
import torch

from tests.conftest import make_picture
from tests.flow.conftest import FAMILIES
from tests.flow.flux import FLUX_DEV
from tests.flow.sd3 import SD3

FAST = (SD3, FLUX_DEV)


@pytest.mark.parametrize(
    "family",
    [one if one in FAST else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES],
    indirect=True,
    ids=str,
)
def test_an_object_is_removed(pipe):
    picture = make_picture(0)
    marked = np.zeros((picture.height, picture.width), dtype=np.uint8)
    marked[16:32, 16:40] = 255
    removed = pipe.remove(
        picture,
        "a mug on grass",
        PIL.Image.fromarray(marked),
        num_inference_steps=8,
        height=picture.height,
        width=picture.width,
        focus=False,
        generator=torch.Generator().manual_seed(0),
    )
    outside = marked == 0
    assert np.array_equal(np.asarray(removed.images[0])[outside], np.asarray(picture)[outside])
    assert not np.array_equal(np.asarray(removed.images[0]), np.asarray(picture))
