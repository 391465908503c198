"""What part of a picture a model works at, and at what size: sizes and boxes alone, no pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Size = tuple[int, int]
"""Width and height in pixels, as Pillow has them."""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels, as Pillow has them: the last two lie outside."""

ROOM = 2.0
"""How many times larger or smaller than the model's own area a picture may be that is left at its size."""


@dataclass(frozen=True)
class Frame:
    """A part of a picture, and the size at which a model works at it.

    picture: The whole picture's size.
    box: The part.
    size: That of the part once it is resized for the model.
    look: `look_of` the whole picture, by which it is known again; "" is not compared.
    """

    picture: Size
    box: Box
    size: Size
    look: str = ""

    def __post_init__(self) -> None:
        numbers = (*self.picture, *self.box, *self.size)
        left, upper, right, lower = self.box
        inside = 0 <= left < right <= self.picture[0] and 0 <= upper < lower <= self.picture[1]
        if not all(isinstance(one, int) for one in numbers) or not inside or min(self.size) < 1:
            raise ValueError(
                f"A frame needs a box inside of its picture and a size in whole pixels, got the box {self.box} of "
                f"{shown_size(self.picture)} pixels at {shown_size(self.size)}."
            )

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Frame:
        """What `dataclasses.asdict` made of a frame, which a file may have kept as lists."""
        parts = {name: tuple(stored[name]) for name in ("picture", "box", "size")}
        return cls(**parts, look=str(stored.get("look", "")))  # type: ignore[arg-type]

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
    def scale(self) -> float:
        """Pixels of the picture along a side of one that the model works at, the mean of both sides."""
        return math.sqrt(math.prod(self.box_size) / math.prod(self.size))

    def __str__(self) -> str:
        """In words, for people."""
        part = f"{shown_size(self.picture)} pixels"
        if not self.is_whole:
            left, upper = self.box[:2]
            part = f"{shown_size(self.box_size)} pixels at ({left}, {upper}) of {shown_size(self.picture)}"
        return part if self.size == self.box_size else f"{part}, worked at as {shown_size(self.size)}"


def shown_size(size: Size) -> str:
    """Width x height."""
    return f"{size[0]} x {size[1]}"


def working_size(part: Size, own: Size, multiple: int) -> Size:
    """The size at which a model works at a part of a picture: about its own area, in the part's shape.

    A part whose area is within `ROOM` times the model's, either way, keeps its size but for rounding. Parts so long
    that a side would have no pixels are squeezed rather than given more area.

    Args:
        part: Of the part.
        own: The model's own.
        multiple: What both sides must divide by, in pixels.
    """
    area = math.prod(own)
    ratio = area / math.prod(part)
    scale = 1.0 if 1 / ROOM <= ratio <= ROOM else math.sqrt(ratio)
    most = max(multiple, area // multiple // multiple * multiple)
    width, height = (min(most, max(1, round(side * scale / multiple)) * multiple) for side in part)
    return width, height


def whole_frame(picture: Size, own: Size, multiple: int, size: Size | None = None, look: str = "") -> Frame:
    """All of a picture, at `working_size` unless another one is asked for."""
    return Frame(picture, (0, 0, *picture), size or working_size(picture, own, multiple), look)


def box_around(region: tuple[float, float, float, float], picture: Size, shape: Size, context: float, least: float) -> Box:
    """The box around a region, with its surroundings.

    Args:
        region: Left, upper, right and lower edge in pixels; may end between them.
        shape: A size whose shape the box has, as far as the picture is large enough.
        context: Times the region's longer side, measured in `shape`, that the box is long.
        least: Pixels, at least, along a side of the square of the box's area.

    Returns:
        A box inside of the picture that holds the region.
    """
    left, upper, right, lower = region
    unit = math.sqrt(math.prod(shape))
    across, down = shape[0] / unit, shape[1] / unit
    side = max(least, context * max((right - left) / across, (lower - upper) / down))
    # where the picture is too short on one side, the other may be as long as the region wants, and no longer
    width = min(picture[0], max(math.ceil(side * across), math.ceil(right) - math.floor(left)))
    height = min(picture[1], max(math.ceil(side * down), math.ceil(lower) - math.floor(upper)))
    x = min(max(0, round((left + right - width) / 2)), picture[0] - width)
    y = min(max(0, round((upper + lower - height) / 2)), picture[1] - height)
    return x, y, x + width, y + height
