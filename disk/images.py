"""Read picture files that anyone may have made or damaged, and encode our own; errors of reading are clauses that
follow the file's name."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator

from PIL import Image, PngImagePlugin, UnidentifiedImageError

_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # its values for which width and height change places
_UNKNOWN_RANGE = ("I", "F")
OUR_NOTES = "semantic_edit."  # the beginning of the names of our entries in a file's metadata


ImageSource = str | os.PathLike[str] | bytes
"""A file, or the content of one."""


class UnreadableImage(ValueError):
    """Why a file cannot be read as a picture, as a clause that follows the file's name."""


def decoded_image(source: ImageSource, most_pixels: int | None = None) -> Image.Image:
    """The decoded picture of a file, in the file's own mode and not yet turned upright.

    Args:
        source: The file, or its content.
        most_pixels: A picture of more pixels is refused before it is decoded.

    Raises:
        UnreadableImage: If the file is missing, not a picture or damaged, has more pixels than are allowed or than
            Pillow considers safe, or has a mode whose range of values is unknown.
    """
    if most_pixels is not None:
        width, height = size_of_file(source)
        if width * height > most_pixels:
            allowed = f"{most_pixels // 10**6} million are allowed"
            raise UnreadableImage(f"has {width} x {height} pixels, and {allowed}; shrink it first")
    with _explained(source):
        image = Image.open(_opened(source))
        image.load()
    if image.mode in _UNKNOWN_RANGE:
        raise UnreadableImage(f"has mode {image.mode}, whose range of values is not known; save it in 8 bits")
    return image


def as_png(image: Image.Image) -> bytes:
    """A picture as the content of a PNG file, with our entries in its metadata."""
    return encoded_image(image, "PNG")


def size_of_file(source: ImageSource) -> tuple[int, int]:
    """The (width, height) of a picture when upright, from the file's header; nothing is decoded.

    Raises:
        UnreadableImage: If the file is missing or not a picture, or has more pixels than Pillow considers safe.
    """
    with _explained(source), Image.open(_opened(source)) as image:
        width, height = image.size
        # asking a PNG without such a block before its pixels would decode the pixels
        turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return (height, width) if turned else (width, height)


def encoded_image(image: Image.Image, kind: str) -> bytes:
    """A picture in one of Pillow's formats, with our entries in its metadata if the format is PNG."""
    buffer = io.BytesIO()
    notes = PngImagePlugin.PngInfo()
    for name, value in image.info.items():
        if str(name).startswith(OUR_NOTES):
            notes.add_text(str(name), str(value))
    # each is for some formats, and the others ignore it
    image.save(buffer, kind, quality=95, pnginfo=notes)
    return buffer.getvalue()


def _opened(source: ImageSource) -> str | os.PathLike[str] | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


@contextlib.contextmanager
def _explained(source: ImageSource) -> Iterator[None]:
    """Turn whatever goes wrong with a file during the block into a clause."""
    is_heic = _is_heic(source)
    if is_heic:
        _register_heic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UnreadableImage(f"has more than {limit} million pixels; shrink it first") from None
    except UnidentifiedImageError:
        if is_heic:
            raise UnreadableImage(
                "is a HEIC picture, which Pillow reads by a plugin: pip install pillow-heif, or save it as JPEG"
            ) from None
        raise UnreadableImage("is not a picture in a format that Pillow reads") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what decoders raise for damaged data
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged? {error}"
        raise UnreadableImage(f"cannot be read: {reason}") from None


def _is_heic(source: ImageSource) -> bool:
    """Whether a file's first bytes are those of HEIC, the format that many phones save."""
    head = b""
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with contextlib.suppress(OSError, ValueError), open(source, "rb") as file:
            head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _HEIC_BRANDS


def _register_heic() -> None:
    """Let Pillow read HEIC, if its plugin is installed."""
    with contextlib.suppress(ImportError):
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
