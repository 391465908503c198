"""What visitors send: files of limited size, read as the command line reads them, and never an address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs, EditorDataBlobs
from gradio_client.utils import is_http_url_like
from PIL import Image

from semantic_edit.disk.images import UnreadableImage, decoded_image, size_of_file
from semantic_edit.pipelines import opaque_rgb

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 40_000_000
MOST_LAYERS = 50  # that were sent and not yet asked for


async def files_alone(self: Block, url_or_file_path: Any) -> str | None:
    """In place of a method of Gradio's components, which would also download what is at an address.

    Raises:
        gr.Error: If it is an address.
    """
    if is_http_url_like(str(url_or_file_path)):
        raise gr.Error("Files are uploaded here, not fetched from an address.", print_exception=False)
    return await Block.async_move_resource_to_block_cache(self, url_or_file_path)


class Upload(gr.Image):
    """A picture's file as it was sent; Gradio itself does not open it."""

    is_template = True  # it looks as its base class does
    async_move_resource_to_block_cache = files_alone

    def preprocess(self, payload: Any) -> Path | None:
        """The file, not read yet."""
        return None if payload is None or payload.path is None else Path(payload.path)


class ArchiveButton(gr.UploadButton):
    """Sends a file of another kind."""

    is_template = True
    async_move_resource_to_block_cache = files_alone


class Canvas(gr.ImageEditor):
    """A picture to brush on, of which only what was brushed is kept and comes back."""

    is_template = True
    async_move_resource_to_block_cache = files_alone

    @server
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Keep a layer until it is asked for."""
        if data.data["type"] == "layer" and data.data["index"] == "0":
            blobs = EditorDataBlobs(background=None, layers=[data.files[0][1]], composite=None)
            self.blob_storage[data.data["id"]] = blobs
            for old in list(self.blob_storage)[:-MOST_LAYERS]:
                del self.blob_storage[old]

    def preprocess(self, payload: Any) -> bytes | None:
        """The brushed layer as an image file, not read yet."""
        kept = None if payload is None else self.blob_storage.pop(payload.id, None)
        return kept.layers[0] if kept is not None and kept.layers else None


def read_upload(path: Path) -> Image.Image:
    """The picture in an uploaded file, upright, opaque and in 8-bit RGB.

    Raises:
        ValueError: If it has too many pixels, cannot be read, or has values of unknown range.
    """
    try:
        width, height = size_of_file(path)
        if width * height > MOST_PIXELS:
            limit = MOST_PIXELS // 10**6
            raise UnreadableImage(
                f"has {width} x {height} pixels, and {limit} million are allowed; shrink it first"
            )
        return opaque_rgb(decoded_image(path))
    except UnreadableImage as error:
        raise ValueError(f"{path.name} {error}") from None
