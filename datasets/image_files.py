"""Images and masks in a dataset's folder: found, checked without decoding, and read when they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from semantic_edit.datasets.items import RowError
from semantic_edit.disk.images import UnreadableImage, decoded_image, size_of_file
from semantic_edit.editing import mask_to_tensor
from semantic_edit.pipelines import opaque_rgb


def path_inside(name: str, *folders: Path) -> Path:
    """The file that a row names, in the first of several folders that has it.

    Links are followed wherever they lead: they belong to the folder's owner, not to the row.

    Raises:
        RowError: If it might be outside the folders, on any system; or if there is no such file.
    """
    named = PureWindowsPath(name)  # reads either slash, and drives
    if named.anchor or ".." in named.parts:
        raise RowError(f"{name!r} must lie in the dataset's folder: no absolute path and no '..'")
    for folder in folders:
        if os.path.isfile(folder / name):  # Path.is_file raises for names too long for the system
            return folder / name
    raise RowError(f"there is no file {name!r} in {' or '.join(repr(str(folder)) for folder in folders)}")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture in its upright position, from its header: nothing is decoded.

    Raises:
        RowError: If it is not a picture, or has more pixels than Pillow considers safe.
    """
    with _named(path):
        return size_of_file(path)


def open_rgb(path: Path) -> Image.Image:
    """A picture in RGB, as the pipelines see it.

    Raises:
        RowError: If it is damaged, or has a mode with an unknown range of values.
    """
    with _named(path):
        return opaque_rgb(decoded_image(path))


def load_mask(path: Path) -> np.ndarray:
    """Booleans (height, width) of a mask picture: where it is closer to white than to black or transparency.

    Raises:
        RowError: If it is damaged, or so dark throughout that white was hardly meant as true.
    """
    with _named(path):
        lightness = mask_to_tensor(decoded_image(path))[0, 0].numpy()
    if 0 < lightness.max() <= 0.5:
        brightest = f"{round(255 * float(lightness.max()))} of 255"
        raise RowError(
            f"the mask '{path}' is nowhere brighter than {brightest}; draw it white where the edit goes"
        )
    return lightness > 0.5


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in errors about its picture."""
    try:
        yield
    except UnreadableImage as error:
        raise RowError(f"'{path}' {error}") from None
    except ValueError as error:  # a mode that no pipeline accepts
        raise RowError(f"'{path}' cannot be taken: {error}") from None
