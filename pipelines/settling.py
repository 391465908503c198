"""How the arguments settle the area that the model works on: inversions, masks and learned pictures fix it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.frames import Frame, Size, shown_size
from semantic_edit.editing.mask_shapes import MaskInput, mask_to_tensor
from semantic_edit.editing.origins import origins_of
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.checks import common_batch_size
from semantic_edit.pipelines.focusing import focused_view, mask_region
from semantic_edit.pipelines.images import ImageInput
from semantic_edit.pipelines.views import View, check_learned, check_made_of, read_view


def settled_view(
    view: View,
    known: Trajectory | None,
    own_mask: torch.Tensor | None,
    origins: Sequence[Frame | None],
    size: Size | None,
    focus: bool | None,
) -> tuple[View, bool | None]:
    """The view of an inversion, or else of a mask that records its view, or else of the whole pictures.

    Args:
        view: Of the whole pictures.
        known: The inversion.
        own_mask: (edits or 1, 1, any, any).
        origins: The frames that the masks record.
        size, focus: As the caller gave them.

    Returns:
        The view, and the focus that remains to be decided: `False` if the view is settled.

    Raises:
        ValueError: If any of these is of another picture, or contradicts another.
    """
    remembered = [frame for frame in origins if frame is not None]
    if known is not None and known.frames:
        _check_wishes(known.frames, size, focus)
        view = replace(view, frames=known.frames)
        _check_mask("trajectory", own_mask, remembered, view)
        return view, False
    _check_mask("image", own_mask, remembered, view)
    if not view.has_pixels and own_mask is not None:
        held = known.latents if known is not None else view.originals.latents
        check_mask_shape(_size_of(own_mask), (held.shape[-1], held.shape[-2]))  # type: ignore[union-attr]
    if known is not None or not view.has_pixels:
        if focus:
            raise ValueError(
                "`focus=True` cuts a part out of the picture, which needs its pixels and an inversion of that part: "
                "pass pixels as `image`, and no `image_latents`."
            )
        return view, False
    is_free = own_mask is not None and focus is None and size is None
    if is_free and len(remembered) == len(own_mask) and _within(own_mask, remembered):  # type: ignore[arg-type]
        return replace(view, frames=tuple(remembered)), False
    return view, focus


def read_lesson_view(
    denoiser: Denoiser,
    image: ImageInput,
    mask_image: MaskInput | None,
    size: Size | None,
    focus: bool | None,
) -> View:
    """What is learned of pictures: the whole pictures, or the surroundings of masks.

    Args:
        denoiser: The model.
        image, mask_image, focus: As for [`StyleDiffusionPipeline.learn_mapping`].
        size: The size that the model works at, or `None`.

    Raises:
        ValueError, TypeError: If any of these cannot be used, or they do not fit together.
    """
    view = read_view(denoiser, image, size)
    if not view.has_pixels:
        raise ValueError(
            "`image` holds latents, but learning shows the picture to the image encoder; pass the picture itself."
        )
    if mask_image is None:
        if focus:
            raise ValueError("`focus=True` learns the surroundings of `mask_image`; pass a mask too.")
        return view
    mask = mask_to_tensor(mask_image)
    common_batch_size(image=view.batch_size, mask_image=len(mask))
    _check_mask("image", mask, [frame for frame in origins_of(mask_image) if frame is not None], view)
    return view if focus is False else focused_view(denoiser, view, mask, focus, size)


def learned_view(
    denoiser: Denoiser,
    config: Mapping[str, Any],
    image: ImageInput | None,
    own_mask: torch.Tensor | None,
    origins: Sequence[Frame | None],
) -> View:
    """The view that a mapping network was learned from, with the picture if it is given.

    Args:
        denoiser: The model.
        config: The mapping network's.
        image: The picture, or `None`.
        own_mask: (edits or 1, 1, any, any), or `None`.
        origins: The frames that the masks record.

    Raises:
        ValueError: If a picture or a mask does not belong to the learned picture.
    """
    # without a recorded frame, it was learned from a whole picture at its own size
    size = tuple(side * denoiser.cell for side in reversed(config["latent_shape"][1:]))
    frame = Frame(size, (0, 0, *size), size) if config["frame"] is None else Frame.read(config["frame"])
    view = View(frames=(frame,))
    if image is not None:
        given = read_view(denoiser, image)
        check_learned(frame, given)
        view = replace(given, frames=(frame,))
    _check_mask("mapping_network", own_mask, [one for one in origins if one is not None], view)
    return view


def _check_mask(name: str, mask: torch.Tensor | None, remembered: Sequence[Frame], view: View) -> None:
    """Raise a ValueError if a mask, (any number, 1, any, any), is of other pictures, or reaches beyond the view.

    Args:
        name: The argument that the view comes from.
        remembered: The frames that the masks record.
    """
    if mask is None or not view.frames:
        return
    check_made_of("mask_image", remembered, view)
    check_mask_shape(_size_of(mask), view.frames[0].image)  # all pictures have one size
    if not _within(mask, view.frames):
        raise ValueError(
            f"`mask_image` reaches beyond the part that the `{name}` covers ({view.frames[0]}). Keep the mask "
            "inside it."
        )


def check_mask_shape(mask: Size, image: Size) -> None:
    """Raise a ValueError if the aspect ratio of a mask is not the picture's.

    Args:
        mask, image: (width, height) of the mask and of the picture.
    """
    width, height = mask
    ratio = width * image[1] / (height * image[0])
    if max(ratio, 1 / ratio) > 1 + 1.5 / min(*mask, *image):  # sides may have been rounded to whole cells
        raise ValueError(
            f"`mask_image` is {shown_size(mask)} and the picture {shown_size(image)}, which is another "
            "shape: this is no mask of this picture. A mask may have any size in its shape."
        )


def _size_of(mask: torch.Tensor) -> Size:
    """The (width, height) of masks, (any number, 1, any, any)."""
    return mask.shape[-1], mask.shape[-2]


def _check_wishes(frames: Sequence[Frame], size: Size | None, focus: bool | None) -> None:
    """Raise a ValueError if the arguments contradict a trajectory's frames."""
    whole = all(frame.is_whole for frame in frames)
    if focus is not None and focus == whole:
        held = "the whole picture" if whole else "a part of the picture only"
        raise ValueError(
            f"`focus={focus}` does not go with a `trajectory` of {held}; leave one of the two out."
        )
    if size is not None and size != frames[0].size:
        raise ValueError(
            f"The `trajectory` was made at {shown_size(frames[0].size)}, and `width` x `height` is "
            f"{shown_size(size)}; leave one of the two out."
        )


def _within(mask: torch.Tensor, frames: Sequence[Frame]) -> bool:
    """Whether masks of whole pictures, (frames or 1, 1, any, any), are empty outside the frames."""
    for row in range(max(len(mask), len(frames))):
        frame = frames[row % len(frames)]
        region = mask_region(mask[row if len(mask) > 1 else 0, 0], (0, 0, *frame.image))
        left, upper, right, lower = frame.box
        if region is None or frame.is_whole:
            continue
        slack = 1.0  # the edges of cells are floats
        inside = region[0] >= left - slack and region[1] >= upper - slack
        if not inside or region[2] > right + slack or region[3] > lower + slack:
            return False
    return True
