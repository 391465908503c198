"""A mask corrected with a brush: shown on a canvas as a translucent layer over a picture, and read back from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image, ImageChops, ImageOps

OPAQUE = 150
"""The opacity of a fully white mask, of 255."""

BRUSHED = 217
"""The opacity of what a brush draws: more than that of any mask, so that a stroke across a mask is seen as one."""

ROUNDING = 30
"""Differences in opacity up to this are not strokes: browsers round colours under a low opacity."""


@dataclass(frozen=True, eq=False)
class Strokes:
    """What a brush added to a mask and took away from it; all images "L", of the picture's size on the canvas.

    canvas: The canvas's (width, height); the picture fills it as far as its aspect ratio allows, and is centred.
    shown: The mask as the canvas showed it last.
    """

    canvas: tuple[int, int]
    shown: Image.Image
    added: Image.Image
    removed: Image.Image

    @classmethod
    def none(cls, canvas: tuple[int, int], picture: Image.Image | None = None) -> Strokes:
        """No strokes, on a canvas that shows no mask; without a picture it has the canvas's size."""
        blank = Image.new("L", canvas if picture is None else picture.size)
        empty = Image.new("L", ImageOps.contain(blank, canvas).size)
        return cls(canvas, empty, empty, empty)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.added.getbbox() is not None or self.removed.getbbox() is not None

    def over(self, mask: Image.Image) -> Strokes:
        """The same strokes over another mask, of any size, which the canvas is to show with them."""
        return replace(self, shown=self.corrected(mask.resize(self.shown.size)))

    def corrected(self, mask: Image.Image) -> Image.Image:
        """A mask of any size, "L", with what was added and without what was taken away."""
        added, removed = (one.resize(mask.size) for one in (self.added, self.removed))
        return ImageChops.subtract(ImageChops.lighter(mask, added), removed)

    def layer(self, colour: tuple[int, int, int]) -> Image.Image:
        """The shown mask as a translucent layer of one colour, "RGBA", of the canvas's size."""
        drawn = Image.new("RGBA", self.shown.size, (*colour, 0))
        drawn.putalpha(_opacity(self.shown))
        return self.centred(drawn)

    def centred(self, picture: Image.Image) -> Image.Image:
        """A picture on the canvas, "RGBA"."""
        return ImageOps.pad(picture.convert("RGBA"), self.canvas, color=(0, 0, 0, 0))

    def read(self, layer: Image.Image) -> Strokes:
        """These strokes and those that the canvas's layer, "RGBA", has beyond the shown mask."""
        width, height = self.shown.size
        left, top = (self.canvas[0] - width) // 2, (self.canvas[1] - height) // 2
        now = layer.getchannel("A").crop((left, top, left + width, top + height))
        before = _opacity(self.shown)
        brushed, erased = _beyond(now, before), _beyond(before, now)
        return Strokes(
            self.canvas,
            shown=ImageChops.subtract(ImageChops.lighter(self.shown, brushed), erased),
            added=ImageChops.lighter(ImageChops.subtract(self.added, erased), brushed),
            removed=ImageChops.lighter(ImageChops.subtract(self.removed, brushed), erased),
        )


def _opacity(mask: Image.Image) -> Image.Image:
    return mask.point(lambda value: value * OPAQUE // 255)


def _beyond(more: Image.Image, less: Image.Image) -> Image.Image:
    return ImageChops.subtract(more, less).point(lambda value: 255 if value > ROUNDING else 0)
