"""Pools of rendered scenes that training draws from: pictures on disk, captions and labels in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.scenes import Scene, sample_scene
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES

_CHUNK = 500


def pool_scenes(split: str, count: int) -> list[Scene]:
    return [sample_scene(seed, split) for seed in range(count)]


def pool_pictures(folder: Path, split: str, count: int) -> np.ndarray:
    """The renders of the first `count` scenes of a split: a read-only memory map (count, SIDE, SIDE, 3) of uint8.

    Rendered once, on all cores, into `folder`; found there the next time.
    """
    path = folder / f"{split}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.partial")
        pictures = np.lib.format.open_memmap(
            unfinished, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3)
        )
        for first, chunk in _rendered(split, count):
            pictures[first : first + len(chunk)] = chunk
        pictures.flush()
        os.replace(unfinished, path)
    return np.load(path, mmap_mode="r")


def _rendered(split: str, count: int) -> Iterator[tuple[int, np.ndarray]]:
    firsts = range(0, count, _CHUNK)
    with ProcessPoolExecutor() as workers:
        yield from zip(
            firsts, workers.map(_render_chunk, ((split, first, count) for first in firsts)), strict=True
        )


def _render_chunk(task: tuple[str, int, int]) -> np.ndarray:
    split, first, count = task
    return np.stack([sample_scene(seed, split).render() for seed in range(first, min(first + _CHUNK, count))])


def as_pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 pictures (batch, height, width, 3) as floats in [-1, 1], (batch, 3, height, width), contiguous."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1.0


def object_labels(scenes: list[Scene]) -> torch.Tensor:
    """What each scene shows, as class numbers (scenes, 5): surface, then kind and colour of the left and right object.

    A scene with one object gives it as the left one, and -1 for the right.
    """
    colours = list(COLOURS)
    rows = []
    for scene in scenes:
        pairs = [(KINDS.index(item.kind), colours.index(item.colour)) for item in scene.objects]
        left, right = pairs[0], pairs[1] if len(pairs) > 1 else (-1, -1)
        rows.append((SURFACES.index(scene.surface), *left, *right))
    return torch.tensor(rows)
