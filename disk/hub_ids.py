"""What the Hub calls a repository."""

from __future__ import annotations

import re

HUB_ID = re.compile(r"\w(?:[\w.-]{0,94}\w)?/\w(?:[\w.-]{0,94}\w)?", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether a repository on the Hub, of the form "owner/name", may be called so."""
    return bool(HUB_ID.fullmatch(name)) and not re.search(r"--|\.\.|\.git$", name)
