import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semantic_edit.disk.frames import FRAME_RULE
from semantic_edit.editing.frames import Frame, box_around, whole_frame, working_size

SIDES = st.integers(1, 20_000)
SIZES = st.tuples(SIDES, SIDES)


@example((81, 102), (64, 64), 16)
@given(SIZES, st.sampled_from([(64, 64), (128, 128), (512, 512), (768, 512)]), st.sampled_from([8, 16, 64]))
def test_a_working_size_is_of_about_the_models_area_in_multiples(picture, own, multiple):
    width, height = working_size(picture, own, multiple)
    assert width % multiple == height % multiple == 0
    assert min(width, height) >= multiple
    assert width * height <= 2.5 * math.prod(own)  # what is left alone, and rounding
    shape, wanted = width / height, picture[0] / picture[1]
    longest = math.prod(own) / multiple**2
    if 1 / longest < wanted < longest and min(width, height) >= 4 * multiple:
        assert shape / wanted * (1 + 1e-9) >= 3.5 / 4.5  # each side is rounded by half a multiple at most
        assert shape / wanted <= 4.5 / 3.5 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((512, 512), (512, 512)),
        ((512, 768), (512, 768)),  # half as much again
        ((700, 500), (704, 496)),
        ((4032, 3024), (592, 440)),
        ((1024, 1024), (512, 512)),  # multiples, but four times the area
        ((8, 8), (512, 512)),
        ((1, 1), (512, 512)),
        ((300, 3000), (160, 1616)),
        ((1, 100_000), (8, 32_768)),
    ],
)
def test_working_sizes(picture, size):
    assert working_size(picture, (512, 512), 8) == size


def test_a_part_takes_the_models_own_area():
    assert working_size((400, 400), (512, 512), 8) == (400, 400)
    assert working_size((400, 400), (512, 512), 8, tolerance=1) == (512, 512)


@given(
    SIZES,
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from([(512, 512), (768, 512)]),
    st.floats(1, 4),
    st.floats(1, 2000),
)
def test_a_box_lies_in_the_picture_and_holds_the_region(picture, parts, shape, context, least):
    width, height = picture
    (left, right), (upper, lower) = sorted(parts[:2]), sorted(parts[2:])
    region = (left * width, upper * height, right * width, lower * height)
    box = box_around(region, picture, shape, context, least)
    assert 0 <= box[0] < box[2] <= width
    assert 0 <= box[1] < box[3] <= height
    assert box[0] <= region[0] + 1
    assert box[1] <= region[1] + 1
    assert box[2] >= region[2] - 1
    assert box[3] >= region[3] - 1


def test_a_box_has_the_models_shape_where_there_is_room():
    box = box_around((1000, 1000, 1100, 1050), (4000, 3000), (512, 512), 2, 10)
    assert box == (950, 925, 1150, 1125)
    assert box_around((1000, 1000, 1010, 1010), (4000, 3000), (512, 512), 2, 512) == (749, 749, 1261, 1261)
    assert box_around((0, 0, 10, 10), (4000, 3000), (768, 512), 1, 627.1) == (0, 0, 769, 513)
    assert box_around((10, 1000, 20, 1010), (100, 3000), (512, 512), 2, 512) == (0, 749, 100, 1261)


def test_a_frame_tells_what_it_is():
    plain = whole_frame((512, 512), (512, 512), 8)
    assert plain.is_plain
    assert str(plain) == "512 x 512 pixels"
    whole = whole_frame((4032, 3024), (512, 512), 8)
    assert whole.is_whole
    assert not whole.is_plain
    assert str(whole) == "4032 x 3024 pixels, processed at 592 x 440"
    part = Frame((4032, 3024), (100, 200, 1124, 1224), (512, 512))
    assert not part.is_whole
    assert (part.box_size, part.scale) == ((1024, 1024), 2.0)
    assert part.share == pytest.approx(1024 / math.sqrt(4032 * 3024))
    assert str(part) == "1024 x 1024 pixels at (100, 200) of 4032 x 3024, processed at 512 x 512"
    assert whole_frame((4032, 3024), (512, 512), 8, (640, 480)).size == (640, 480)


@pytest.mark.parametrize("box", [(0, 0, 65, 48), (-1, 0, 10, 10), (10, 0, 10, 10), (0, 20, 10, 10)])
def test_a_box_outside_of_its_picture_is_refused(box):
    with pytest.raises(ValueError, match=r"box must lie inside of its picture, got .* in 64 x 48 pixels"):
        Frame((64, 48), box, (64, 48))


def test_a_frame_comes_back_from_a_file():
    frame = Frame((4032, 3024), (100, 200, 1124, 1224), (512, 512), "00ff" * 96)
    stored = json.loads(json.dumps(frame.stored()))
    is_frame, _ = FRAME_RULE
    assert is_frame(stored)
    assert Frame.read(stored) == frame
    for name, wrong in {"picture": [0, 1], "box": [1, 2, 3], "size": "512", "look": None}.items():
        assert not is_frame({**stored, name: wrong})
    assert not is_frame({**stored, "more": 1})
    assert not is_frame([])
