"""The objects of a still life: signed distance fields, traced once into sprites that scenes place and light.

A sprite is the view of one solid by an orthographic camera that is pitched down by `CAMERA_PITCH`: coverage, surface
normals, how much of each pixel has the object's own colour, the fixed colours of its accents (a stem, a stripe), and
ambient occlusion. The renderer adds light later, so one traced sprite serves for every colour, light and place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

CAMERA_PITCH = 0.42  # radians below the horizontal
POSES = 6  # traced views per kind
SPRITE_SIDE = 128  # pixels
SPRITE_EXTENT = 2.6  # object units along a sprite's side
SPRITE_BASE = 0.55  # object units below the base's centre that a sprite still includes
_SUPERSAMPLING = 2
_STEPS = 48

Array = np.ndarray
Field = Callable[[Array], Array]

_STEM = (0.33, 0.21, 0.12)
_LEAF = (0.22, 0.45, 0.16)
_STRIPE = (0.10, 0.10, 0.12)
_CORK = (0.20, 0.17, 0.16)


@dataclass(frozen=True)
class Solid:
    """A solid on the plane y = 0, about 1.6 units wide and at most 2 high; y points up and z towards the camera.

    body: Maps points, (..., 3), to signed distances.
    accents: The same for parts with fixed colours, each with its RGB colour.
    stripe: Which points of the body have the stripe's colour instead of the object's.
    """

    body: Field
    accents: tuple[tuple[Field, tuple[float, float, float]], ...] = ()
    stripe: Callable[[Array], Array] | None = None


@dataclass(frozen=True)
class Sprite:
    """The camera's view of a solid; arrays are (SPRITE_SIDE, SPRITE_SIDE, channels), premultiplied by coverage.

    channels: Coverage, normal x, y, z, share of the object's own colour, accent red, green, blue, occlusion.
    silhouette: The blurred coverage, for cast shadows; one channel.
    """

    channels: Array
    silhouette: Array


def _length(points: Array) -> Array:
    return np.sqrt(np.einsum("...i,...i->...", points, points))


def _turn(points: Array, yaw: float) -> Array:
    cosine, sine = np.cos(yaw), np.sin(yaw)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return np.stack([cosine * x - sine * z, y, sine * x + cosine * z], axis=-1)


def _smooth_union(first: Array, second: Array, radius: float) -> Array:
    share = np.clip(0.5 + 0.5 * (second - first) / radius, 0.0, 1.0)
    return second * (1 - share) + first * share - radius * share * (1 - share)


def _cylinder(points: Array, radius: float, low: float, high: float, rounding: float = 0.04) -> Array:
    across = np.hypot(points[..., 0], points[..., 2]) - radius + rounding
    along = np.abs(points[..., 1] - (low + high) / 2) - (high - low) / 2 + rounding
    outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
    return outside + np.minimum(np.maximum(across, along), 0) - rounding


def _capsule(points: Array, start: tuple[float, ...], end: tuple[float, ...], radius: float) -> Array:
    offset, axis = points - np.array(start), np.array(end) - np.array(start)
    share = np.clip(offset @ axis / (axis @ axis), 0.0, 1.0)
    return _length(offset - share[..., None] * axis) - radius


def _ellipsoid(points: Array, centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    scaled = (points - np.array(centre)) / np.array(radii)
    reach = _length(scaled)
    return reach * (reach - 1.0) / np.maximum(_length(scaled / np.array(radii)), 1e-6)


def _radial(points: Array, centre_height: float, angles: list[float], reaches: list[float]) -> Array:
    """A solid of revolution whose distance from the centre depends on the angle from straight up (radians)."""
    across, along = np.hypot(points[..., 0], points[..., 2]), points[..., 1] - centre_height
    angle = np.arctan2(across, along)
    knots, values = np.array(angles), np.array(reaches)
    fine = np.linspace(0, np.pi, 257)
    coarse = np.interp(fine, knots, values)
    kernel = np.hanning(41)
    smooth = np.convolve(np.pad(coarse, 20, mode="reflect"), kernel / kernel.sum(), mode="valid")
    return 0.75 * (np.hypot(across, along) - np.interp(angle, fine, smooth))


def _apple(pose: int) -> Solid:
    angles = [0.0, 0.25, 0.6, 1.1, 1.7, 2.4, 2.8, np.pi]
    reaches = [0.46, 0.60, 0.82, 0.86, 0.84, 0.76, 0.70, 0.64]
    lean = 0.10 * np.cos(pose)
    return Solid(
        body=lambda p: _radial(p, 0.70, angles, reaches),
        accents=(
            (lambda p: _capsule(p, (0.0, 1.1, 0.0), (lean, 1.62, 0.05), 0.055), _STEM),
            (lambda p: _ellipsoid(_turn(p, 1.1 * pose), (0.26, 1.50, 0.0), (0.27, 0.07, 0.13)), _LEAF),
        ),
    )


def _pear(pose: int) -> Solid:
    lean = 0.14 * np.sin(1.0 + 2.1 * pose)

    def body(points: Array) -> Array:
        bent = points - np.stack(
            [lean * np.maximum(points[..., 1] - 0.7, 0), *2 * [0 * points[..., 1]]], axis=-1
        )
        belly = _ellipsoid(bent, (0.0, 0.66, 0.0), (0.74, 0.68, 0.74))
        neck = _ellipsoid(bent, (0.0, 1.32, 0.0), (0.36, 0.50, 0.36))
        return 0.85 * _smooth_union(belly, neck, 0.34)

    tip = lean * 1.05
    stem = (lambda p: _capsule(p, (tip, 1.72, 0.0), (tip + 0.09, 2.02, 0.03), 0.05), _STEM)
    return Solid(body=body, accents=(stem,))


def _lemon(pose: int) -> Solid:
    yaw = (-0.5, -0.25, 0.0, 0.2, 0.4, 0.55)[pose]

    def body(points: Array) -> Array:
        turned = _turn(points, yaw)
        flesh = _ellipsoid(turned, (0.0, 0.58, 0.0), (0.80, 0.58, 0.58))
        tips = np.minimum(
            _ellipsoid(turned, (0.84, 0.60, 0.0), (0.24, 0.15, 0.15)),
            _ellipsoid(turned, (-0.82, 0.60, 0.0), (0.18, 0.16, 0.16)),
        )
        return 0.85 * _smooth_union(flesh, tips, 0.14)

    return Solid(body=body)


def _mug(pose: int) -> Solid:
    yaw = (0.0, 0.35, -0.35, np.pi, np.pi + 0.35, np.pi - 0.35)[pose]

    def body(points: Array) -> Array:
        wall = np.maximum(_cylinder(points, 0.62, 0.0, 1.35), -_cylinder(points, 0.51, 0.14, 2.0))
        turned = _turn(points, yaw)
        ring = np.hypot(turned[..., 0] - 0.66, (turned[..., 1] - 0.70) * 0.92)
        handle = np.hypot(ring - 0.37, turned[..., 2]) - 0.095
        inside = _cylinder(points, 0.56, -1.0, 3.0)
        return np.minimum(wall, np.maximum(handle, -inside))

    return Solid(body=body)


def _bowl(pose: int) -> Solid:
    depth = (0.82, 0.9, 0.98, 0.86, 0.94, 1.0)[pose]

    def body(points: Array) -> Array:
        flat = points * np.array([1.0, 1 / depth, 1.0]) - np.array([0.0, 0.98, 0.0])
        shell = np.abs(_length(flat) - 0.92) - 0.055
        cup = np.maximum(shell, points[..., 1] - 0.92 * depth)
        return 0.8 * np.minimum(cup, _cylinder(points, 0.42, 0.0, 0.16))

    return Solid(body=body)


def _bottle(pose: int) -> Solid:
    girth = (0.44, 0.47, 0.50, 0.45, 0.48, 0.52)[pose]

    def body(points: Array) -> Array:
        belly = _cylinder(points, girth, 0.0, 1.12, 0.16)
        neck = _cylinder(points, 0.165, 0.8, 1.78, 0.03)
        return 0.9 * _smooth_union(belly, neck, 0.24)

    return Solid(body=body, accents=((lambda p: _cylinder(p, 0.20, 1.72, 1.98, 0.03), _CORK),))


def _cube(pose: int) -> Solid:
    yaw = (0.35, 0.55, 0.7, 0.9, 1.1, 1.25)[pose]

    def body(points: Array) -> Array:
        offset = np.abs(_turn(points, yaw) - np.array([0.0, 0.58, 0.0])) - 0.54
        return _length(np.maximum(offset, 0)) + np.minimum(offset.max(-1), 0) - 0.04

    return Solid(body=body)


def _ball(pose: int) -> Solid:
    centre = np.array([0.0, 0.80, 0.0])
    tilt, nod = (-1.0, -0.6, -0.2, 0.25, 0.6, 1.0)[pose], (0.15, -0.1, 0.2, 0.1, 0.2, -0.1)[pose]
    upright = np.array([0.0, np.cos(CAMERA_PITCH), -np.sin(CAMERA_PITCH)])  # up, as the camera sees it
    toward_camera = np.array([0.0, np.sin(CAMERA_PITCH), np.cos(CAMERA_PITCH)])
    axis = np.cos(tilt) * upright + np.array([np.sin(tilt), 0.0, 0.0]) + nod * toward_camera

    def striped(points: Array) -> Array:
        return np.abs((points - centre) @ axis) < 0.19

    return Solid(body=lambda p: _length(p - centre) - 0.80, stripe=striped)


_MAKERS: dict[str, Callable[[int], Solid]] = {
    "apple": _apple,
    "pear": _pear,
    "lemon": _lemon,
    "mug": _mug,
    "bowl": _bowl,
    "bottle": _bottle,
    "cube": _cube,
    "ball": _ball,
}
KINDS: tuple[str, ...] = tuple(_MAKERS)


@cache
def sprite(kind: str, pose: int) -> Sprite:
    """Trace one view of a kind of object, `pose` 0 … POSES - 1; takes a tenth of a second, once per process."""
    solid = _MAKERS[kind](pose)
    shapes: list[Field] = [solid.body, *(field for field, _ in solid.accents)]

    def nearest(points: Array) -> Array:
        return np.min([shape(points) for shape in shapes], axis=0)

    side = SPRITE_SIDE * _SUPERSAMPLING
    steps = (np.arange(side) + 0.5) / side * SPRITE_EXTENT
    screen_x, screen_y = np.meshgrid(steps - SPRITE_EXTENT / 2, SPRITE_EXTENT - SPRITE_BASE - steps)
    pitch_sine, pitch_cosine = np.sin(CAMERA_PITCH), np.cos(CAMERA_PITCH)
    toward_camera = np.array([0.0, pitch_sine, pitch_cosine])
    origins = np.stack([screen_x, screen_y * pitch_cosine, -screen_y * pitch_sine], axis=-1).reshape(-1, 3)
    hit, points = _march(nearest, origins + 2.5 * toward_camera, -toward_camera)

    channels = np.zeros((side * side, 9), dtype=np.float64)
    channels[hit, 0] = 1.0
    channels[hit, 1:4] = normals = _gradient(nearest, points)
    own = np.argmin([shape(points) for shape in shapes], axis=0)
    plain = own == 0
    if solid.stripe is not None:
        striped = plain & solid.stripe(points)
        plain &= ~striped
        channels[np.flatnonzero(hit)[striped], 5:8] = _STRIPE
    channels[hit, 4] = plain
    for index, (_, colour) in enumerate(solid.accents, start=1):
        channels[np.flatnonzero(hit)[own == index], 5:8] = colour
    # Less light reaches what is close to the table.
    floor = np.clip(points[:, 1] / 0.35 + 0.45, 0.0, 1.0)
    channels[hit, 8] = floor * np.clip(nearest(points + 0.35 * normals) / 0.35, 0.25, 1.0)

    fine = channels.reshape(SPRITE_SIDE, _SUPERSAMPLING, SPRITE_SIDE, _SUPERSAMPLING, 9)
    small = fine.mean(axis=(1, 3)).astype(np.float32)
    return Sprite(channels=small, silhouette=_blurred(small[..., :1], 9))


def _march(field: Field, origins: Array, direction: Array) -> tuple[Array, Array]:
    """Sphere tracing: which rays hit, (rays,) booleans, and the points where they do, (hits, 3)."""
    travelled = np.zeros(len(origins))
    going = np.arange(len(origins))
    hit = np.zeros(len(origins), dtype=bool)
    for _ in range(_STEPS):
        distance = field(origins[going] + travelled[going, None] * direction)
        travelled[going] += distance
        hit[going] = distance < 4e-3
        going = going[(distance >= 4e-3) & (travelled[going] < 5.0)]
        if not len(going):
            break
    return hit, origins[hit] + travelled[hit, None] * direction


def _gradient(field: Field, points: Array, step: float = 5e-3) -> Array:
    offsets = np.eye(3) * step
    slopes = np.stack([field(points + offset) - field(points - offset) for offset in offsets], axis=-1)
    return slopes / np.maximum(_length(slopes)[:, None], 1e-9)


def _blurred(image: Array, width: int) -> Array:
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    for axis in (0, 1):
        image = np.apply_along_axis(np.convolve, axis, image, kernel, mode="same")
    return image.astype(np.float32)
