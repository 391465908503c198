"""Pools of rendered scenes that training draws from: pictures on disk, captions and labels in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from semantic_edit.disk.writing import file_to_fill
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.scenes import Scene, sample_scene
from semantic_edit.still_life.solids import KINDS
from semantic_edit.still_life.surfaces import SURFACES

_CHUNK = 500


def pool_scenes(split: str, count: int) -> list[Scene]:
    return [sample_scene(seed, split) for seed in range(count)]


def pool_images(folder: Path, split: str, count: int) -> np.ndarray:
    """The renders of the first `count` scenes of a split: a read-only memory map (count, SIDE, SIDE, 3) of uint8.

    Rendered once, on all cores, into `folder`; found there the next time.
    """
    return _pooled(folder / f"{split}-{count}.npy", Scene.render, split, count)


def pool_coverage(folder: Path, split: str, count: int) -> torch.Tensor:
    """How much of each latent cell the left and the right object of a scene cover, float16, (count, 2, 16, 16)."""
    return torch.from_numpy(
        np.array(_pooled(folder / f"{split}-{count}-coverage.npy", _coverage, split, count))
    )


def _coverage(scene: Scene) -> np.ndarray:
    masks = np.zeros((2, SIDE, SIDE), dtype=np.float16)
    masks[: len(scene.objects)] = scene.object_masks()
    return masks.reshape(2, SIDE // 8, 8, SIDE // 8, 8).mean(axis=(2, 4))


def _pooled(path: Path, draw: Callable[[Scene], np.ndarray], split: str, count: int) -> np.ndarray:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        one = draw(sample_scene(0, split))
        shape = (count, *one.shape)
        with file_to_fill(path) as unfinished:  # more than fits into memory
            pool = np.lib.format.open_memmap(unfinished, mode="w+", dtype=one.dtype, shape=shape)
            for first, chunk in _drawn(draw, split, count):
                pool[first : first + len(chunk)] = chunk
            pool.flush()
    return np.load(path, mmap_mode="r")


def _drawn(draw: Callable[[Scene], np.ndarray], split: str, count: int) -> Iterator[tuple[int, np.ndarray]]:
    firsts = range(0, count, _CHUNK)
    with ProcessPoolExecutor() as workers:
        tasks = ((draw, split, first, count) for first in firsts)
        yield from zip(firsts, workers.map(_draw_chunk, tasks), strict=True)


def _draw_chunk(task: tuple[Callable[[Scene], np.ndarray], str, int, int]) -> np.ndarray:
    draw, split, first, count = task
    return np.stack([draw(sample_scene(seed, split)) for seed in range(first, min(first + _CHUNK, count))])


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
