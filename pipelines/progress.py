"""Progress bars that say what they count."""

from __future__ import annotations

import copy
from typing import Any


def named_bar(pipe: Any, name: str, total: int) -> Any:
    """The pipeline's own progress bar with a description, unless the user has set one.

    Args:
        pipe: The pipeline.
        name: The description.
        total: Number of steps.
    """
    named = copy.copy(pipe)  # for this bar alone: other threads may share the pipeline
    named._progress_bar_config = {"desc": name, **getattr(pipe, "_progress_bar_config", {})}
    return named.progress_bar(total=total)
