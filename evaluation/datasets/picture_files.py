"""Pictures and masks in a dataset's folder: found, looked at without decoding, and read when they are wanted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from semantic_edit.evaluation.datasets.items import RowError

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # values of it under which width and height change places


def path_inside(name: str, *folders: Path) -> Path:
    """The file that a row names, in the first of some folders that has it.

    Links are followed wherever they lead: they are the folder's owner's, not the row's.

    Raises:
        RowError: If it could lie outside of the folders, on any system; or if there is no such file.
    """
    named = PureWindowsPath(name)  # reads either slash, and drives
    if named.anchor or ".." in named.parts:
        raise RowError(f"{name!r} must lie in the dataset's folder: no absolute path and no '..'")
    for folder in folders:
        if os.path.isfile(folder / name):  # Path.is_file raises for names too long for the system
            return folder / name
    raise RowError(f"there is no file {name!r} in {' or '.join(repr(str(folder)) for folder in folders)}")


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture as it stands upright, from its header: nothing is decoded.

    Raises:
        RowError: If it is no picture, or has more pixels than Pillow takes for honest.
    """
    with _opened(path) as picture:
        width, height = picture.size
        # asking a PNG that has no such block before its pixels would decode them
        turned = "exif" in picture.info and picture.getexif().get(_ORIENTATION) in _SIDEWAYS
    return (height, width) if turned else (width, height)


def load_picture(path: Path) -> Image.Image:
    """A picture in RGB: upright, transparency laid over white, 16 bits of grey scaled to 8.

    Raises:
        RowError: If it is damaged, or of a mode whose range of values is not known.
    """
    with _opened(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I;16"):
            picture = Image.fromarray(np.round(np.asarray(picture) / 257).astype(np.uint8))
        _check_mode(picture, path)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return picture.convert("RGB")


def load_mask(path: Path) -> np.ndarray:
    """Booleans (height, width) of a mask picture: where it is nearer to white than to black or to transparency.

    Raises:
        RowError: If it is damaged, or so dark throughout that it was hardly meant as a mask with white for true.
    """
    with _opened(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I;16"):
            lightness = np.asarray(picture) / 65535.0
        else:
            _check_mode(picture, path)
            grey, opacity = np.moveaxis(np.asarray(picture.convert("RGBA").convert("LA")) / 255.0, -1, 0)
            lightness = grey * opacity
    if 0 < lightness.max() <= 0.5:
        brightest = f"{round(255 * lightness.max())} of 255"
        raise RowError(
            f"the mask '{path}' is nowhere brighter than {brightest}; draw it white where the edit goes"
        )
    return lightness > 0.5


def _check_mode(picture: Image.Image, path: Path) -> None:
    if picture.mode in ("I", "F"):
        raise RowError(
            f"'{path}' has mode {picture.mode!r}, whose range of values is not known; save it in 8 bits"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                yield picture
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise RowError(f"'{path}' has more than {limit} million pixels; shrink it first") from None
    except UnidentifiedImageError:
        raise RowError(f"'{path}' is not a picture in a format that Pillow reads") from None
    except RowError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what decoders raise on damaged data
        raise RowError(f"'{path}' cannot be read, perhaps it is damaged: {error}") from None
