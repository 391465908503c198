import io

import PIL.Image
import pytest
import torch

from semantic_edit.editing.frames import Frame
from semantic_edit.editing.mask_shapes import mask_to_tensor
from semantic_edit.editing.origins import MASK_ORIGIN, mask_as_image, origins_of
from semantic_edit.files import encode_image

FRAME = Frame((64, 48), (8, 0, 40, 32), (64, 64), "0a" * 192)


@pytest.fixture
def mask():
    return torch.linspace(0, 1, 64 * 48).view(1, 48, 64)


def test_a_mask_s_picture_remembers_its_frame_and_so_does_its_png(mask, tmp_path):
    picture = mask_as_image(mask, FRAME)
    torch.testing.assert_close(mask_to_tensor(picture)[0], mask, rtol=0, atol=0.51 / 255)
    opened = PIL.Image.open(io.BytesIO(encode_image(picture, tmp_path / "mask.png")))
    for one in (picture, opened):
        assert origins_of(one) == (FRAME,)
    assert origins_of([picture, mask]) == (FRAME, None)


def test_others_remember_nothing(mask, tmp_path):
    assert origins_of(mask_as_image(mask)) == (None,)
    assert origins_of(mask) == (None,)
    assert origins_of(mask.numpy()) == (None,)
    jpeg = PIL.Image.open(io.BytesIO(encode_image(mask_as_image(mask, FRAME), tmp_path / "mask.jpg")))
    assert origins_of(jpeg) == (None,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is malformed JSON"),
        ("[]", "must be a JSON object"),
        ('{"picture": [64, 48]}', "must be an object of picture: a list of 2, .* box: .* size: .* look: "),
        (
            '{"picture": [64, 48], "box": [0, 0, 65, 48], "size": [64, 48], "look": ""}',
            "box must lie inside of its picture",
        ),
    ],
)
def test_what_was_changed_into_something_else_is_refused(mask, text, reason):
    picture = mask_as_image(mask)
    picture.info[MASK_ORIGIN] = text
    with pytest.raises(ValueError, match=reason):
        origins_of(picture)
