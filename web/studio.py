"""What the page works with, and what it keeps of each visitor until the visitor leaves."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from PIL import Image

from semantic_edit.disk.images import encoded_image
from semantic_edit.editing.origins import mask_as_image
from semantic_edit.editing.strokes import Strokes
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines.outputs import DiffEditMaskOutput, DiffEditPipelineOutput

MOST_SESSIONS = 100
CANVAS = (640, 640)
UPLOAD_NAME = 64  # letters in the names of Gradio's folders of uploads, which are digests
FINDING = ("source_prompt", "mask_threshold")  # arguments without effect on a given mask


@dataclass(frozen=True)
class Asked:
    """What a visitor asks for.

    arguments: Of the pipeline, besides images, an inversion and the generator.
    seed: Of the generator.
    """

    arguments: dict[str, Any]
    seed: int

    @property
    def words(self) -> dict[str, Any]:
        """All that finding depends on, besides the threshold."""
        return {**self.arguments, "mask_threshold": None, "inpaint_strength": None, "seed": self.seed}

    @property
    def inversion(self) -> tuple[Any, ...]:
        """All that an inversion depends on, besides the picture."""
        return self.arguments["num_inference_steps"], self.arguments["inpaint_strength"]

    def given(self, has_mask: bool) -> dict[str, Any]:
        """The arguments of a call, with or without a mask of one's own."""
        return {name: value for name, value in self.arguments.items() if not (has_mask and name in FINDING)}


@dataclass(frozen=True, eq=False)
class Done:
    """An edit that can be gone back to: what was asked for, whether with a mask of one's own, and its files."""

    asked: Asked
    has_mask: bool
    files: dict[str, str]


@dataclass(eq=False)
class Visit:
    """One visitor's data. Values are replaced, not changed, so that whatever runs keeps what it began with.

    folder: Holds all files of the session.
    stop: Set to stop what is running.
    found, asked: Where the prompts disagree, and what had been asked for.
    kept: Inversions of the picture.
    """

    folder: Path
    stop: Event = field(default_factory=Event)
    image: Image.Image | None = None
    found: DiffEditMaskOutput | DiffEditPipelineOutput | None = None
    asked: Asked | None = None
    strokes: Strokes = field(default_factory=lambda: Strokes.none(CANVAS))
    kept: dict[tuple[Any, ...], Trajectory | None] = field(default_factory=dict)
    edits: tuple[Done, ...] = ()
    network: MappingNetwork | None = None

    @property
    def picture(self) -> Image.Image:
        """The picture.

        Raises:
            ValueError: If there is none yet.
        """
        if self.image is None:
            raise ValueError("There is no picture yet: drop one, or choose a still life.")
        return self.image

    def take(self, image: Image.Image | None) -> None:
        """Begin with another picture; the edits of earlier ones stay."""
        self.image, self.found, self.asked, self.kept = image, None, None, {}

    def save(self, name: str, content: Image.Image | bytes) -> str:
        """Write a file, an image as PNG, into a folder of its own."""
        path = Path(tempfile.mkdtemp(dir=self.folder)) / name
        path.write_bytes(content if isinstance(content, bytes) else encoded_image(content, "PNG"))
        return str(path)

    def mask(self) -> Image.Image:
        """What was found, at the picture's size; black without."""
        if self.found is None or self.found.pixel_mask is None:
            return Image.new("L", self.picture.size)
        return mask_as_image(self.found.pixel_mask[0])

    def reusable(self, asked: Asked) -> Trajectory | None:
        """An inversion that fits: of the whole picture, or of the part that these words were found in."""
        kept = self.kept.get(asked.inversion)
        if kept is None or all(frame.is_plain for frame in kept.frames):
            return kept
        is_found = self.found is not None and self.asked is not None and self.asked.words == asked.words
        return kept if is_found and self.found.frames == kept.frames else None  # type: ignore[union-attr]


@dataclass(eq=False)
class Studio:
    """The model that everybody shares, and each visitor's session.

    edits, styles: The pipelines, of one model; if `styles` is `None`, `why_no_styles` says why.
    root: Where the files of sessions are kept.
    recipes: `recipes(arguments, seed, has_mask)`: an edit as a command line and as Python.
    model: The model's name, for visitors.
    """

    edits: Any
    root: Path
    recipes: Callable[[dict[str, Any], int, bool], tuple[str, str]]
    model: str
    styles: Any = None
    why_no_styles: str = ""
    sessions: dict[str, Visit] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def session(self, key: str) -> Visit:
        """The session of a visitor, new if there is none; if there are too many, the oldest one ends."""
        with self.lock:
            if key not in self.sessions:
                self.sessions[key] = Visit(Path(tempfile.mkdtemp(dir=self.root)))
            session, too_many = self.sessions[key], list(self.sessions)[:-MOST_SESSIONS]
        for old in too_many:
            self.forget(old)
        return session

    def sweep(self, age: float = 120) -> None:
        """Remove uploaded files that have been read: all that are older than some seconds.

        They cannot be removed at once, because files of the same content, even of other visitors, are one file.
        """
        for folder in self.root.iterdir():
            if len(folder.name) == UPLOAD_NAME and time.time() - folder.stat().st_mtime > age:
                shutil.rmtree(folder, ignore_errors=True)

    def sweep_for_ever(self) -> None:
        """Sweep every half a minute, as long as there is something to sweep."""
        while self.root.exists():
            self.sweep()
            time.sleep(30)

    def forget(self, key: str) -> None:
        """End a session: stop what it runs, and remove its files."""
        with self.lock:
            session = self.sessions.pop(key, None)
        if session is not None:
            session.stop.set()
            shutil.rmtree(session.folder, ignore_errors=True)
