"""Write the imports of a bundle in the order that formatters use."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator

from semantic_edit.publishing.sources import Import

LINE_LENGTH = 110


def render_imports(imports: Collection[Import]) -> str:
    """Imports as text: the standard library first, modules before members, everything once."""
    sections: list[str] = []
    for is_standard in (True, False):
        section = {
            one for one in imports if (one.module.partition(".")[0] in sys.stdlib_module_names) == is_standard
        }
        lines = [*_whole_modules(section), *_members(section)]
        if lines:
            sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _whole_modules(imports: Collection[Import]) -> Iterator[str]:
    whole = [(one.module, one.alias) for one in imports if not one.member]
    for module, alias in sorted(whole, key=lambda pair: (pair[0].lower(), pair)):
        yield f"import {module} as {alias}" if alias else f"import {module}"


def _members(imports: Collection[Import]) -> Iterator[str]:
    modules = sorted({one.module for one in imports if one.member}, key=lambda name: (name.lower(), name))
    for module in modules:
        chosen = sorted(
            (one for one in imports if one.member and one.module == module),
            key=lambda one: (_rank(one.member), one.member.lower(), one.member, one.alias),
        )
        aliased = [one for one in chosen if one.alias]
        plain = [one.member for one in chosen if not one.alias]
        if plain:
            yield _from_line(module, plain)
        for one in aliased:
            yield f"from {module} import {one.member} as {one.alias}"


def _from_line(module: str, members: list[str]) -> str:
    line = f"from {module} import {', '.join(members)}"
    if len(line) <= LINE_LENGTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {member},\n" for member in members) + ")"


def _rank(name: str) -> int:
    """Constants, then classes, then everything else."""
    if name.isupper() and len(name) > 1:
        return 0
    return 1 if name[:1].isupper() else 2
