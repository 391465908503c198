"""Several captioned images in one: what an edit did, or where the model attends to words; and maps as images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

from semantic_edit.editing.origins import mask_as_image

if TYPE_CHECKING:
    import torch

    from semantic_edit.pipelines.outputs import DiffEditPipelineOutput

PANELS_IN_A_ROW = 6
PANEL_HEIGHT = 256
HIGHEST_PANEL = 512
GAP = 8
CAPTION_HEIGHT = 24
LINE_HEIGHT = 18


def edit_images(image: Image.Image, output: DiffEditPipelineOutput) -> dict[str, Image.Image]:
    """What there is to see of an edit of one image: "edited", "mask" and "strip".

    Args:
        image: The image that was edited, upright.
        output: The edit, with an image in pixels.
    """
    assert output.pixel_mask is not None  # as the image was given in pixels
    assert output.frames is not None
    (edited,), frame = output.images, output.frames[0]
    mask = mask_as_image(output.pixel_mask[0], frame)
    overview = edit_strip(image, edited, mask, output.soft_mask, frame.box)
    return {"edited": edited, "mask": mask, "strip": overview}


def edit_strip(
    before: Image.Image,
    after: Image.Image,
    mask: Image.Image,
    soft_mask: torch.Tensor | None,
    box: tuple[int, int, int, int],
) -> Image.Image:
    """Draw one edit: before | soft map | mask | after.

    Args:
        before, after, mask: Upright images of one size.
        soft_mask: (batch, 1, height, width) in [0, 1], of which the first is drawn; `None` if the mask was given.
        box: The part of the image that the soft map covers.
    """
    panels = [("before", before)]
    if soft_mask is not None:
        panels.append(("soft map", soft_map(soft_mask, before.size, box)))
    return strip([*panels, ("mask", mask), ("after", after)])


def soft_map(soft_mask: torch.Tensor, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """The first of some soft maps as a greyscale image of a whole picture's size.

    Args:
        soft_mask: (batch, 1, height, width) in [0, 1].
        size: The picture's (width, height).
        box: The part of the picture that the map covers.
    """
    part = (box[2] - box[0], box[3] - box[1])
    heat = Image.new("L", size)
    heat.paste(mask_as_image(soft_mask[0]).resize(part, Image.Resampling.BICUBIC), box)
    return heat


def word_strip(image: Image.Image, prompt: str, heats: Mapping[str, Image.Image]) -> Image.Image:
    """Draw where the model looks for each word of a prompt: the image | a heat map of each word.

    Args:
        image: What the prompt describes.
        prompt: The words.
        heats: For each word, a greyscale image of the image's size.
    """
    panels = [(prompt, image), *((word, heat_over(image, heat)) for word, heat in heats.items())]
    return strip(panels, PANELS_IN_A_ROW)


def heat_over(image: Image.Image, heat: Image.Image) -> Image.Image:
    """An image in grey under a heat map of its size, which goes from black over red to yellow."""
    colours = ImageOps.colorize(heat.convert("L"), black="#000018", mid="#c82040", white="#fff060")
    return Image.blend(image.convert("L").convert("RGB"), colours, 0.6)


def strip(panels: Sequence[tuple[str, Image.Image]], columns: int | None = None) -> Image.Image:
    """Place captioned images side by side on white, enlarging small ones to `PANEL_HEIGHT` and shrinking large ones.

    Args:
        panels: Captions and images; captions wider than their image are broken into lines.
        columns: Images in a row; by default there is one row.
    """
    height = min(HIGHEST_PANEL, max(PANEL_HEIGHT, *(image.height for _, image in panels)))
    scaled = [(caption, _at_height(image.convert("RGB"), height)) for caption, image in panels]
    columns = columns or len(scaled)
    rows = [_row(scaled[start : start + columns]) for start in range(0, len(scaled), columns)]
    canvas = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height
    return canvas


def _row(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Captioned images of one height side by side."""
    times = max(1, round(panels[0][1].height / PANEL_HEIGHT))
    font = ImageFont.load_default(size=15 * times)
    captions = [_broken(caption, image.width, font) for caption, image in panels]
    caption_height = times * (CAPTION_HEIGHT + LINE_HEIGHT * max(caption.count("\n") for caption in captions))
    width = sum(image.width for _, image in panels) + GAP * (len(panels) + 1)
    canvas = Image.new("RGB", (width, caption_height + panels[0][1].height + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    left = GAP
    for caption, (_, image) in zip(captions, panels, strict=True):
        middle = (left + image.width // 2, caption_height // 2)
        draw.text(middle, caption, "black", font, anchor="mm", align="center")
        canvas.paste(image, (left, caption_height))
        left += image.width + GAP
    return canvas


def _broken(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Break `text` into lines of at most `width` pixels, as far as its words allow."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _at_height(image: Image.Image, height: int) -> Image.Image:
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.BICUBIC)
