"""Focus: if a mask is a small part of a picture, the model works only on the mask's surroundings."""

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
"""How many times longer than the mask its surroundings are: an object then fills the crop as subjects usually do."""

CLOSER = 0.5
"""Largest length of automatic surroundings, as a fraction of the picture: larger ones would cut objects apart."""

STEP = 0.7
"""Largest length as a fraction of the area seen before: above it, another look gains too little."""

SMALLEST = 0.25
"""Least length, as a fraction of the model's native size, if focus is requested; automatic focus never enlarges."""

FAINT = 0.02
"""Mask values up to this are ignored, like the noise that JPEG leaves in a mask."""


def mask_region(mask: torch.Tensor, box: Box, margin: float = 0.0) -> Region | None:
    """The bounding box of the non-zero part of a mask, in pixels of the picture; `None` if the mask is empty.

    Args:
        mask: (any, any), covering `box`.
        box: The part of the picture.
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
    """`closer_view` of the regions that masks of the whole pictures cover.

    Args:
        denoiser: The model.
        view: The view so far.
        mask: (edits or 1, 1, any, any).
        focus: As for the pipeline.
        size: The size that the model works at; chosen by default.
        margin: Pixels to add around the regions.
    """
    regions = [
        mask_region(mask[row if len(mask) > 1 else 0, 0], (0, 0, *view.frame(row).image), margin)
        for row in range(max(len(mask), len(view.frames)))
    ]
    return unless_large(closer_view(denoiser, view, regions, focus, size), view, focus)


def unless_large(closer: View, view: View, focus: bool | None) -> View:
    """A closer view; or the previous one, if focus is automatic and the closer one shows much of the picture."""
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
    """The view of some regions' surroundings, or `view` itself if they are not much smaller than it.

    Args:
        denoiser: The model.
        view: The view so far.
        regions: One for each frame or each edit; `None` where nothing is edited.
        focus: `True` to focus whatever the regions' sizes; `None` to do so only if all surroundings are small and have
            one aspect ratio.
        size: The size that the model works at; chosen by default.
        context: How many times longer than the regions their surroundings are.

    Raises:
        ValueError: If `focus` is `True` and the surroundings cannot be worked on in one batch.
    """
    closer = {
        row: _closer_frame(denoiser, view.frame(row), region, focus, size, context)
        for row, region in enumerate(regions)
        if region is not None
    }
    if not closer:
        return view
    anyone = next(iter(closer.values()))  # any frame will do where nothing is edited
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
    closer = replace(frame, box=box_around(region, frame.image, size or own, context, least))
    if not focus and closer.share > STEP * frame.share:
        return frame
    return replace(closer, size=size or working_size(closer.box_size, own, multiple, tolerance=1))
