"""Pictures and masks in a dataset's folder: found, looked at without decoding, and read when they are wanted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from semantic_edit.editing import mask_to_tensor
from semantic_edit.evaluation.datasets.items import RowError
from semantic_edit.pipelines import opaque_rgb

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
    """A picture in RGB, as the pipelines see it.

    Raises:
        RowError: If it is damaged, or of a mode whose range of values is not known.
    """
    with _opened(path) as file:
        _check_mode(file, path)
        return opaque_rgb(file)


def load_mask(path: Path) -> np.ndarray:
    """Booleans (height, width) of a mask picture: where it is nearer to white than to black or to transparency.

    Raises:
        RowError: If it is damaged, or so dark throughout that it was hardly meant as a mask with white for true.
    """
    with _opened(path) as file:
        _check_mode(file, path)
        lightness = mask_to_tensor(file)[0, 0].numpy()
    if 0 < lightness.max() <= 0.5:
        brightest = f"{round(255 * float(lightness.max()))} of 255"
        raise RowError(
            f"the mask '{path}' is nowhere brighter than {brightest}; draw it white where the edit goes"
        )
    return lightness > 0.5


def _check_mode(picture: Image.Image, path: Path) -> None:
    picture.load()
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
