"""The page as a Space on the Hub: an app of one call, this package's own files, and what they were tried with."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
from pathlib import Path

from packaging.requirements import Requirement

from semantic_edit.disk.writing import write_file
from semantic_edit.publishing.cards import filled_card
from semantic_edit.publishing.errors import PublishError
from semantic_edit.publishing.pipelines import DISTRIBUTION, source_version
from semantic_edit.publishing.sources import PACKAGE

APP = """\
from semantic_edit.cli import main

raise SystemExit(main(["web", "--host", "0.0.0.0", "--port", "7860"]))
"""
CONTENT = (".py", ".css", ".md", ".png", ".json", ".txt", ".safetensors", ".typed")


def build_space(folder: Path, repo_id: str) -> None:
    """Build a repository that shows the page as a Space, with the still-life model.

    Args:
        folder: An empty folder.
        repo_id: The repository that it will become, "owner/name".

    Raises:
        PublishError: If Gradio, whose version a Space must name, is not installed.
    """
    pinned = pinned_requirements()
    if "gradio" not in pinned:
        raise PublishError(
            "A Space names the versions that are installed here, and Gradio is not: pip install "
            f"'{DISTRIBUTION}[web]'."
        )
    for name, place in _rooms().items():
        target = folder / PACKAGE / name
        shutil.copytree(place, target, dirs_exist_ok=True, copy_function=shutil.copyfile, ignore=_strange)
    write_file(folder / "app.py", APP.encode())
    lines = [f"{name}=={version}\n" for name, version in pinned.items()]
    write_file(folder / "requirements.txt", "".join(lines).encode())
    python = ".".join(map(str, sys.version_info[:2]))
    fields = {"repo_id": repo_id, "source": source_version(), "gradio": pinned["gradio"], "python": python}
    write_file(folder / "README.md", filled_card("space", **fields).encode())


def pinned_requirements() -> dict[str, str]:
    """What this package and its page need, in the versions that are installed; a build such as "+cpu" is left out."""
    pinned = {}
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": "web"}):
            try:
                version = importlib.metadata.version(wanted.name)
            except importlib.metadata.PackageNotFoundError:
                continue
            pinned[wanted.name] = version.partition("+")[0]
    return pinned


def _rooms() -> dict[str, str]:
    """Where the parts of this package lie: inside its folder, or beside it in a checkout."""
    face = Path(importlib.import_module(PACKAGE).__path__[0])
    near = {one.parent.name for place in (face, face.parent) for one in place.glob("*/__init__.py")}
    found = {name: importlib.util.find_spec(f"{PACKAGE}.{name}") for name in sorted(near)}
    rooms = {name: spec.submodule_search_locations for name, spec in found.items() if spec is not None}
    return {"": str(face), **{name: places[0] for name, places in rooms.items() if places}}


def _strange(folder: str, names: list[str]) -> set[str]:
    """What does not belong to the package, such as caches."""
    files = {name for name in names if (Path(folder) / name).is_file()}
    return {name for name in files if not name.endswith(CONTENT)} | ({*names} & {"__pycache__"})
