"""A mask corrected with a brush: drawn over a picture as a translucent layer, and read back from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image, ImageChops

OPAQUE = 150
"""The opacity of a fully white mask, of 255."""

ROUNDING = 30
"""Differences in opacity up to this are not strokes: browsers round colours under a low opacity."""


@dataclass(frozen=True, eq=False)
class Strokes:
    """What a brush added to a mask and took away from it, as seen on a canvas; all "L", of the canvas's size.

    shown: The mask as the canvas showed it last.
    """

    shown: Image.Image
    added: Image.Image
    removed: Image.Image

    @classmethod
    def none(cls, size: tuple[int, int]) -> Strokes:
        """No strokes, on a canvas that shows no mask."""
        empty = Image.new("L", size)
        return cls(empty, empty, empty)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.added.getbbox() is not None or self.removed.getbbox() is not None

    def over(self, mask: Image.Image) -> Strokes:
        """The same strokes after another mask has been drawn, which the canvas is to show with them."""
        return replace(self, shown=self.corrected(mask.resize(self.shown.size)))

    def read(self, layer: Image.Image) -> Strokes:
        """These strokes and those that a canvas's layer, with opacity, has beyond the shown mask."""
        if layer.size != self.shown.size:
            return self
        now, before = layer.getchannel("A"), _opacity(self.shown)
        brushed, erased = _beyond(now, before), _beyond(before, now)
        return Strokes(
            shown=ImageChops.subtract(ImageChops.lighter(self.shown, brushed), erased),
            added=ImageChops.lighter(ImageChops.subtract(self.added, erased), brushed),
            removed=ImageChops.lighter(ImageChops.subtract(self.removed, brushed), erased),
        )

    def corrected(self, mask: Image.Image) -> Image.Image:
        """A mask of any size, "L", with what was added and without what was taken away."""
        added, removed = (one.resize(mask.size) for one in (self.added, self.removed))
        return ImageChops.subtract(ImageChops.lighter(mask, added), removed)

    def layer(self, colour: tuple[int, int, int]) -> Image.Image:
        """The shown mask as a translucent layer of one colour."""
        drawn = Image.new("RGBA", self.shown.size, (*colour, 0))
        drawn.putalpha(_opacity(self.shown))
        return drawn


def _opacity(mask: Image.Image) -> Image.Image:
    return mask.point(lambda value: value * OPAQUE // 255)


def _beyond(more: Image.Image, less: Image.Image) -> Image.Image:
    return ImageChops.subtract(more, less).point(lambda value: 255 if value > ROUNDING else 0)
