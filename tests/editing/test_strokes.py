"""A mask corrected with a brush."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from semantic_edit.editing.strokes import OPAQUE, Strokes

CANVAS = (60, 60)
COLOUR = (40, 170, 255)


def disc(size, box):
    image = Image.new("L", size)
    ImageDraw.Draw(image).rectangle(box, fill=255)
    return image


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


@pytest.fixture
def mask():
    return disc((40, 20), (5, 5, 14, 14))


@pytest.fixture
def shown(mask):
    return Strokes.none(CANVAS, Image.new("RGB", mask.size)).over(mask)


def brushed(layer, box, alpha):
    """The layer after the browser has drawn a rectangle into it: the brush adds, the eraser leaves nothing."""
    layer.paste((*COLOUR, alpha), box)
    return layer


def test_a_canvas_that_nobody_touched_changes_nothing(shown, mask):
    read = shown.read(shown.layer(COLOUR))
    assert not read
    assert same(read.corrected(mask), mask)


@given(st.integers(0, 255))
def test_a_soft_mask_survives_a_browser_that_rounds(value):
    mask = Image.new("L", (30, 30), value)
    shown = Strokes.none(CANVAS, Image.new("RGB", mask.size)).over(mask)
    assert not shown.read(shown.layer(COLOUR).point(lambda one: max(one - 3, 0)))


def test_the_brush_adds_and_the_eraser_takes_away(shown, mask):
    layer = brushed(shown.layer(COLOUR), (45, 20, 55, 30), OPAQUE)  # the picture is centred: rows 15 to 45
    read = shown.read(brushed(layer, (0, 15, 60, 22), 0))
    corrected = np.asarray(read.corrected(read.shown.resize((60, 30)))) if read else None
    assert corrected[10, 50] == 255
    assert corrected[2].max() == 0
    assert np.asarray(read.corrected(mask))[12, 8] == 255  # what was found, and not erased


def test_strokes_stay_over_another_mask_and_the_later_one_counts(shown):
    added = shown.read(brushed(shown.layer(COLOUR), (30, 20, 50, 40), OPAQUE))
    empty = Image.new("L", (40, 20))
    again = added.over(empty)
    assert same(again.shown, added.added)
    erased = again.read(brushed(again.layer(COLOUR), (30, 20, 50, 40), 0))
    assert erased.corrected(empty).getbbox() is None
    assert erased.corrected(Image.new("L", (40, 20), 255)).getextrema() == (0, 255)


def test_the_picture_is_centred_and_transparent_around(mask):
    shown = Strokes.none(CANVAS, Image.new("RGB", mask.size)).centred(Image.new("RGB", mask.size, "red"))
    assert shown.size == CANVAS
    assert (shown.getpixel((30, 5))[3], shown.getpixel((30, 30))) == (0, (255, 0, 0, 255))
