"""Which part of a picture a model works on, and at what size: only sizes and boxes, no pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Size = tuple[int, int]
"""Width and height in pixels, as in Pillow."""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels, as in Pillow: the last two are exclusive."""

Region = tuple[float, float, float, float]
"""The same, but edges may lie between pixels."""

LEFT_ALONE = 2.0
"""Whole pictures keep their size if their area is within this factor of the model's native area."""


@dataclass(frozen=True)
class Frame:
    """A part of a picture, and the size at which a model works on it.

    image: The whole picture's size.
    box: The part.
    size: The part's size once it is resized for the model.
    look: What the whole picture looks like, so that it can be recognised; see `look_of`. "" is not compared.
    """

    image: Size
    box: Box
    size: Size
    look: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        left, upper, right, lower = self.box
        if not (0 <= left < right <= self.image[0] and 0 <= upper < lower <= self.image[1]):
            raise ValueError(
                f"A frame's box must lie inside of its picture, got {self.box} in {shown_size(self.image)} pixels."
            )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Frame:
        """Read a frame from the fields that a file stores; `FRAME_RULE` checks these."""
        image, box, size = (tuple(stored[name]) for name in ("picture", "box", "size"))
        return cls(image, box, size, stored["look"])

    def stored(self) -> dict[str, Any]:
        """The fields that files store, which `read` takes; "picture" is their name for `image`."""
        return {"picture": self.image, "box": self.box, "size": self.size, "look": self.look}

    @property
    def is_whole(self) -> bool:
        """Whether it covers the whole picture."""
        return self.box == (0, 0, *self.image)

    @property
    def is_plain(self) -> bool:
        """Whether the model works on the picture as it is."""
        return self.is_whole and self.size == self.image

    @property
    def box_size(self) -> Size:
        """The part's size in the picture."""
        left, upper, right, lower = self.box
        return right - left, lower - upper

    @property
    def part(self) -> Region:
        """The box in fractions of the picture's sides."""
        (width, height), (left, upper, right, lower) = self.image, self.box
        return left / width, upper / height, right / width, lower / height

    @property
    def share(self) -> float:
        """The part's length as a fraction of the picture's: the square root of their areas' ratio."""
        return math.sqrt(math.prod(self.box_size) / math.prod(self.image))

    @property
    def scale(self) -> float:
        """Pixels of the picture per pixel that the model works on, along a side; the mean of both sides."""
        return math.sqrt(math.prod(self.box_size) / math.prod(self.size))

    def __str__(self) -> str:
        """In words, for users."""
        whole, size = shown_size(self.image), shown_size(self.size)
        if self.is_whole:
            return f"{whole} pixels" if self.is_plain else f"{whole} pixels, processed at {size}"
        left, upper = self.box[:2]
        return f"{shown_size(self.box_size)} pixels at ({left}, {upper}) of {whole}, processed at {size}"


def told_frames(frames: Sequence[Frame] | None) -> str:
    """In sentences for users, on which parts and at which sizes a model worked; "" if on whole pictures as they are."""
    return " ".join(f"The picture: {frame}." for frame in frames or () if not frame.is_plain)


def shown_size(size: Size) -> str:
    """A size as "width x height"."""
    return f"{size[0]} x {size[1]}"


def working_size(part: Size, own: Size, multiple: int, tolerance: float = LEFT_ALONE) -> Size:
    """The size at which a model works on a part of a picture: about its native area, with the part's aspect ratio.

    Parts so elongated that a side would have no pixels are squeezed, but get no larger area for that.

    Args:
        part: The part's size.
        own: The model's native size.
        multiple: What both sides must be multiples of, in pixels.
        tolerance: Parts whose area is within this factor of the model's keep their size, as far as `multiple` allows.
    """
    ratio = math.prod(own) / math.prod(part)
    scale = 1.0 if 1 / tolerance <= ratio <= tolerance else math.sqrt(ratio)
    longest = max(1, math.prod(own) // multiple**2)
    width, height = (multiple * min(longest, max(1, round(side * scale / multiple))) for side in part)
    return width, height


def whole_frame(image: Size, own: Size, multiple: int, size: Size | None = None, look: str = "") -> Frame:
    """A frame of a whole picture, at its `working_size` unless another is given.

    Args:
        image: The picture's size.
        own: The model's native size.
        multiple: What both sides must be multiples of, in pixels.
        size: The size to work at, if chosen.
        look: See [`Frame`].
    """
    return Frame(image, (0, 0, *image), size or working_size(image, own, multiple), look)


def box_around(region: Region, image: Size, shape: Size, context: float, least: float) -> Box:
    """A region's surroundings: a box with the region in its middle, as far as the picture's borders allow.

    Args:
        region: In pixels.
        image: The whole picture's size.
        shape: A size with the aspect ratio that the box has if the picture is large enough.
        context: How many times longer than the region the box is.
        least: Minimum side, in pixels, of a square with the box's area.
    """
    left, upper, right, lower = region
    side = math.sqrt(math.prod(shape))
    stretch = (shape[0] / side, shape[1] / side)
    reach = max(least, context * (right - left) / stretch[0], context * (lower - upper) / stretch[1])
    edges = []
    for first, last, whole, one in zip((left, upper), (right, lower), image, stretch, strict=True):
        length = min(whole, math.ceil(reach * one))
        start = min(max(0, round((first + last - length) / 2)), whole - length)
        edges.append((start, start + length))
    (left_edge, right_edge), (upper_edge, lower_edge) = edges
    return left_edge, upper_edge, right_edge, lower_edge
