"""Cut a frame out of a picture, and lay the result over the picture's own pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from semantic_edit.editing.frames import Frame, Region, Size
from semantic_edit.editing.mask_shapes import feather_mask

LOOK_SIDE = 16
"""Cells along a side of a picture's look; a hundredth of the picture fills more than half of a cell."""

LOOK_TOLERANCE = 10
"""In levels of 255: JPEG at quality 75 or higher, or another decoder, stays below 8; retouching exceeds 12."""

LOOK_ALIKE = 0.4
"""The fraction of all cells that must agree for two pictures to count as the same."""

SEEN = (0.05, 0.12)
"""Differences, in [0, 1], from which an edit starts to be laid over the original, and is laid over it fully."""

BAND = 256  # number of rows blended at once, so that no second picture is held in floats


def look_of(planes: torch.Tensor) -> str:
    """What a picture looks like from afar: the same to the eye, and almost the same in numbers, however it was saved.

    Args:
        planes: (3, height, width), in 8 bits or floats in [0, 1].

    Returns:
        Hexadecimal digits: red, green and blue of 16 x 16 cells.
    """
    small = F.interpolate(planes[None], size=(LOOK_SIDE, LOOK_SIDE), mode="bilinear", antialias=True)
    return bytes(eight_bits(small).flatten().tolist()).hex()


def looks_like(one: str, other: str, part: Region = (0.0, 0.0, 1.0, 1.0)) -> bool:
    """Whether two pictures may be the same, judged by their looks; "" matches any.

    Args:
        one, other: From `look_of`, or "".
        part: The part that matters, in fractions of the sides; elsewhere they may have been edited.
    """
    if not one or not other:
        return True
    try:
        cells = [
            torch.tensor(list(bytes.fromhex(look))).view(3, LOOK_SIDE, LOOK_SIDE) for look in (one, other)
        ]
    except (ValueError, RuntimeError):
        return False
    left, upper, right, lower = part
    rows, columns = _cells_within(upper, lower), _cells_within(left, right)
    same = ((cells[0] - cells[1]).abs() <= LOOK_TOLERANCE).all(0)
    return bool(same[rows, columns].all()) and float(same.float().mean()) >= LOOK_ALIKE


def _cells_within(start: float, end: float) -> slice:
    """The cells of a look that depend only on a part of a side; a cell mixes in half of each neighbour."""
    first = 0 if start <= 0 else math.ceil(start * LOOK_SIDE + 0.5)
    behind = LOOK_SIDE if end >= 1 else math.floor(end * LOOK_SIDE - 0.5)
    return slice(first, max(first, behind))


def eight_bits(planes: torch.Tensor) -> torch.Tensor:
    """Convert floats in [0, 1] to 8-bit integers; 8-bit integers stay as they are."""
    return planes if planes.dtype == torch.uint8 else (255 * planes).round().clamp(0, 255).byte()


def resized(planes: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize (batch, channels, height, width) by antialiased cubic interpolation.

    Works on 8-bit integers and on floats in [0, 1], and keeps the dtype.

    Args:
        planes: The pictures.
        size: (width, height).
    """
    if (planes.shape[-1], planes.shape[-2]) == size:
        return planes
    if planes.dtype == torch.uint8 and size == (1, 1):  # torch 2.13 fails on this case in 8 bits
        return eight_bits(resized(planes.float() / 255, size))
    done = F.interpolate(planes, size=size[::-1], mode="bicubic", align_corners=False, antialias=True)
    return done if done.dtype == torch.uint8 else done.clamp(0, 1)


def cut_out(planes: torch.Tensor, frame: Frame) -> torch.Tensor:
    """The part of a picture that a model receives.

    Args:
        planes: (3, height, width) of the whole picture.
        frame: The part.

    Returns:
        (1, 3, height, width) of `frame.size`, float32 in [0, 1].
    """
    left, upper, right, lower = frame.box
    part = resized(planes[None, :, upper:lower, left:right], frame.size)
    return (part.float() / 255 if part.dtype == torch.uint8 else part).contiguous()


def seen_change(original: torch.Tensor, edited: torch.Tensor, sigma: float) -> torch.Tensor:
    """Where an edit is visible; elsewhere the original pixels are better, because no model has touched them.

    Args:
        original, edited: (batch, 3, height, width) in [0, 1].
        sigma: Standard deviation, in pixels, of the blur of the differences.

    Returns:
        (batch, 1, height, width) in [0, 1].
    """
    low, high = SEEN
    difference = feather_mask((edited - original).abs().amax(1, keepdim=True), sigma)
    return ((difference - low) / (high - low)).clamp(0, 1)


def stitched(
    original: torch.Tensor, edited: torch.Tensor, opacity: torch.Tensor, frame: Frame
) -> torch.Tensor:
    """Lay the result for a frame over its picture.

    Where the opacity is 0, the picture's own pixels stay bit by bit.

    Args:
        original: (3, height, width), in 8 bits or floats in [0, 1].
        edited: (3, height, width) of `frame.size`, floats in [0, 1].
        opacity: (1, height, width) of `frame.box_size`, in [0, 1].
        frame: The part of the picture.

    Returns:
        Same shape and dtype as `original`.
    """
    left, upper, right, lower = frame.box
    result = original.clone()
    part = result[:, upper:lower, left:right]
    whole_numbers = original.dtype == torch.uint8
    if frame.size != frame.box_size and whole_numbers:
        laid = resized(eight_bits(edited)[None], frame.box_size)[0]
    else:
        laid = resized(edited[None], frame.box_size)[0] * (255 if whole_numbers else 1)
    touched = opacity[0] > 0
    rows, columns = extent(touched.any(1)), extent(touched.any(0))
    for first in range(rows.start, rows.stop, BAND):
        band = (slice(None), slice(first, min(first + BAND, rows.stop)), columns)
        # at weight 0, lerp returns its first argument exactly
        mixed = torch.lerp(part[band].float(), laid[band].float(), opacity[band])
        part[band] = mixed.round().to(part.dtype) if whole_numbers else mixed
    return result


def extent(marked: torch.Tensor) -> slice:
    """The slice from the first to the last true value in a tensor of booleans; empty if none is true."""
    places = marked.nonzero().flatten().tolist()
    return slice(places[0], places[-1] + 1) if places else slice(0, 0)
