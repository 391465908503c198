"""How files store the sizes that condition a model besides its prompts: trajectories and learned pictures alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semantic_edit.disk.reading import Rule, plain_text, several, whole_number

Sizes = Mapping[str, Sequence[int]]
"""Two numbers of pixels each, by the names of the arguments that give them."""


def _are_sizes(value: Any) -> bool:
    (is_name, _), (is_pair, _) = plain_text(longest=100), several(whole_number(0, 2**24), 2, 2)
    return isinstance(value, Mapping) and all(is_name(name) and is_pair(pair) for name, pair in value.items())


SIZES_RULE: Rule = _are_sizes, "names with two numbers of pixels each"
