"""What Pillow's images carry besides their pixels: orientation, colour profile and frames."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

from semantic_edit.disk.telling import warn_caller

SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
PROFILED_MODES = {
    "RGB": "RGB",
    "GRAY": "L",
    "CMYK": "CMYK",
}  # the mode in which each kind of profile is applied
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    SyntaxError,
    EOFError,
    PIL.ImageCms.PyCMSError,
)
"""What Pillow raises for damaged or closed files and for damaged metadata."""


def upright(name: str, image: PIL.Image.Image) -> PIL.Image.Image:
    """Load an image's pixels, rotated as its EXIF tag says.

    Args:
        name: The caller's argument.
        image: The image.

    Raises:
        ValueError: If the pixels cannot be loaded.
    """
    try:
        image.load()
        frames = getattr(image, "n_frames", 1)
    except UNREADABLE as error:
        raise ValueError(
            f"`{name}` cannot be read ({error}): its file is damaged, cut short or closed. Open it anew, and keep it "
            "open until its pixels are loaded."
        ) from error
    if frames > 1:
        taken = image.tell() + 1
        warn_caller(f"`{name}` holds {frames} frames, of which only number {taken} is taken.")
    try:
        return PIL.ImageOps.exif_transpose(image)
    except UNREADABLE:
        warn_caller(f"`{name}` has EXIF data that cannot be read; it is not turned by them.")
        return image


def in_srgb(name: str, image: PIL.Image.Image) -> PIL.Image.Image:
    """Convert an image's colours to sRGB, which models and screens expect; unchanged if they are already.

    Args:
        name: The caller's argument.
        image: The image.
    """
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = PROFILED_MODES[source.profile.xcolor_space.strip()]
        transform = PIL.ImageCms.buildTransform(source, PIL.ImageCms.createProfile("sRGB"), mode, "RGB")
        colours = _colours(image, mode)
    except UNREADABLE:
        warn_caller(
            f"`{name}` has a colour profile that cannot be read or is of other colours than its own; it is left out."
        )
        return image
    if _changes_nothing(transform, mode):
        return image
    changed = PIL.ImageCms.applyTransform(colours, transform)
    assert changed is not None  # only in-place transforms return None
    if image.has_transparency_data:
        changed.putalpha(image.convert("RGBA").getchannel("A"))
    return changed


def _colours(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    """An image's colours, without transparency, in the mode of its profile.

    Raises:
        ValueError: If the profile is of another kind of colours.
    """
    own = {"CMYK": "CMYK", "1": "L", "L": "L", "LA": "L", "La": "L"}.get(image.mode, "RGB")
    if image.mode in SIXTEEN_BIT_MODES or (own != mode and (own, mode) != ("L", "RGB")):
        raise ValueError(f"a profile of {mode} for a picture of {image.mode}")
    if image.has_transparency_data:
        image = image.convert("RGBA")  # converting some modes directly would lay them over black
        image = PIL.Image.merge("RGB", image.split()[:3])
    return image if image.mode == mode else image.convert(mode)


def _changes_nothing(transform: PIL.ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a profile is sRGB itself, up to rounding: such images keep their bits."""
    if mode == "CMYK":
        return False
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    ramp = np.stack(np.meshgrid(*[levels] * (3 if mode == "RGB" else 1), indexing="ij"), axis=-1)
    ramp = ramp.reshape(1, -1, ramp.shape[-1])
    tried = PIL.Image.fromarray(ramp if mode == "RGB" else ramp[..., 0])
    changed = PIL.ImageCms.applyTransform(tried, transform)
    assert changed is not None
    return int(np.abs(np.asarray(changed).astype(int) - ramp).max()) <= 2
