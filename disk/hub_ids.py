"""The names of repositories on the Hub."""

from __future__ import annotations

import re

HUB_ID = re.compile(r"\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether `name` is a valid "owner/name" of a repository on the Hub."""
    return bool(HUB_ID.fullmatch(name)) and not re.search(r"--|\.\.|\.git$", name)
