"""The area of a call's pictures that a model works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.frames import Frame, Size, shown_size, whole_frame
from semantic_edit.editing.mask_shapes import MaskShape, resize_mask, shape_mask
from semantic_edit.editing.stitching import cut_out, look_of, looks_like
from semantic_edit.pipelines.images import ImageInput, Images, read_images
from semantic_edit.pipelines.ranges import plain_numbers

FADING = 8
"""Pixels, as the model sees them, over which a mask fades out towards a frame's edge: the model sees nothing beyond."""


@dataclass(frozen=True, eq=False)
class View:
    """Images, and the area of them that a model works on.

    originals: The pictures as they were given; none if only an inversion is known.
    frames: One for each picture or each edit, all of one working size; () if no pixels are known.
    """

    originals: Images = field(default_factory=Images)
    frames: tuple[Frame, ...] = ()

    @property
    def has_pixels(self) -> bool:
        """Whether the pictures are known in pixels, not only as latents."""
        return self.originals.planes is not None

    @property
    def is_plain(self) -> bool:
        """Whether the model works on all pictures as they are."""
        return not self.has_pixels or all(frame.is_plain for frame in self.frames)

    @property
    def batch_size(self) -> int:
        """The number of pictures."""
        return self.originals.batch_size

    @property
    def rows(self) -> int:
        """The number of frames, or of pictures if there are more of these."""
        return max(len(self.frames), self.batch_size)

    def frame(self, edit: int) -> Frame:
        """The frame of an edit."""
        return self.frames[edit if len(self.frames) > 1 else 0]

    def original(self, edit: int) -> torch.Tensor:
        """An edit's picture, (3, height, width), in 8 bits or floats in [0, 1]."""
        planes = self.originals.planes
        assert planes is not None  # never called without pixels
        return planes[edit if len(planes) > 1 else 0]

    @cached_property
    def images(self) -> Images:
        """What the model receives: the frames, cut out and resized; or the latents, if that is what was given."""
        if not self.has_pixels:
            return self.originals
        cut = [cut_out(self.original(row), self.frame(row)) for row in range(self.rows)]
        return Images(planes=torch.cat(cut))

    def cut_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """The parts of masks of the whole pictures, (edits or 1, 1, any, any), that lie in the frames."""
        if all(frame.is_whole for frame in self.frames):
            return mask
        width, height = self.frames[0].size
        rows = range(max(len(mask), len(self.frames)))
        return torch.cat([resize_mask(_part(mask, row, self.frame(row)), height, width) for row in rows])

    def whole_mask(
        self, cut: torch.Tensor, own: torch.Tensor | None = None, shape: MaskShape | None = None
    ) -> torch.Tensor:
        """The mask over the whole pictures, (edits, 1, height, width) in [0, 1], and 0 outside the frames.

        Args:
            cut: The part that lies in the frames, at their size, (edits, 1, height, width).
            own: The caller's mask that it comes from, (edits or 1, 1, any, any), if there is one: its outline may be
                finer than the frames can resolve.
            shape: How `own` was grown and feathered, in pixels of the frames.
        """
        if self.is_plain:
            return cut
        width, height = self.frames[0].image
        if own is None and all(frame.is_whole for frame in self.frames):
            return F.interpolate(cut, size=(height, width), mode="bilinear", antialias=True).clamp_(0, 1)
        whole = cut.new_zeros(len(cut), 1, height, width)
        for row, inside in enumerate(cut.split(1)):
            frame = self.frame(row)
            left, upper, right, lower = frame.box
            columns, rows = frame.box_size
            if own is None:
                part = F.interpolate(inside, size=(rows, columns), mode="bilinear", antialias=True).clamp(
                    0, 1
                )
            else:
                done = shape or MaskShape()
                at_scale = replace(
                    done, grow=round(done.grow * frame.scale), feather=done.feather * frame.scale
                )
                part = shape_mask(_part(own, row, frame).to(cut), rows, columns, at_scale)
            whole[row, :, upper:lower, left:right] = part[0] * _fading(frame).to(part)
        return whole


def _fading(frame: Frame) -> torch.Tensor:
    """1 inside a frame's box, falling to 0 at those edges that cut through the picture, (height, width)."""
    left, upper, right, lower = frame.box
    reach = max(1, round(FADING * frame.scale))
    sides = []
    for first, last, whole in ((upper, lower, frame.image[1]), (left, right, frame.image[0])):
        places = torch.arange(last - first) + 0.5
        before = places / reach if first > 0 else torch.ones_like(places)
        behind = (last - first - places) / reach if last < whole else torch.ones_like(places)
        sides.append(torch.minimum(before, behind).clamp(0, 1))
    return sides[0][:, None] * sides[1]


def read_size(height: Any, width: Any, multiple: int) -> Size | None:
    """The size that a caller wants the model to work at, or `None`.

    Args:
        height, width: As given.
        multiple: What both must be multiples of.

    Raises:
        ValueError: If only one of the two is given, or either is not such a multiple.
    """
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise ValueError(f"Pass both `height` and `width`, or neither, got {height!r} and {width!r}.")
    height, width = plain_numbers(height=height, width=width)
    if height % multiple or width % multiple:
        nearest = [max(1, round(side / multiple)) * multiple for side in (width, height)]
        raise ValueError(
            f"`width` x `height` is {width} x {height}, but the model takes only multiples of {multiple} on both "
            f"sides. The nearest are {nearest[0]} x {nearest[1]}."
        )
    return width, height


def read_view(denoiser: Denoiser, image: ImageInput | None, size: Size | None = None) -> View:
    """Read pictures of any size, for a model that works on them whole.

    Args:
        denoiser: The model.
        image: The pictures.
        size: The size to work at; `working_size` by default.

    Raises:
        ValueError, TypeError: If there is no picture, or it cannot be read.
    """
    if image is None:
        raise ValueError("`image` is missing; pass the picture that is to be edited.")
    images = read_images(image, latent_channels=denoiser.latent_channels)
    if images.planes is None:
        if size is not None:
            raise ValueError("`image` holds latents, which keep their size; leave out `height` and `width`.")
        return View(images)
    own, multiple = denoiser.own_size, denoiser.multiple
    return View(
        images,
        tuple(
            whole_frame((planes.shape[2], planes.shape[1]), own, multiple, size, look_of(planes))
            for planes in images.planes
        ),
    )


def check_made_of(name: str, frames: Sequence[Frame], view: View) -> None:
    """Raise if something was made from other pictures than those of a view.

    Args:
        name: The argument that the frames come from.
        frames: What it was made from.
        view: Of the call's pictures.

    Raises:
        ValueError: Saying how they differ.
    """
    for row in range(max(len(frames), len(view.frames)) if frames else 0):
        made_of = frames[row if len(frames) > 1 else 0]
        if reason := _difference(made_of, view.frame(row)):
            raise ValueError(
                f"The `{name}` is of another picture than `image`: {reason}. Pass the picture that it was made from, "
                "or leave out one of the two."
            )


def check_learned(frame: Frame, view: View) -> None:
    """Raise unless the picture is the one that was learned.

    Args:
        frame: What was learned.
        view: Of the call's pictures.

    Raises:
        ValueError: Saying how they differ.
    """
    if not view.has_pixels or view.batch_size != 1:
        reason = "pass only that one, and not as latents"
    else:
        reason = _difference(frame, view.frames[0])
    if reason:
        raise ValueError(
            f"`image` must be the learned picture, {shown_size(frame.image)} pixels (width x height): {reason}."
        )


def _difference(made_of: Frame, here: Frame) -> str:
    """Why two frames must be of different pictures, or "" if they may be of the same one."""
    if made_of.image != here.image:
        return f"that one has {shown_size(made_of.image)} pixels, this one {shown_size(here.image)}"
    if looks_like(made_of.look, here.look, made_of.part):
        return ""
    return "they are of one size and look different, if only in a small place"


def _part(mask: torch.Tensor, row: int, frame: Frame) -> torch.Tensor:
    """The part of one of the masks of whole pictures that lies in a frame's box, (1, 1, height, width)."""
    left, upper, right, lower = frame.box
    whole = resize_mask(mask[row : row + 1] if len(mask) > 1 else mask, *frame.image[::-1])
    return whole[..., upper:lower, left:right]
