"""What `learn_mappings` is given: a denoiser, the pictures to learn, and how to learn them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from semantic_edit.mapping_networks.mapping import VARIANTS
from semantic_edit.mapping_networks.settings import LearningSettings


class LearningDenoiser(Protocol):
    """The denoiser as learning sees it. A level is a noise level of the schedule; level 0 is the clean picture."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What the methods depend on besides their arguments (the model, the negative prompt …), by name.

        A checkpoint that was made under another identity is refused.
        """

    def evaluate(
        self, latents: torch.Tensor, level: int, value_embeds: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The conditional prediction for some of the pictures, differentiable in `value_embeds`.

        Args:
            latents: (rows, channels, height, width).
            value_embeds: (rows, text tokens, text width).
            rows: Indices of these pictures in the batch, (rows,).

        Returns:
            The prediction, (rows, channels, height, width), and the cross-attention maps to compare, (rows, ...) each.
        """

    def evaluate_unconditional(self, latents: torch.Tensor, level: int) -> torch.Tensor:
        """The unconditional prediction for all pictures, in the shape of `latents`; called once a step."""

    def step_back(self, latents: torch.Tensor, noise_pred: torch.Tensor, level: int) -> torch.Tensor:
        """The DDIM step from `level` to `level - 1`."""

    def source_maps(self, level: int) -> list[torch.Tensor]:
        """The maps that those of `evaluate` at `level` are compared with, (pictures, ...) each."""


@dataclass(frozen=True, eq=False)
class LearningInputs:
    """The pictures to learn.

    trajectory: The latents of their inversion, (levels + 1, pictures, channels, height, width), level 0 first.
    text_embeds: (pictures, text tokens, text width); value embeddings have its dtype.
    image_tokens: (pictures, image tokens, image width).
    negative_embeds: The negative prompt's, in the shape of `text_embeds`, if values are learned from between the two;
        see `value_embeds_of`.

    Raises:
        ValueError: If the shapes disagree.
    """

    trajectory: torch.Tensor
    text_embeds: torch.Tensor
    image_tokens: torch.Tensor
    negative_embeds: torch.Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.trajectory.shape)
        if len(shape) != 5 or shape[0] < 2:
            raise ValueError(
                "`trajectory` must have shape (levels + 1, pictures, channels, height, width) with at least one level, "
                f"got {shape}."
            )
        for name in ("text_embeds", "image_tokens"):
            tensor = getattr(self, name)
            if tensor.ndim != 3 or len(tensor) != shape[1]:
                raise ValueError(
                    f"`{name}` must have shape ({shape[1]}, tokens, width), a row for each picture of the trajectory, "
                    f"got {tuple(tensor.shape)}."
                )

        if self.negative_embeds is not None and self.negative_embeds.shape != self.text_embeds.shape:
            raise ValueError(
                f"`negative_embeds` must have the shape of `text_embeds`, {tuple(self.text_embeds.shape)}, got "
                f"{tuple(self.negative_embeds.shape)}."
            )

    def at_learning_precision(self) -> LearningInputs:
        """The same with trajectory and image tokens in float32 or better: at half precision updates would vanish."""
        dtype = torch.promote_types(self.trajectory.dtype, torch.float32)
        return replace(self, trajectory=self.trajectory.to(dtype), image_tokens=self.image_tokens.to(dtype))


@dataclass(frozen=True)
class LearningOptions:
    """How the pictures are learned.

    variant: "modulate" or "direct".
    guidance_scale: Guidance during learning; edits should use the same.
    settings: How long and how fast to learn.

    Raises:
        ValueError: If `variant` is neither.
    """

    variant: str = "modulate"
    guidance_scale: float = 7.5
    settings: LearningSettings = field(default_factory=LearningSettings.short)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")
