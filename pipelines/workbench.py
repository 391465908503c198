"""One picture that is edited again and again: see where, correct it, edit, and reuse what is known already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from semantic_edit.disk.images import UnreadableImage, decoded_image
from semantic_edit.editing.origins import mask_as_image
from semantic_edit.editing.strokes import BRUSHED, Strokes
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.images import opaque_rgb
from semantic_edit.pipelines.outputs import DiffEditMaskOutput, DiffEditPipelineOutput
from semantic_edit.pipelines.strips import edit_images, heat_over, soft_map

CANVAS = (640, 640)
TINT = (40, 170, 255)
BRUSH = (*TINT, BRUSHED / 255)
"""Red, green and blue to 255, and the opacity to 1."""
MOST_OBLONG = 32
FINDING = ("source_prompt", "mask_threshold")
"""Arguments without effect on a given mask."""


def picture_in(path: Path, most_pixels: int) -> Image.Image:
    """The picture in a file that anyone may have sent, upright, opaque and in 8-bit RGB.

    Args:
        path: The file; errors give its name without its folder.
        most_pixels: A picture of more pixels is refused before it is decoded.

    Raises:
        ValueError: If it has too many pixels, is too narrow for a canvas, cannot be read, or has values of unknown
            range.
    """
    try:
        image = opaque_rgb(decoded_image(path, most_pixels))
    except UnreadableImage as error:
        raise ValueError(f"{path.name} {error}") from None
    if max(image.size) > MOST_OBLONG * min(image.size):
        raise ValueError(
            f"{path.name} has {image.width} x {image.height} pixels, and one side may be at most {MOST_OBLONG} "
            "times as long as the other; crop it first"
        )
    return image


def sent_layer(sent: Mapping[str, Any] | None) -> Image.Image | None:
    """The mask's layer as a browser sends it with a canvas; `None` if it sends none."""
    layers = (sent or {}).get("layers")
    return decoded_image(Path(layers[0]["path"]), CANVAS[0] * CANVAS[1]) if layers else None


@dataclass(frozen=True)
class AskedEdit:
    """What somebody asks for.

    arguments: Of the pipeline, besides images, an inversion and the generator; empty ones are as good as none.
    seed: Of the generator.

    Raises:
        ValueError: If the prompt is empty.
    """

    arguments: Mapping[str, Any]
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.arguments.get("prompt") or "").strip():
            raise ValueError("`prompt`: a few words are needed, got none.")

    def given(self, has_mask: bool) -> dict[str, Any]:
        """The arguments that have an effect, with or without a mask of one's own."""
        idle = FINDING if has_mask else ()
        return {
            name: value
            for name, value in self.arguments.items()
            if value not in (None, "") and name not in idle
        }

    def generator(self) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self.seed)

    @property
    def search(self) -> dict[str, Any]:
        """All that the soft map depends on, besides the picture."""
        return {**self.arguments, "mask_threshold": None, "inpaint_strength": None, "seed": self.seed}

    @property
    def inversion(self) -> tuple[Any, ...]:
        """All that an inversion depends on, besides the picture."""
        return tuple(
            self.arguments.get(name) for name in ("num_inference_steps", "inpaint_strength", "preset")
        )


@dataclass(frozen=True, eq=False)
class WorkbenchEdit:
    """An edit of a picture, with a mask of one's own or not, from an inversion that was known or not."""

    image: Image.Image
    output: DiffEditPipelineOutput
    has_mask: bool
    is_reusing: bool

    def files(self) -> dict[str, Image.Image | bytes]:
        """What one may want to keep, by file name: "picture.png", as it was edited, and whatever came of it."""
        drawn = edit_images(self.image, self.output)
        kept = self.output.trajectory
        inversion = {} if kept is None else {"trajectory.safetensors": kept.to_bytes()}
        return {**{f"{name}.png": one for name, one in drawn.items()}, "picture.png": self.image, **inversion}


@dataclass(eq=False)
class Workbench:
    """A picture, where it will be edited, and its inversions. Another picture needs another workbench.

    image: The picture, upright and in RGB.
    found, asked: Where the prompts disagree, and what had been asked for; `None` before something was found.
    strokes: What was corrected with a brush.
    kept: The inversions, by what they depend on.
    """

    image: Image.Image
    found: DiffEditMaskOutput | DiffEditPipelineOutput | None = None
    asked: AskedEdit | None = None
    strokes: Strokes = field(init=False)
    kept: dict[tuple[Any, ...], Trajectory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clear()

    @property
    def marks(self) -> tuple[Any, ...]:
        """Where it was going to be edited, and why, which one may go back to."""
        return self.found, self.asked, self.strokes

    @marks.setter
    def marks(self, marks: tuple[Any, ...]) -> None:
        self.found, self.asked, self.strokes = marks

    def clear(self) -> None:
        """Remove all strokes."""
        self.strokes = Strokes.none(CANVAS, self.image).over(self.mask())

    def find(self, pipe: Any, asked: AskedEdit) -> DiffEditMaskOutput:
        """Find where the prompts disagree, and remove all strokes.

        Args:
            pipe: The pipeline to find it with.
            asked: What is asked for.
        """
        found = pipe.locate(self.image, generator=asked.generator(), **asked.given(has_mask=False))
        self.found, self.asked = found, asked
        self.clear()
        return found

    def brush(self, layer: Image.Image) -> None:
        """Take note of what was brushed and erased since the canvas was drawn.

        Args:
            layer: The mask's layer as it is now; one of another size than the canvas is left aside.
        """
        if layer.size == CANVAS:
            self.strokes = self.strokes.read(layer.convert("RGBA"))

    def move_threshold(self, threshold: float) -> None:
        """Draw the mask that was found at another threshold, under the same strokes, without the model."""
        if self.found is not None and self.found.contrast is not None:
            self.found = self.found.masks_at(threshold)
            self.strokes = self.strokes.over(self.mask())

    def edit(self, pipe: Any, asked: AskedEdit) -> WorkbenchEdit:
        """Edit what is under the corrected mask, or, without strokes, what is found for these very prompts.

        Args:
            pipe: The pipeline to edit with.
            asked: What is asked for.
        """
        own = self.strokes.corrected(self.mask()) if self.strokes else None
        known = self.reusable(asked)
        given = {**asked.given(own is not None), "mask_image": own, "generator": asked.generator()}
        output = pipe(self.image, trajectory=known, **given)
        if output.trajectory is not None:
            self.kept = {**self.kept, asked.inversion: output.trajectory}
        if own is None:
            self.found, self.asked = output, asked
            self.strokes = self.strokes.over(self.mask())
        return WorkbenchEdit(self.image, output, own is not None, known is not None)

    def mask(self) -> Image.Image:
        """What was found, "L", of the picture's size; black if nothing was."""
        if self.found is None or self.found.pixel_mask is None:
            return Image.new("L", self.image.size)
        return mask_as_image(self.found.pixel_mask[0])

    def reusable(self, asked: AskedEdit) -> Trajectory | None:
        """An inversion that fits: of the whole picture, or of the part that these prompts were found in."""
        kept = self.kept.get(asked.inversion)
        if kept is None or all(frame.is_plain for frame in kept.frames):
            return kept
        is_found = self.found is not None and self.asked is not None and self.asked.search == asked.search
        return kept if is_found and self.found.frames == kept.frames else None  # type: ignore[union-attr]

    def drawn(self, heat: bool) -> tuple[Image.Image, Image.Image]:
        """What a canvas shows: the picture, or the soft map over it; and the mask as a translucent layer.

        Args:
            heat: Whether to show the soft map, if there is one.
        """
        under, found = self.image, self.found
        if heat and found is not None and found.soft_mask is not None and found.frames:
            under = heat_over(under, soft_map(found.soft_mask.cpu(), under.size, found.frames[0].box))
        return self.strokes.centred(under), self.strokes.layer(TINT)
