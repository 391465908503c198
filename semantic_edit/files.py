"""Files of the command line: checked before any work, refused in plain words, never left half written."""

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError


class UsageError(Exception):
    """Something the person at the keyboard can put right; its text is one line."""


def read_picture(path: Path) -> Image.Image:
    """Open and decode `path`, in the mode the file has.

    Raises:
        UsageError: If it is missing, no picture, damaged, or so large that Pillow takes it for an attack.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path)
            picture.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UsageError(f"{path} has more than {limit} million pixels; shrink it first") from None
    except UnidentifiedImageError:
        raise UsageError(f"{path} is not a picture in a format that Pillow reads") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what decoders raise on damaged data
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged? {error}"
        raise UsageError(f"{path} cannot be read: {reason}") from None
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write `picture` in the format that the name asks for."""
    picture.save(path, quality=95)  # for formats that lose detail; the others take no notice


def check_outputs(outputs: Mapping[str, Path], inputs: Mapping[str, Path]) -> None:
    """Refuse destinations that cannot be written, or that would overwrite each other or an input.

    Args:
        outputs, inputs: Option, as typed, to path.

    Raises:
        UsageError: Naming the option and the reason.
    """
    taken = {path.resolve(): option for option, path in inputs.items()}
    for option, path in outputs.items():
        place = path.resolve()
        if place in taken:
            raise UsageError(f"{option} and {taken[place]} are the same file, {path}")
        taken[place] = option
        _check_writable(option, place)


def check_folder(option: str, folder: Path, is_own: Callable[[Path], bool], content: str) -> None:
    """Refuse a destination folder that cannot be written, or that holds something other than what belongs there.

    Args:
        option: As typed.
        folder: May be missing, empty, or such that `is_own(folder)`.
        content: What belongs there, in words.

    Raises:
        UsageError: Naming the option and the reason.
    """
    place = folder.resolve()
    if not place.is_dir():
        if place.exists():
            raise UsageError(f"{option} {folder} is a file; name a folder")
        _check_writable(option, place)
        return
    if any(place.iterdir()) and not is_own(place):
        raise UsageError(f"{option} {folder} holds something other than {content}; name another folder")
    _check_folder_writable(option, place, place)


def is_mapping_folder(folder: Path) -> bool:
    """Whether `folder` holds a mapping network, by its config and without loading anything."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") == "MappingNetwork"


def check_suffix(option: str, path: Path, suffixes: Collection[str] | None = None) -> None:
    """Refuse a file name whose ending is none of `suffixes` (None: of those that Pillow writes)."""
    allowed = suffixes or {end for end, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if path.suffix.lower() not in allowed:
        hint = ", ".join(suffixes or (".png", ".jpg", ".webp", ".tiff"))
        raise UsageError(f"{option} {path}: a name is needed that ends in one of {hint}")


def write_all(writers: Mapping[Path, Callable[[Path], None]]) -> None:
    """Write every file beside its destination first, and move them into place once all are whole.

    Args:
        writers: From destination to a function that writes the path it is given; that has the same suffix.
    """
    with contextlib.ExitStack() as stack:
        whole = {path.resolve(): stack.enter_context(_temporary_beside(path.resolve())) for path in writers}
        for path, write in writers.items():
            write(whole[path.resolve()])
        for destination, temporary in whole.items():
            os.chmod(temporary, _mode_for(destination))
            os.replace(temporary, destination)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)  # gone already if it was moved into place


def _mode_for(path: Path) -> int:
    """The permissions `path` has, or those a new file gets; a temporary file's are its owner's alone."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _check_writable(option: str, place: Path) -> None:
    if place.is_dir():
        raise UsageError(f"{option} {place} is a folder; name a file in it")
    if not place.parent.is_dir():
        raise UsageError(f"{option} {place}: there is no folder {place.parent}")
    _check_folder_writable(option, place, place.parent)


def _check_folder_writable(option: str, place: Path, folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()  # surer than reading permission bits
    except OSError as error:
        raise UsageError(f"{option} {place}: cannot write into {folder}: {error.strerror}") from None
