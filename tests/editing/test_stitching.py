import io

import numpy as np
import PIL.Image
import pytest
import torch

from semantic_edit.editing import stitching
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.stitching import (
    cut_out,
    eight_bits,
    look_of,
    looks_like,
    resized,
    seen_change,
    stitched,
)


def planes_of(picture):
    """Images as they are read: 8 bits, with the channels innermost in memory."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def smooth(seed, width, height):
    few = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(few).resize((width, height), PIL.Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def original():
    return planes_of(smooth(0, 301, 203))


FRAMES = {
    "plain": Frame((301, 203), (0, 0, 301, 203), (301, 203)),
    "whole": Frame((301, 203), (0, 0, 301, 203), (96, 64)),
    "part, shrunk": Frame((301, 203), (31, 17, 191, 177), (64, 64)),
    "part, as it is": Frame((301, 203), (31, 17, 95, 81), (64, 64)),
    "part, enlarged": Frame((301, 203), (200, 100, 220, 120), (64, 64)),
}
each_frame = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


@each_frame
def test_a_cut_is_the_part_resized_alike_in_8_bits_and_floats(original, frame):
    cut = cut_out(original, frame)
    assert cut.shape == (1, 3, frame.size[1], frame.size[0])
    assert cut.dtype == torch.float32
    assert cut.is_contiguous()
    torch.testing.assert_close(cut, cut_out(original.float() / 255, frame), rtol=0, atol=1.5 / 255)
    part = PIL.Image.fromarray(original.permute(1, 2, 0).numpy()).crop(frame.box)
    pillows = planes_of(part.resize(frame.size, PIL.Image.Resampling.BICUBIC)) / 255
    torch.testing.assert_close(cut[0], pillows, rtol=0, atol=2 / 255)


@each_frame
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_where_the_opacity_is_0_the_originals_bits_stay(original, frame, dtype):
    own = original if dtype == torch.uint8 else original.float() / 255
    left, upper, right, lower = frame.box
    opacity = torch.zeros(1, lower - upper, right - left)
    opacity[:, : (lower - upper) // 2] = torch.rand(1, (lower - upper) // 2, right - left)
    edited = torch.rand(3, frame.size[1], frame.size[0])
    before = own.clone()
    result = stitched(own, edited, opacity, frame)
    assert torch.equal(own, before)
    assert result.dtype == dtype
    over = torch.zeros(203, 301)
    over[upper:lower, left:right] = opacity[0]
    assert torch.equal(result[:, over == 0], own[:, over == 0])
    assert not torch.equal(result, own)


@each_frame
def test_where_the_opacity_is_1_the_edit_is(original, frame):
    left, upper, right, lower = frame.box
    opacity = torch.ones(1, lower - upper, right - left)
    edited = planes_of(smooth(1, *frame.size)) / 255
    wanted = resized(edited[None], frame.box_size)[0]
    for own, tolerance in ((original.float() / 255, 1e-6), (original, 2 / 255)):
        part = stitched(own, edited, opacity, frame)[:, upper:lower, left:right]
        part = part / 255 if part.dtype == torch.uint8 else part
        torch.testing.assert_close(part, wanted, rtol=0, atol=tolerance)


def test_a_half_is_the_mean(original):
    frame = FRAMES["plain"]
    edited = torch.rand(3, 203, 301)
    mixed = stitched(original, edited, torch.full((1, 203, 301), 0.5), frame)
    wanted = (original / 255 + edited) / 2
    torch.testing.assert_close(mixed / 255, wanted, rtol=0, atol=0.51 / 255)


@each_frame
def test_bands_change_nothing(original, frame, monkeypatch):
    edited = torch.rand(3, frame.size[1], frame.size[0])
    opacity = torch.rand(1, frame.box_size[1], frame.box_size[0])
    usual = stitched(original, edited, opacity, frame)
    monkeypatch.setattr(stitching, "BAND", 7)
    assert torch.equal(stitched(original, edited, opacity, frame), usual)


def test_resizing_keeps_from_aliasing_and_from_ringing_out_of_range():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    assert (resized(stripes, (16, 16)) - 0.5).abs().max() < 0.1
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    large = resized(edge, (64, 64))
    assert (large.min(), large.max()) == (0, 1)
    assert resized(stripes, (64, 64)) is stripes


def test_eight_bits_round():
    assert eight_bits(torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0])).tolist() == [0, 0, 1, 255]
    own = torch.tensor([7], dtype=torch.uint8)
    assert eight_bits(own) is own


def test_a_picture_is_known_again_however_it_was_saved():
    picture = smooth(1, 200, 150)
    look = look_of(planes_of(picture))
    assert len(look) == 2 * 3 * 256
    assert looks_like(look, look_of(planes_of(picture).float() / 255))
    for quality in (95, 50):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        assert looks_like(look, look_of(planes_of(PIL.Image.open(file))))
    changed = picture.copy()
    changed.paste((255, 0, 0), (50, 50, 75, 75))
    assert not looks_like(look, look_of(planes_of(changed)))
    assert not looks_like(look, look_of(planes_of(smooth(2, 200, 150))))


def test_what_was_retouched_in_another_part_does_not_matter():
    picture = smooth(1, 200, 150)
    changed = picture.copy()
    changed.paste((255, 0, 0), (0, 0, 100, 150))
    looks = look_of(planes_of(picture)), look_of(planes_of(changed))
    assert not looks_like(*looks)
    assert not looks_like(*looks, part=(0.0, 0.0, 0.6, 1.0))
    assert looks_like(*looks, part=(0.5, 0.0, 1.0, 1.0))
    assert looks_like(*looks, part=(0.1, 0.1, 0.12, 0.12))  # nothing of it alone is known


def test_what_has_no_look_may_be_any_picture():
    assert looks_like("", "00")
    assert looks_like("00", "")
    assert not looks_like("00", "0000")
    assert not looks_like("00", "no digits")
    assert not looks_like("00" * 768, "00" * 192)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (5, 3)])
def test_pictures_of_a_few_pixels_are_cut_known_and_stitched(size):
    tiny = planes_of(smooth(3, *size))
    frame = Frame(size, (0, 0, *size), (64, 48))
    assert cut_out(tiny, frame).shape == (1, 3, 48, 64)
    assert len(look_of(tiny)) == 1536
    opacity = torch.zeros(1, *size[::-1])
    assert torch.equal(stitched(tiny, torch.rand(3, 48, 64), opacity, frame), tiny)


def test_only_what_is_to_be_seen_is_laid_over(original):
    own = original[None].float() / 255
    edited = own + 0.01 * torch.randn(own.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    edited[..., 50:100, 50:100] = 1 - own[..., 50:100, 50:100].round()
    seen = seen_change(own, edited, 2.0)
    assert seen.shape == (1, 1, 203, 301)
    assert seen[..., 55:95, 55:95].min() == 1
    assert seen[..., :40, :].max() == 0
    assert not seen_change(own, own, 2.0).any()
