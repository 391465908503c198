"""The files that are named on the command line, checked before any work is done."""

import io
import os
import re
import struct
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from PIL import Image

from semantic_edit.disk.images import UnreadableImage, decoded_image, encoded_image
from semantic_edit.disk.reading import check_is_file, read_object
from semantic_edit.disk.writing import entries, place_kind, settle

_ADDRESS = re.compile("(https?|ftp|s3|hf):/")


class UsageError(Exception):
    """An error that the user can correct; its text is one line."""


def read_image(path: Path) -> Image.Image:
    """Read the image or mask in a file, in the file's own mode.

    Raises:
        UsageError: Naming the file, if it cannot be read; see `decoded_image`.
    """
    try:
        return decoded_image(path)
    except UnreadableImage as error:
        raise UsageError(f"{path} {error}") from None


def encode_image(image: Image.Image, path: Path) -> bytes:
    """Encode `image` in the format that the name of `path` asks for.

    Raises:
        UsageError: If that format cannot hold an image of this size.
    """
    kind = _image_format(path)
    try:
        content = encoded_image(image, kind)
        whole = _opened_size(content) == image.size
    except (OSError, ValueError, struct.error) as error:  # what encoders raise
        raise UsageError(f"{path}: {kind} cannot hold this image ({error}); use .png") from error
    if not whole:
        raise UsageError(f"{path}: {kind} cannot hold {image.width} x {image.height} pixels; use .png")
    return content


def check_inputs(inputs: Mapping[str, Path]) -> None:
    """Raise unless all files exist and are regular files.

    Args:
        inputs: Option, as typed, to path.

    Raises:
        UsageError: Naming the path and the reason.
    """
    for path in inputs.values():
        if _ADDRESS.match(str(path)):
            address = str(path).replace(":/", "://", 1)
            raise UsageError(
                f"{address} is a web address, but files are read from this machine: download it first"
            )
        settle(path.parent)
        try:
            check_is_file(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UsageError(error) from None


def check_images(images: Mapping[str, Path]) -> None:
    """Raise unless all images can be read, before anything slow is imported.

    Args:
        images: Option, as typed, to path.

    Raises:
        UsageError: Naming the path and the reason.
    """
    check_inputs(images)
    for path in images.values():
        read_image(path)


def check_outputs(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Raise if a destination cannot be written, or would overwrite another one or an input.

    Args:
        outputs, inputs: Option, as typed, to path.

    Raises:
        UsageError: Naming the option and the reason.
    """
    taken = {_real(path): option for option, path in inputs.items()}
    for option, path in outputs.items():
        if _kind_of(option, path) == "device":
            continue  # it can take any number of files
        place = _real(path)
        if place in taken:
            raise UsageError(f"{option} and {taken[place]} are the same file, {path}")
        taken[place] = option
        _check_writable(option, place)


def check_folder(
    option: str, folder: Path, is_own: Callable[[Path], bool] | None = None, content: str = ""
) -> None:
    """Raise if a destination folder cannot be written, or holds something other than what belongs there.

    Args:
        option: As typed.
        folder: May be missing, empty, or such that `is_own(folder)`.
        is_own: By default, the folder must be empty.
        content: What belongs there, in words.

    Raises:
        UsageError: Naming the option and the reason.
    """
    place = _real(folder)
    if not place.is_dir():
        if place.exists():
            raise UsageError(f"{option} {folder} is a file; choose a folder")
        _check_writable(option, place)
        return
    settle(place)
    if entries(place) and (is_own is None or not is_own(place)):
        what = f"holds something other than {content}" if content else "is not empty"
        raise UsageError(f"{option} {folder} {what}; choose another folder")
    _check_folder_writable(option, place, place)


def is_mapping_folder(folder: Path) -> bool:
    """Whether `folder` holds a mapping network, by its config and without loading anything."""
    try:
        return read_object(folder / "config.json").get("_class_name") == "MappingNetwork"
    except (OSError, ValueError):
        return False


def check_suffix(option: str, path: Path, suffixes: Collection[str] | None = None) -> None:
    """Raise unless a file name ends in one of `suffixes`, by default those of formats that can store any image."""
    is_right = _keeps_images(path) if suffixes is None else path.suffix.lower() in suffixes
    if not is_right:
        hint = ", ".join(suffixes or (".png", ".jpg", ".webp", ".tiff"))
        raise UsageError(f"{option} {path}: the name must end in one of {hint}")


def _keeps_images(path: Path) -> bool:
    """Whether an image written under this name can be read again: some of Pillow's formats cannot be written, or hold
    only small images."""
    try:
        kind = _image_format(path)
        tried = [Image.new(mode, (300, 200)) for mode in ("RGB", "L")]
        return all(_opened_size(encoded_image(image, kind)) == image.size for image in tried)
    except (KeyError, OSError, ValueError):
        return False


def _image_format(path: Path) -> str:
    suffix = path.suffix.lower()
    Image.preinit()  # the usual formats; all of them take a tenth of a second
    return Image.EXTENSION[suffix] if suffix in Image.EXTENSION else Image.registered_extensions()[suffix]


def _opened_size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size


def _real(path: Path) -> Path:
    """Where a path leads, or the path itself if it leads in circles."""
    return Path(os.path.realpath(path))


def _kind_of(option: str, path: Path) -> str:
    try:
        return place_kind(path)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from None


def _check_writable(option: str, place: Path) -> None:
    kind = _kind_of(option, place)
    if kind == "folder":
        raise UsageError(f"{option} {place} is a folder; name a file in it")
    if kind == "other":
        raise UsageError(f"{option} {place} is a pipe, a socket or a disk; choose a file")
    if not place.parent.is_dir():
        raise UsageError(f"{option} {place}: there is no folder {place.parent}")
    _check_folder_writable(option, place, place.parent)


def _check_folder_writable(option: str, place: Path, folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()  # more reliable than reading permission bits
    except OSError as error:
        raise UsageError(f"{option} {place}: cannot write into {folder}: {error.strerror}") from None
