from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def paint() -> Callable[..., Path]:
    """Writes a tiny picture, and the folders above it."""

    def write(path: Path, size: tuple[int, int] = (8, 6), colour: object = "red", mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path)
        return path

    return write


@pytest.fixture
def write_lines() -> Callable[..., Path]:
    """Writes JSON Lines."""

    def write(path: Path, *rows: object) -> Path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
