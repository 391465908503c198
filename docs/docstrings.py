"""Prepare our docstrings for the API reference: fields become attributes, shared descriptions are repeated, links
resolved.

griffe's warnings, for example about an argument that a function does not have, make `make docs` fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

PAGES = Path(__file__).parent / "api"
FIELD = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): ")
SECTION = re.compile(r"^(?:Args|Attributes):\n(?:    .*\n?|\n)+", re.MULTILINE)
SHARED = re.compile(r"^    ([a-z_]\w*(?:, [a-z_]\w*)+):(.*(?:\n        .*)*)", re.MULTILINE)
LINK = re.compile(r"\[`([\w.]+)`\]")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")


class HouseStyle(griffe.Extension):
    """Rewrites every docstring of a package once it is loaded, before any is parsed."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Called by griffe."""
        shown = shown_paths(pkg)
        for one in objects(pkg):
            if one.docstring is not None:
                text = one.docstring.value
                if one.is_class:
                    text = with_attributes(text, set(one.members))
                one.docstring.value = with_links(SECTION.sub(names_apart, text), one, shown)


def objects(one: griffe.Object) -> Iterator[griffe.Object]:
    """An object, and everything defined in it."""
    yield one
    for member in one.members.values():
        if not member.is_alias:
            yield from objects(member)


def with_attributes(text: str, members: set[str]) -> str:
    """A class's docstring with its lines "name: what it is" about members turned into a section of attributes."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        field = FIELD.match(line)
        if field and set(field[1].split(", ")) <= members:
            lines += [] if inside else ["", "Attributes:"]
            inside = True
        elif not line.startswith("    "):
            inside = False
        lines.append(f"    {line}" if inside else line)
    return "\n".join(lines).strip()


def names_apart(section: re.Match[str]) -> str:
    """A section in which names that share a description get one each."""
    return SHARED.sub(
        lambda entry: "\n".join(f"    {name}:{entry[2]}" for name in entry[1].split(", ")), section[0]
    )


def shown_paths(pkg: griffe.Module) -> set[str]:
    """The paths of everything that the reference's pages show, under every name that it has."""
    pages = "\n".join(page.read_text() for page in PAGES.glob("*.md"))
    shown = set(re.findall(r"^::: (\S+)", pages, re.MULTILINE))
    for path in [*shown]:
        try:
            listed = pkg[path.removeprefix(f"{pkg.path}.")]
        except KeyError:  # mkdocstrings says so
            continue
        for name in listed.exports or [name for name in listed.members if not name.startswith("_")]:
            member = listed.members[str(name)]
            shown |= {f"{path}.{name}", member.target_path if member.is_alias else member.path}
    return shown


def with_links(text: str, scope: griffe.Object, shown: set[str]) -> str:
    """A docstring with [`Name`] linked to its entry, and papers linked to arXiv."""

    def link(found: re.Match[str]) -> str:
        name, dot, rest = found[1].partition(".")
        try:
            path = scope.resolve(name)
        except griffe.NameResolutionError:
            return f"`{found[1]}`"
        is_shown = path in shown or path.rpartition(".")[0] in shown
        return f"[`{found[1]}`][{path}{dot}{rest}]" if is_shown else f"`{found[1]}`"

    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", LINK.sub(link, text))
