"""What the page works with, and what it keeps of each visitor until the visitor leaves."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from PIL import Image

from semantic_edit.disk.images import encoded_image
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines.workbench import Workbench

MOST_VISITS = 100
WORDS = {"image": "the picture", "mask_image": "the mask", "mapping_network": "the learned picture"}


@dataclass(eq=False)
class Visit:
    """One visitor's data. Values are replaced, not changed, so that whatever runs keeps what it began with.

    folder: Holds all files of the visit.
    stop: Set to stop what is running.
    chosen: The picture that is worked on, once there is one.
    edits: Of each edit, what the page shows of it, and the two prompts.
    network: What was learned last, or loaded.
    pictured: The picture that `network` was learned from, unless it was loaded.
    """

    folder: Path
    stop: Event = field(default_factory=Event)
    chosen: Workbench | None = None
    edits: tuple[tuple[list[Any], list[str]], ...] = ()
    network: MappingNetwork | None = None
    pictured: Image.Image | None = None

    @property
    def bench(self) -> Workbench:
        """The picture that is worked on; a `ValueError` if there is none yet."""
        if self.chosen is None:
            raise ValueError("There is no picture yet: drop one, or choose a still life.")
        return self.chosen

    def save(self, name: str, content: Image.Image | bytes) -> str:
        """Write a file, an image as PNG, into a folder of its own."""
        path = self.folder / secrets.token_hex(8) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content if isinstance(content, bytes) else encoded_image(content, "PNG"))
        return str(path)


@dataclass(eq=False)
class Studio:
    """The model that everybody shares, and the visits.

    edits, styles: The pipelines, of one model; if `styles` is `None`, `why_no_styles` says why.
    root: Where the files of visits are kept.
    recipes: `recipes(arguments, seed, has_mask)`: an edit as a command line and as Python.
    model: The model's name, for visitors.
    words: What a pipeline's arguments are called on the page.
    """

    edits: Any
    root: Path
    recipes: Callable[[dict[str, Any], int, bool], tuple[str, str]]
    model: str
    styles: Any = None
    why_no_styles: str = ""
    words: dict[str, str] = field(default_factory=WORDS.copy)
    visits: dict[str, Visit] = field(default_factory=dict)

    def visit(self, key: str) -> Visit:
        """A visitor's visit, new if there is none; if there are too many, the oldest ones end."""
        visit = self.visits.setdefault(key, Visit(self.root / f"visit-{secrets.token_hex(16)}"))
        for old in list(self.visits)[:-MOST_VISITS]:
            self.end(old)
        return visit

    def end(self, key: str) -> None:
        """End a visit: stop what it runs, and remove its files."""
        if visit := self.visits.pop(key, None):
            visit.stop.set()
            shutil.rmtree(visit.folder, ignore_errors=True)
