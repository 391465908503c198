import numpy as np
import pytest
from PIL import Image

from semantic_edit.pipelines.strips import CAPTION_HEIGHT, GAP, LINE_HEIGHT, PANEL_HEIGHT, heat_over, strip

SIDE = PANEL_HEIGHT
RED = Image.new("RGB", (SIDE, SIDE), "red")


@pytest.mark.parametrize(
    ("caption", "lines"),
    [
        ("", 1),
        ("a red apple", 1),
        ("a red apple on grass beside a green pear on a table", 2),
        ("apple" * 40, 1),
    ],
)
def test_a_caption_is_broken_into_as_many_lines_as_it_needs(caption, lines):
    drawn = strip([(caption, RED)])
    assert drawn.height == CAPTION_HEIGHT + (lines - 1) * LINE_HEIGHT + SIDE + GAP
    assert (np.asarray(drawn)[-GAP - SIDE : -GAP, GAP:-GAP] == (255, 0, 0)).all()


def test_captions_of_one_row_may_be_alike():
    assert strip([("a", RED), ("a", RED)]).width == 2 * (SIDE + GAP) + GAP


def test_panels_beyond_a_row_go_below():
    drawn = strip([(str(index), RED) for index in range(5)], columns=2)
    assert drawn.size == (2 * (SIDE + GAP) + GAP, 3 * (CAPTION_HEIGHT + SIDE + GAP))


def test_heat_is_brighter_where_it_is_hotter_and_lets_the_picture_through():
    picture = Image.new("RGB", (2, 2), "white")
    picture.paste("black", (0, 0, 2, 1))
    heat = Image.new("L", (2, 2))
    heat.paste(255, (1, 0, 2, 2))
    drawn = np.asarray(heat_over(picture, heat)).astype(int).sum(axis=-1)
    assert (drawn[:, 1] > drawn[:, 0]).all()
    assert (drawn[1] > drawn[0]).all()
