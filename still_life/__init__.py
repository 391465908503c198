"""A small but properly trained text-to-image model of still lifes, and a renderer that knows the truth about them."""

from __future__ import annotations

from pathlib import Path

from semantic_edit.still_life.cases import EditCase, edit_cases

__all__ = ["EditCase", "edit_cases", "model_path"]


def model_path() -> Path:
    """The folder of the embedded model, which `StableDiffusionPipeline.from_pretrained` can load."""
    return Path(__file__).parent / "weights"
