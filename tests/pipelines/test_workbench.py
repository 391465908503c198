"""A picture that is edited again and again: as single calls would, but without doing anything twice."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from semantic_edit.pipelines.workbench import CANVAS, AskedEdit, Workbench, picture_in

ASKED = AskedEdit(
    {
        "source_prompt": "a red apple",
        "prompt": "a green pear",
        "num_inference_steps": 5,
        "negative_prompt": "",
    },
    3,
)
OTHER = AskedEdit({**ASKED.arguments, "prompt": "a blue ball"}, 3)


def alone(pipe, picture, asked, **more):
    return pipe(picture, generator=asked.generator(), **asked.given(has_mask=False), **more)


def brushed(bench, box, erased=False):
    """The canvas's layer after a stroke."""
    layer = bench.drawn(heat=False)[1]
    ImageDraw.Draw(layer).rectangle(box, fill=(0, 0, 0, 0) if erased else (40, 170, 255, 150))
    return layer


def test_it_finds_and_edits_as_single_calls_would(pipe, picture):
    bench = Workbench(picture)
    found = bench.find(pipe, ASKED)
    made = bench.edit(pipe, ASKED)
    expected = alone(pipe, picture, ASKED)
    torch.testing.assert_close(found.pixel_mask, expected.pixel_mask, rtol=0, atol=0)
    assert np.array_equal(made.output.images[0], expected.images[0])
    assert not made.has_mask
    assert not made.is_reusing


def test_another_prompt_reuses_the_inversion_and_gives_the_same(pipe, picture, counted):
    bench = Workbench(picture)
    bench.edit(pipe, ASKED)
    first = counted.evaluations
    made = bench.edit(pipe, OTHER)
    assert made.is_reusing
    assert counted.evaluations == 2 * first - 2  # for five steps at a strength of 0.8
    assert np.array_equal(made.output.images[0], alone(pipe, picture, OTHER).images[0])


def test_an_inversion_of_other_steps_is_not_reused(pipe, picture):
    bench = Workbench(picture)
    bench.edit(pipe, ASKED)
    assert bench.reusable(AskedEdit({**ASKED.arguments, "num_inference_steps": 6}, 3)) is None
    assert bench.reusable(AskedEdit({**ASKED.arguments, "preset": "paper"}, 3)) is None


def test_an_inversion_of_a_part_serves_only_what_was_found_there(pipe):
    bench = Workbench(Image.effect_noise((83, 61), 90).convert("RGB"))
    kept = bench.edit(pipe, ASKED).output.trajectory
    assert not all(frame.is_plain for frame in kept.frames)
    assert bench.reusable(ASKED) is kept
    assert bench.reusable(OTHER) is None


def test_the_threshold_moves_the_mask_without_the_model(pipe, picture, counted):
    bench = Workbench(picture)
    bench.move_threshold(0.7)  # of nothing
    bench.find(pipe, ASKED)
    before = counted.evaluations
    bench.move_threshold(0.7)
    assert counted.evaluations == before
    expected = alone(pipe, picture, ASKED, mask_threshold=0.7)
    torch.testing.assert_close(bench.found.pixel_mask, expected.pixel_mask, rtol=0, atol=0)


def test_strokes_stay_when_the_threshold_moves_and_make_the_mask_of_the_edit(pipe, picture):
    bench = Workbench(picture)
    bench.find(pipe, ASKED)
    bench.move_threshold(0.9)
    outside = np.asarray(bench.mask())[:12, :60] == 0
    bench.brush(brushed(bench, (0, 80, 600, 200)))
    bench.move_threshold(0.7)
    bench.brush(brushed(bench, (400, 300, 640, 520), erased=True))
    made = bench.edit(pipe, ASKED)
    expected = bench.strokes.corrected(bench.mask())
    mask = np.asarray(expected)
    assert made.has_mask
    assert outside.mean() > 0.3
    assert (mask[:12, :60][outside] > 250).mean() > 0.9  # but for the rounding of edges
    assert mask[28:40, 44:].max() == 0
    alike = pipe(picture, mask_image=expected, generator=ASKED.generator(), **ASKED.given(has_mask=True))
    assert np.array_equal(made.output.images[0], alike.images[0])
    bench.clear()
    assert not bench.strokes


def test_a_layer_of_another_size_is_left_aside(picture):
    bench = Workbench(picture)
    bench.brush(Image.new("RGBA", (10, 10), "white"))
    assert not bench.strokes


def test_a_canvas_shows_the_picture_or_the_soft_map_under_the_mask(pipe, picture):
    bench = Workbench(picture)
    plain, _ = bench.drawn(heat=True)  # there is none yet
    bench.find(pipe, ASKED)
    below, above = bench.drawn(heat=True)
    assert plain.size == below.size == above.size == CANVAS
    assert np.array_equal(plain, bench.drawn(heat=False)[0])
    assert not np.array_equal(plain, below)


def test_the_files_of_an_edit_say_what_came_of_it(pipe, picture):
    files = Workbench(picture).edit(pipe, ASKED).files()
    assert set(files) == {"picture.png", "edited.png", "mask.png", "strip.png", "trajectory.safetensors"}


@pytest.mark.parametrize("prompt", ["", "  ", None])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(ValueError, match="`prompt`: a few words are needed, got none"):
        AskedEdit({"prompt": prompt})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", r"^sent.png is not a picture in a format that Pillow reads$"),
        (b"", r"^sent.png is not a picture"),
        (None, r"^sent.png has 1100 x 1000 pixels, and 1 million are allowed; shrink it first$"),
    ],
)
def test_files_that_cannot_be_edited_are_refused(tmp_path, content, reason):
    path = tmp_path / "sent.png"
    path.write_bytes(content) if content is not None else Image.new("1", (1100, 1000)).save(path)
    with pytest.raises(ValueError, match=reason):
        picture_in(path, 1_000_000)


def test_a_picture_that_was_sent_is_opaque_and_upright(tmp_path):
    image = Image.new("RGB", (6, 4), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    read = picture_in(tmp_path / "turned.jpg", 24)
    assert (read.size, read.mode) == ((4, 6), "RGB")
