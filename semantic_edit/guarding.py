"""What a page takes from its visitors: files that they have uploaded, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

NOT_UPLOADED = "Files are uploaded here, not named by a path or an address."


def guarded(blocks: gr.Blocks, folder: Path) -> gr.Blocks:
    """Let a page refuse every file that was not uploaded, whichever component it is sent to, before it is looked at.

    Gradio alone checks only files that are marked as files, and fetches what has an address.

    Args:
        blocks: The page.
        folder: Where uploaded files are.
    """
    preprocess = blocks.preprocess_data

    async def checked(event: Any, inputs: Any, *others: Any, **named: Any) -> list[Any]:
        if not all(is_file_in(path, folder) for path in sent_paths(inputs)):
            raise gr.Error(NOT_UPLOADED, print_exception=False)
        return await preprocess(event, inputs, *others, **named)

    blocks.preprocess_data = checked  # Gradio has no other place for it
    gr.ImageEditor.accept_blobs = None  # another way to send layers, which keeps them in memory without limit
    return blocks


def sent_paths(sent: Any) -> Iterator[Any]:
    """The path of every file in what a visitor's browser sends, as it is sent."""
    if isinstance(sent, dict):
        if sent.get("path") is not None:
            yield sent["path"]
        sent = list(sent.values())
    if isinstance(sent, (list, tuple)):
        for one in sent:
            yield from sent_paths(one)


def is_file_in(path: Any, folder: Path) -> bool:
    """Whether a path is that of a regular file inside a folder, wherever links lead."""
    try:
        place = Path(path).resolve()
        return place.is_relative_to(folder.resolve()) and place.is_file()
    except (OSError, TypeError, ValueError, RuntimeError):
        return False  # no text, null characters, too long, links in a circle
