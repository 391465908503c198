"""What the laws need to know of a family of rectified flows besides what the package knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiffusionPipeline


def _as_it_is(call: dict[str, Any]) -> dict[str, Any]:
    return call


def _by_name(_: DiffusionPipeline, negative: str) -> dict[str, Any]:
    return {"negative_prompt": negative}


def _unchanged(latents: torch.Tensor, _: Any) -> torch.Tensor:
    return latents


@dataclass(frozen=True)
class FlowFamily:
    """A family, by a tiny model of it.

    edit: The class of ours.
    make: Makes diffusers' own pipeline of a tiny model; keyword arguments replace components.
    size: Width and height in pixels of a small picture for it.
    guidance: Of ours and of diffusers' own call alike, so that both guide.
    own_guidance: What diffusers' own call is told instead, if it has other names or counts differently.
    own: Further arguments of diffusers' own call.
    own_negative: How diffusers' own call is told a negative prompt.
    called: Further arguments of ours.
    packed, unpacked: Between our latents, (batch, channels, height, width), and those that diffusers' own loop has; the
        latter is also given latents of ours, for their shape.
    received: Of an evaluation's arguments by name, those that count: without padding that a mask leaves out.
    guides: Whether it guides away from a negative prompt.
    encodes: Whether its pictures can be encoded by inversion.
    """

    name: str
    edit: type[DiffusionPipeline]
    make: Callable[..., DiffusionPipeline]
    size: tuple[int, int] = (64, 48)
    guidance: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": 4.0})
    own_guidance: Mapping[str, Any] | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    own_negative: Callable[[DiffusionPipeline, str], dict[str, Any]] = _by_name
    called: Mapping[str, Any] = field(default_factory=dict)
    packed: Callable[[torch.Tensor, DiffusionPipeline], torch.Tensor] = _unchanged
    unpacked: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = _unchanged
    received: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_is
    guides: bool = True
    encodes: bool = True

    def __str__(self) -> str:
        return self.name
