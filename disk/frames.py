"""How files store which part of a picture they are about: trajectories, masks and learned pictures alike."""

from __future__ import annotations

from semantic_edit.disk.reading import Rule, plain_text, record, several, whole_number

FRAME_RULE: Rule = record(
    picture=several(whole_number(1, 2**24), 2, 2),
    box=several(whole_number(0, 2**24), 4, 4),
    size=several(whole_number(1, 2**24), 2, 2),
    look=plain_text(longest=4000),
)
"""For what `Frame.stored` returns."""
