"""From a scene to pixels: a textured surface in front of a wall, and lit sprites with their shadows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from semantic_edit.still_life.solids import CAMERA_PITCH, SPRITE_BASE, SPRITE_EXTENT, SPRITE_SIDE, sprite
from semantic_edit.still_life.surfaces import TEXTURE_SIDE, mean_colour, texture

if TYPE_CHECKING:
    from semantic_edit.still_life.scenes import Scene, SceneObject

SIDE = 128  # pixels
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.09, 0.09),
    "orange": (0.95, 0.48, 0.06),
    "yellow": (0.95, 0.84, 0.12),
    "green": (0.16, 0.58, 0.18),
    "blue": (0.12, 0.28, 0.80),
    "purple": (0.46, 0.16, 0.62),
    "pink": (0.96, 0.52, 0.68),
    "white": (0.93, 0.92, 0.90),
}

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class _Canvas:
    """Where each pixel's centre lies in a scene of SIDE x SIDE units; a unit is `scale` pixels."""

    rows: Array
    columns: Array
    scale: int


@cache
def _canvas(scale: int) -> _Canvas:
    rows, columns = (np.mgrid[0 : SIDE * scale, 0 : SIDE * scale].astype(np.float32) + 0.5) / np.float32(
        scale
    )
    return _Canvas(rows, columns, scale)


def render(scene: Scene, scale: int = 1) -> Array:
    """The scene in RGB, uint8, (SIDE * scale, SIDE * scale, 3)."""
    canvas = _canvas(scale)
    image = _backdrop(scene, canvas, _surface(scene, canvas))
    bounce = mean_colour(scene.surface)
    for item in _far_to_near(scene):
        image = image * (1 - _shadow(scene, canvas, item)[..., None])
    for item in _far_to_near(scene):
        (rows, columns), channels = _placed(canvas, item)
        coverage = channels[..., :1]
        image[rows, columns] = image[rows, columns] * (1 - coverage) + _lit(scene, item, channels, bounce)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def object_masks(scene: Scene) -> Array:
    """Where each object is visible: (objects, SIDE, SIDE) booleans, in the order of `scene.objects`."""
    masks = np.zeros((len(scene.objects), SIDE, SIDE), dtype=bool)
    for index, item in sorted(enumerate(scene.objects), key=lambda pair: pair[1].base):
        (rows, columns), channels = _placed(_canvas(1), item)
        seen = channels[..., 0] > 0.5
        masks[:, rows, columns] &= ~seen
        masks[index, rows, columns] |= seen
    return masks


def _far_to_near(scene: Scene) -> list[SceneObject]:
    return sorted(scene.objects, key=lambda item: item.base)


def _light(scene: Scene) -> Array:
    """The direction towards the light, a unit vector; x is right, y up, z towards the camera."""
    direction = np.array([np.sin(scene.light_angle), 1.15, np.cos(scene.light_angle)])
    return (direction / np.linalg.norm(direction)).astype(np.float32)


def _bilinear(source: Array, rows: Array, columns: Array) -> Array:
    """Interpolate `source`, (height, width, channels); indices must leave room for the next row and column."""
    low_row, low_column = rows.astype(np.intp), columns.astype(np.intp)
    down, right = (rows - low_row)[..., None], (columns - low_column)[..., None]
    flat, stride = source.reshape(-1, source.shape[-1]), source.shape[1]
    corner = low_row * stride + low_column
    top = flat.take(corner, axis=0) * (1 - right) + flat.take(corner + 1, axis=0) * right
    bottom = flat.take(corner + stride, axis=0) * (1 - right) + flat.take(corner + stride + 1, axis=0) * right
    return top * (1 - down) + bottom * down


def _surface(scene: Scene, canvas: _Canvas) -> Array:
    """The textured surface in slight perspective, as if it filled the picture."""
    vanishing_row = scene.horizon - 70.0
    depth = 100.0 / np.maximum(canvas.rows - vanishing_row, 1.0)
    across = (canvas.columns - SIDE / 2) * depth * 1.1 + scene.texture_offset[0]
    away = -190.0 * depth + scene.texture_offset[1]
    return _bilinear(texture(scene.surface), away % TEXTURE_SIDE, across % TEXTURE_SIDE)


def _backdrop(scene: Scene, canvas: _Canvas, surface: Array) -> Array:
    side = float(np.sin(scene.light_angle))
    glow = 1.0 + 0.10 * side * (canvas.columns - SIDE / 2) / SIDE
    nearness = np.clip((canvas.rows - scene.horizon) / (SIDE - scene.horizon), 0, 1)
    ground = surface * (glow * (0.86 + 0.16 * nearness))[..., None]
    wall = (
        np.array([0.80, 0.77, 0.72], np.float32)
        * scene.wall_tone
        * (glow * (0.92 + 0.10 * canvas.rows / SIDE))[..., None]
    )
    below = _on_table(scene, canvas)[..., None]
    # less light reaches the seam
    dim = 1.0 - 0.25 * np.exp(-np.abs(canvas.rows - scene.horizon) / 2.5)[..., None]
    return ((wall * (1 - below) + ground * below) * dim).astype(np.float32)


def _placed(canvas: _Canvas, item: SceneObject) -> tuple[tuple[slice, slice], Array]:
    """The window of the picture that an object's sprite covers, and the sprite's channels resampled to it."""
    width, height = item.size * item.stretch, item.size
    top, bottom = item.base - (SPRITE_EXTENT - SPRITE_BASE) * height, item.base + SPRITE_BASE * height
    left, right = item.x - SPRITE_EXTENT / 2 * width, item.x + SPRITE_EXTENT / 2 * width
    rows, columns = (
        slice(max(int(low * canvas.scale), 0), min(int(high * canvas.scale) + 1, SIDE * canvas.scale))
        for low, high in ((top, bottom), (left, right))
    )
    sprite_rows = (canvas.rows[rows, columns] - top) / height * SPRITE_SIDE / SPRITE_EXTENT - 0.5
    sprite_columns = (canvas.columns[rows, columns] - left) / width * SPRITE_SIDE / SPRITE_EXTENT - 0.5
    limit = SPRITE_SIDE - 1.001
    channels = sprite(item.kind, item.pose).channels
    return (rows, columns), _bilinear(channels, sprite_rows.clip(0, limit), sprite_columns.clip(0, limit))


def _lit(scene: Scene, item: SceneObject, channels: Array, bounce: Array) -> Array:
    """Lambert and Blinn-Phong shading with light from the sky and light reflected by the surface; premultiplied RGB."""
    coverage = np.maximum(channels[..., 0], 1e-4)
    normals = channels[..., 1:4] / coverage[..., None]
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-4)
    light, camera = _light(scene), np.array([0.0, np.sin(CAMERA_PITCH), np.cos(CAMERA_PITCH)], np.float32)
    halfway = (light + camera) / np.linalg.norm(light + camera)
    occlusion = channels[..., 8] / coverage
    direct = np.clip(normals @ light, 0, 1) * (0.35 + 0.65 * occlusion)
    sky = (0.36 + 0.20 * normals[..., 1]) * occlusion
    bounced = np.clip(0.35 - 0.65 * normals[..., 1], 0, 1)[..., None] * occlusion[..., None] * bounce * 0.22
    albedo = channels[..., 4:5] * np.array(COLOURS[item.colour], np.float32) * item.tone + channels[..., 5:8]
    gloss = np.clip(normals @ halfway, 0, 1) ** 40 * 0.45 * occlusion
    shaded = albedo * ((0.72 * direct + sky)[..., None] + bounced)
    return (shaded + (gloss * channels[..., 0])[..., None]).astype(np.float32)


def _on_table(scene: Scene, canvas: _Canvas) -> Array:
    """1 below the horizon and 0 above it; where it crosses a pixel, the part of the pixel that lies below."""
    return np.clip((canvas.rows - scene.horizon) * canvas.scale + 0.5, 0, 1)


def _shadow(scene: Scene, canvas: _Canvas, item: SceneObject) -> Array:
    """The fraction of light that an object keeps from each pixel, in [0, 1).

    The cast shadow is the object's silhouette on a plane through the object that faces the light, projected onto the
    table; the contact shadow is a soft ellipse around the base.
    """
    x = (canvas.columns - item.x) / (item.size * item.stretch)
    z = (canvas.rows - item.base) / (item.size * float(np.sin(CAMERA_PITCH)))
    light = _light(scene)
    reach = float(np.hypot(light[0], light[2]))
    toward, across = (x * light[0] + z * light[2]) / reach, (x * light[2] - z * light[0]) / reach
    height = (-toward + 0.15) * light[1] / reach * float(np.cos(CAMERA_PITCH))
    rows = (SPRITE_EXTENT - SPRITE_BASE - height) / SPRITE_EXTENT * SPRITE_SIDE - 0.5
    columns = (across / SPRITE_EXTENT + 0.5) * SPRITE_SIDE - 0.5
    limit = SPRITE_SIDE - 1.001
    silhouette = sprite(item.kind, item.pose).silhouette
    cast = _bilinear(silhouette, rows.clip(0, limit), columns.clip(0, limit))[..., 0] * (height > -0.2)
    contact = np.exp(-2.2 * (x**2 + z**2))
    return (1 - (1 - 0.42 * cast * np.exp(-0.35 * np.maximum(height, 0))) * (1 - 0.45 * contact)) * _on_table(
        scene, canvas
    )
