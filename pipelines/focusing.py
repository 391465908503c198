"""Looking closer: where a mask is a small part of a picture, the model works at the mask's surroundings alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.frames import Box, Frame, Region, Size, box_around, working_size
from semantic_edit.editing.stitching import extent
from semantic_edit.pipelines.views import View

CONTEXT = 2.2
"""How many times longer than the mask its surroundings are: what stands in a picture as its subject usually does."""

CLOSER = 0.5
"""How long surroundings may be, as a part of the picture, that are looked at unasked: larger ones cut things apart."""

STEP = 0.7
"""How long they may be, as a part of what is seen before them: less is gained by another look."""

SMALLEST = 0.25
"""How long surroundings must be that are asked for, as a part of the model's own size; unasked, nothing is enlarged."""

FAINT = 0.02
"""What is no more of a mask than the noise that JPEG leaves in one."""


def mask_region(mask: torch.Tensor, box: Box, margin: float = 0.0) -> Region | None:
    """What a mask of a part of a picture shows, in pixels of the picture; `None` if nothing.

    Args:
        mask: (any, any).
        box: The part.
        margin: Pixels to add on each side.
    """
    seen = mask > FAINT
    if not seen.any():
        return None
    edges = []
    for dim, start, end in ((0, box[0], box[2]), (1, box[1], box[3])):
        marked = extent(seen.any(dim))
        cell = (end - start) / seen.shape[1 - dim]
        edges.append((start + marked.start * cell - margin, start + marked.stop * cell + margin))
    (left, right), (upper, lower) = edges
    return left, upper, right, lower


def focused_view(
    denoiser: Denoiser,
    view: View,
    mask: torch.Tensor,
    focus: bool | None,
    size: Size | None = None,
    margin: float = 0.0,
) -> View:
    """`closer_view` of what masks of the whole pictures, (edits or 1, 1, any, any), show with a margin of pixels."""
    regions = [
        mask_region(mask[row if len(mask) > 1 else 0, 0], (0, 0, *view.frame(row).picture), margin)
        for row in range(max(len(mask), len(view.frames)))
    ]
    return unless_large(closer_view(denoiser, view, regions, focus, size), view, focus)


def unless_large(closer: View, view: View, focus: bool | None) -> View:
    """A closer view, or the view before it where nobody asked and what is seen is no small part of the picture."""
    is_large = any(frame.share > CLOSER for frame in closer.frames)
    return view if focus is None and is_large else closer


def closer_view(
    denoiser: Denoiser,
    view: View,
    regions: Sequence[Region | None],
    focus: bool | None,
    size: Size | None = None,
    context: float = CONTEXT,
) -> View:
    """The view of some regions' surroundings, or the view as it is where they are no small part of it.

    Args:
        regions: One for each frame, or for each edit; `None` where nothing is edited.
        focus: `True` whatever the regions' sizes, `None` where all surroundings are small, or of one shape.
        size: That the model works at; its own by default.
        context: How many times longer than the regions their surroundings are.

    Raises:
        ValueError: If `focus` asks for surroundings that cannot be worked at side by side.
    """
    closer = {
        row: _closer_frame(denoiser, view.frame(row), region, focus, size, context)
        for row, region in enumerate(regions)
        if region is not None
    }
    if not closer:
        return view
    anyone = next(iter(closer.values()))  # will do where nothing is edited
    frames = [closer.get(row, anyone) for row in range(len(regions))]
    if len({frame.size for frame in frames}) == 1:
        return replace(view, frames=tuple(frames[:1] if len(set(frames)) == 1 else frames))
    if focus:
        raise ValueError(
            "`focus=True` cannot work at these edits side by side: what surrounds their masks is of different shapes, "
            "since the picture is long and narrow. Edit one by one."
        )
    return view


def _closer_frame(
    denoiser: Denoiser, frame: Frame, region: Region, focus: bool | None, size: Size | None, context: float
) -> Frame:
    own, multiple = denoiser.own_size, denoiser.multiple
    least = math.sqrt(math.prod(own)) * (SMALLEST if focus else 1)
    closer = replace(frame, box=box_around(region, frame.picture, size or own, context, least))
    if not focus and closer.share > STEP * frame.share:
        return frame
    return replace(closer, size=size or working_size(closer.box_size, own, multiple, tolerance=1))
