"""What the page works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from semantic_edit.pipelines.visits import Visits


@dataclass(eq=False)
class Studio:
    """The model that everybody shares, and the visits.

    edits, styles: The pipelines, of one model; if `styles` is `None`, `why_no_styles` says why.
    edit_recipes: `edit_recipes(arguments, seed, has_mask)`: an edit as a command line and as Python.
    restyle_recipes: `restyle_recipes(prompts, taus, is_confined, has_image)`: so for edits of a learned picture.
    model: The model's name, for visitors.
    """

    edits: Any
    visits: Visits
    edit_recipes: Callable[[dict[str, Any], int, bool], tuple[str, str]]
    restyle_recipes: Callable[[list[str], dict[str, float], bool, bool], tuple[str, str]]
    model: str
    styles: Any = None
    why_no_styles: str = ""
