"""Warnings that point to the line of whoever called this package, however deep they are raised."""

from __future__ import annotations

import sys
import warnings

OF_CALLS = ("torch.utils._contextlib", "contextlib", "diffusers.configuration_utils")
"""Modules whose wrappers stand between this package's functions."""


def warn_caller(message: str) -> None:
    """Warn at the first line on the stack that is not this package's own."""
    own = __name__.partition(".")[0]
    level, frame = 1, sys._getframe()
    while (outer := frame.f_back) is not None:
        name = str(outer.f_globals.get("__name__", ""))
        level, frame = level + 1, outer
        if name.partition(".")[0] != own and name not in OF_CALLS:
            break
    warnings.warn(message, stacklevel=level)
