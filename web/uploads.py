"""What visitors send: files of limited size, read as the command line reads them, and never an address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like
from PIL import Image

from semantic_edit.disk.images import UnreadableImage, decoded_image, size_of_file
from semantic_edit.pipelines import opaque_rgb

MOST_BYTES = 32 * 2**20
MOST_PIXELS = 40_000_000


def take_files_alone(component: Any) -> None:
    """Let a component refuse an address in place of a file, which Gradio would otherwise download."""
    move = component.async_move_resource_to_block_cache

    async def checked(place: Any) -> str | None:
        if is_http_url_like(str(place)):
            raise gr.Error("Files are uploaded here, not fetched from an address.", print_exception=False)
        return await move(place)

    component.async_move_resource_to_block_cache = checked


def hand_over_files(upload: gr.Image) -> None:
    """Let a component hand over a picture's file as it was sent: Gradio itself would open it."""
    upload.preprocess = lambda sent: None if sent is None or sent.path is None else Path(sent.path)


def hand_over_layers(canvas: gr.ImageEditor) -> None:
    """Let a canvas hand over only the file of the layer that was brushed; Gradio itself would open all of them."""
    canvas.preprocess = lambda sent: Path(sent.layers[0].path) if sent is not None and sent.layers else None
    canvas.accept_blobs = None  # another way to send layers, which keeps them in memory without limit


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
