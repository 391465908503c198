"""What a server keeps of each visitor until the visitor leaves: the picture, its edits, what was learned, and files."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from PIL import Image

from semantic_edit.disk.images import encoded_image
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines.workbench import Workbench

MOST_VISITS = 100
SECONDS_UNUSED = 1800
"""After so long, a visit may end to make room for another."""


@dataclass(eq=False)
class Visit:
    """One visitor's data. Values are replaced, not changed, so that whatever runs keeps what it began with.

    folder: Holds all files of the visit.
    stop: Set to stop what is running.
    chosen: The picture that is worked on, once there is one.
    edits: Of each edit of this picture, what one needs to go back to it.
    network: What was learned last, or loaded.
    pictured: The picture that `network` was learned from, unless it was loaded.
    used: When the visitor last did something, by `time.monotonic`.
    """

    folder: Path
    stop: Event = field(default_factory=Event)
    chosen: Workbench | None = None
    edits: tuple[Any, ...] = ()
    network: MappingNetwork | None = None
    pictured: Image.Image | None = None
    used: float = 0.0

    @property
    def bench(self) -> Workbench:
        """The picture that is worked on; a `ValueError` if there is none yet."""
        if self.chosen is None:
            raise ValueError("There is no picture yet: drop one, or choose a still life.")
        return self.chosen

    def choose(self, image: Image.Image | None) -> None:
        """Work on another picture, or on none, and forget the edits of the one before."""
        self.chosen, self.edits = None if image is None else Workbench(image), ()

    def save(self, name: str, content: Image.Image | bytes) -> str:
        """Write a file, an image as PNG, into a folder of its own."""
        path = self.folder / secrets.token_hex(8) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content if isinstance(content, bytes) else encoded_image(content, "PNG"))
        return str(path)

    def save_each(self, name: str, captioned: Iterable[tuple[Image.Image, str]]) -> list[tuple[str, str]]:
        """Write images under one name, each into a folder of its own, and keep their captions."""
        return [(self.save(name, image), caption) for image, caption in captioned]


@dataclass(eq=False)
class Visits:
    """The visits to a server, each under a key that only its visitor's browser knows.

    root: Where the files of visits are kept.
    """

    root: Path
    current: dict[str, Visit] = field(default_factory=dict)
    lock: Any = field(default_factory=Lock)

    def of(self, key: str) -> Visit:
        """A visitor's visit, new if there is none.

        Raises:
            ValueError: If there are too many, and all of them are in use.
        """
        with self.lock:
            if key not in self.current:
                self._make_room()
                self.current[key] = Visit(self.root / f"visit-{secrets.token_hex(16)}")
            self.current[key].used = time.monotonic()
            return self.current[key]

    def _make_room(self) -> None:
        """If there are too many visits, end one that keeps nothing, or else one that was not used for long."""
        if len(self.current) < MOST_VISITS:
            return
        by_use = sorted(self.current.items(), key=lambda one: one[1].used)
        for key, visit in by_use:
            if visit.chosen is None and visit.network is None:
                return self.end(key)
        key, visit = by_use[0]
        if time.monotonic() - visit.used < SECONDS_UNUSED:
            raise ValueError("There are too many visitors at present; please try again in half an hour.")
        return self.end(key)

    def end(self, key: str) -> None:
        """End a visit: stop what it runs, and remove its files."""
        if visit := self.current.pop(key, None):
            visit.stop.set()
            shutil.rmtree(visit.folder, ignore_errors=True)
