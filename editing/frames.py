"""What part of a picture a model works at, and at what size: sizes and boxes alone, no pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Size = tuple[int, int]
"""Width and height in pixels, as Pillow has them."""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels, as Pillow has them: the last two lie outside."""

Region = tuple[float, float, float, float]
"""The same where edges may lie between pixels."""

LEFT_ALONE = 2.0
"""How many times the model's own area, or how small a part of it, a whole picture may have that keeps its size."""


@dataclass(frozen=True)
class Frame:
    """A part of a picture, and the size at which a model works at it.

    picture: The whole picture's size.
    box: The part.
    size: That of the part once it is resized for the model.
    look: What the whole picture looks like, by which it is known again; see `look_of`. "" is not compared.
    """

    picture: Size
    box: Box
    size: Size
    look: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        left, upper, right, lower = self.box
        if not (0 <= left < right <= self.picture[0] and 0 <= upper < lower <= self.picture[1]):
            raise ValueError(
                f"A frame's box must lie inside of its picture, got {self.box} in {shown_size(self.picture)} pixels."
            )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Frame:
        """What a file kept by `FRAME_RULE`."""
        parts: dict[str, Any] = {name: tuple(stored[name]) for name in ("picture", "box", "size")}
        return cls(**parts, look=stored["look"])

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cut off."""
        return self.box == (0, 0, *self.picture)

    @property
    def is_plain(self) -> bool:
        """Whether the model works at the picture as it is."""
        return self.is_whole and self.size == self.picture

    @property
    def box_size(self) -> Size:
        """The part's own size."""
        left, upper, right, lower = self.box
        return right - left, lower - upper

    @property
    def part(self) -> Region:
        """The box in parts of the picture's sides."""
        (width, height), (left, upper, right, lower) = self.picture, self.box
        return left / width, upper / height, right / width, lower / height

    @property
    def share(self) -> float:
        """How long the part is, as a part of the picture: the root of what it has of the area."""
        return math.sqrt(math.prod(self.box_size) / math.prod(self.picture))

    @property
    def scale(self) -> float:
        """Pixels of the picture along a side of one that the model works at, the mean of both sides."""
        return math.sqrt(math.prod(self.box_size) / math.prod(self.size))

    def __str__(self) -> str:
        """In words, for people."""
        whole, size = shown_size(self.picture), shown_size(self.size)
        if self.is_whole:
            return f"{whole} pixels" if self.is_plain else f"{whole} pixels, processed at {size}"
        left, upper = self.box[:2]
        return f"{shown_size(self.box_size)} pixels at ({left}, {upper}) of {whole}, processed at {size}"


def shown_size(size: Size) -> str:
    """Width x height."""
    return f"{size[0]} x {size[1]}"


def working_size(part: Size, own: Size, multiple: int, tolerance: float = LEFT_ALONE) -> Size:
    """The size at which a model works at a part of a picture: about its own area, in the part's shape.

    Parts so long that a side would have no pixels are squeezed, and get no more area for it.

    Args:
        part: Of the part.
        own: The model's own.
        multiple: What both sides must divide by, in pixels.
        tolerance: Parts of up to so many times the model's area, or so small a part of it, keep their size as far as
            `multiple` lets them.
    """
    ratio = math.prod(own) / math.prod(part)
    scale = 1.0 if 1 / tolerance <= ratio <= tolerance else math.sqrt(ratio)
    longest = max(1, math.prod(own) // multiple**2)
    width, height = (multiple * min(longest, max(1, round(side * scale / multiple))) for side in part)
    return width, height


def whole_frame(picture: Size, own: Size, multiple: int, size: Size | None = None, look: str = "") -> Frame:
    """All of a picture, at `working_size` unless another one is wanted."""
    return Frame(picture, (0, 0, *picture), size or working_size(picture, own, multiple), look)


def box_around(region: Region, picture: Size, shape: Size, context: float, least: float) -> Box:
    """A region's surroundings: a box that holds it in its middle, as far as the picture's borders let it.

    Args:
        region: In pixels.
        picture: The whole picture's size.
        shape: A size of the shape that the box has where the picture is large enough.
        context: How many times longer than the region the box is.
        least: Pixels, at least, along a side of a square of the box's area.
    """
    left, upper, right, lower = region
    side = math.sqrt(math.prod(shape))
    stretch = (shape[0] / side, shape[1] / side)
    reach = max(least, context * (right - left) / stretch[0], context * (lower - upper) / stretch[1])
    edges = []
    for first, last, whole, one in zip((left, upper), (right, lower), picture, stretch, strict=True):
        length = min(whole, math.ceil(reach * one))
        start = min(max(0, round((first + last - length) / 2)), whole - length)
        edges.append((start, start + length))
    (left_edge, right_edge), (upper_edge, lower_edge) = edges
    return left_edge, upper_edge, right_edge, lower_edge
