"""What the page works with, and what it keeps of each visitor until the visitor leaves."""

from __future__ import annotations

import shutil
import tempfile
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
from semantic_edit.web.recipes import Asked

Found = DiffEditMaskOutput | DiffEditPipelineOutput
MOST_SESSIONS = 100


@dataclass(frozen=True, eq=False)
class Done:
    """An edit that can be gone back to: what was asked for, whether with a mask of one's own, and its files."""

    asked: Asked
    has_mask: bool
    files: dict[str, str]


@dataclass(eq=False)
class Session:
    """One visitor's data. Values are replaced, not changed, so that whatever runs keeps what it began with.

    folder: Holds all files of the session.
    stop: Set to stop what is running.
    picture: What is edited.
    found, asked: Where the prompts disagree, and what had been asked for.
    strokes: On the canvas.
    kept: Inversions by steps and strength.
    """

    folder: Path
    stop: Event = field(default_factory=Event)
    picture: Image.Image | None = None
    found: Found | None = None
    asked: Asked | None = None
    strokes: Strokes = field(default_factory=lambda: Strokes.none((1, 1)))
    kept: dict[tuple[int, float], Trajectory] = field(default_factory=dict)
    edits: tuple[Done, ...] = ()
    network: MappingNetwork | None = None

    def take(self, picture: Image.Image | None) -> None:
        """Begin with another picture; the edits of earlier ones stay."""
        self.picture, self.found, self.asked, self.kept = picture, None, None, {}

    def save(self, name: str, content: Image.Image | bytes) -> str:
        """Write a file, an image as PNG, into a folder of its own."""
        path = Path(tempfile.mkdtemp(dir=self.folder)) / name
        path.write_bytes(content if isinstance(content, bytes) else encoded_image(content, "PNG"))
        return str(path)

    def found_mask(self) -> Image.Image:
        """What was found, at the picture's size and with the frame that it was found in; black without."""
        assert self.picture is not None  # only called with one
        if self.found is None or self.found.pixel_mask is None:
            return Image.new("L", self.picture.size)
        return mask_as_image(self.found.pixel_mask[0], (self.found.frames or (None,))[0])

    def reusable(self, asked: Asked) -> Trajectory | None:
        """An inversion that fits: of the whole picture, or of the part that these words were found in."""
        kept = self.kept.get((asked.steps, asked.strength))
        if kept is None or all(frame.is_plain for frame in kept.frames):
            return kept
        if self.asked is None or self.found is None or self.asked.words != asked.words:
            return None
        return kept if self.found.frames == kept.frames else None


@dataclass(eq=False)
class Studio:
    """The model that everybody shares, and each visitor's session.

    edits, styles: The pipelines, of one model; if `styles` is `None`, `why_no_styles` says why.
    model: The model's name in commands; `None` for the embedded one.
    """

    edits: Any
    styles: Any = None
    why_no_styles: str = ""
    model: str | None = None
    root: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    sessions: dict[str, Session] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def session(self, key: str) -> Session:
        """The session of a visitor, new if there is none; if there are too many, the oldest one ends."""
        with self.lock:
            if key not in self.sessions:
                self.sessions[key] = Session(Path(tempfile.mkdtemp(dir=self.root)))
            session, too_many = self.sessions[key], list(self.sessions)[:-MOST_SESSIONS]
        for old in too_many:
            self.forget(old)
        return session

    def forget(self, key: str) -> None:
        """End a session: stop what it runs, and remove its files."""
        with self.lock:
            session = self.sessions.pop(key, None)
        if session is not None:
            session.stop.set()
            shutil.rmtree(session.folder, ignore_errors=True)
