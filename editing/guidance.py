"""Classifier-free guidance, and what the numerics require of a denoising model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from semantic_edit.editing.conditioning import Conditioning


class Predictor(Protocol):
    """A denoising model, as the numerics see it."""

    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """The model's raw output for latents, (batch, channels, height, width) in float32; same shape and dtype."""

    def guide(
        self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: float | torch.Tensor
    ) -> torch.Tensor:
        """The guided prediction from two of the latents' shape; see `classifier_free_guidance`."""


@dataclass(frozen=True, eq=False)
class PromptPair:
    """What conditions the predictions of a batch.

    conditional: What to draw.
    unconditional: What to guide away from, one for each; `None` means no guidance.
    """

    conditional: Conditioning
    unconditional: Conditioning | None = None

    def repeat(self, copies: int) -> PromptPair:
        """Repeat each several times; copies are adjacent."""
        away = self.unconditional
        return PromptPair(self.conditional.repeat(copies), None if away is None else away.repeat(copies))

    def tensors(self) -> dict[str, torch.Tensor | None]:
        """All tensors under diffusers' names, in which unconditional ones begin with "negative_"."""
        away = {} if self.unconditional is None else self.unconditional.tensors
        return {
            **self.conditional.tensors,
            **{f"negative_{name}": away.get(name) for name in self.conditional.tensors},
        }

    def changed(self, tensors: Mapping[str, torch.Tensor | None]) -> PromptPair:
        """Replace the tensors that are named; `None` for a negative one ends guidance."""
        if not tensors.keys() & self.tensors().keys():
            return self
        now = {**self.tensors(), **tensors}
        names = self.conditional.tensors.keys()
        away = {name: now[f"negative_{name}"] for name in names}
        return PromptPair(
            Conditioning({name: now[name] for name in names}),  # type: ignore[misc]
            None if any(one is None for one in away.values()) else Conditioning(away),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Guidance:
    """How strongly the predictions of a batch are guided.

    scale: One for the whole batch, or one for each sample; at 1 or below there is no guidance.
    rescale: In [0, 1]; see `rescale_guidance`.
    stops: For each sample, the fraction of the whole schedule's steps, counted from the noisy end, that are guided; by
        default all. In steps that guide no sample, only the conditional half is evaluated.
    """

    scale: float | Sequence[float] = 7.5
    rescale: float = 0.0
    stops: Sequence[float] | None = None


def classifier_free_guidance(
    noise_pred_uncond: torch.Tensor, noise_pred_text: torch.Tensor, guidance_scale: float | torch.Tensor
) -> torch.Tensor:
    """Extrapolate from the unconditional prediction through the conditional one.

    Args:
        noise_pred_uncond, noise_pred_text: Of one shape.
        guidance_scale: A number, or a tensor that broadcasts to that shape.

    Source: arXiv:2207.12598, Eq. 6, with `guidance_scale` = 1 + w.
    """
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


def rescale_guidance(
    noise_pred: torch.Tensor, noise_pred_text: torch.Tensor, guidance_rescale: float
) -> torch.Tensor:
    """Bring the guided prediction's standard deviation back towards the conditional one's, image by image.

    Args:
        noise_pred: (batch, channels, height, width), after guidance.
        noise_pred_text: The conditional prediction, same shape.
        guidance_rescale: 0 leaves `noise_pred` as it is, 1 gives it the conditional prediction's standard deviation.

    Source: arXiv:2305.08891, Sec. 3.4.
    """
    if guidance_rescale == 0:
        return noise_pred
    dims = tuple(range(1, noise_pred.ndim))
    spread_text = noise_pred_text.std(dim=dims, keepdim=True)
    spread = noise_pred.std(dim=dims, keepdim=True)
    return noise_pred * (1 - guidance_rescale + guidance_rescale * spread_text / spread)


def predict_guided(
    predictor: Predictor,
    latents: torch.Tensor,
    timestep: float,
    prompts: PromptPair,
    scale: float | torch.Tensor | None = 1.0,
    rescale: float = 0.0,
) -> torch.Tensor:
    """One prediction, guided if there is something to guide away from; both halves go through the model together.

    Args:
        predictor: The model.
        latents: (batch, channels, height, width).
        timestep: Of all latents.
        prompts: One for each of the latents.
        scale: One for all, or (batch, 1, 1, 1); `None` gives the plain conditional prediction.
        rescale: See `rescale_guidance`.
    """
    if prompts.unconditional is None or scale is None:
        return predictor.predict(latents, timestep, prompts.conditional)
    both = Conditioning.cat([prompts.unconditional, prompts.conditional])
    unconditional, conditional = predictor.predict(torch.cat([latents, latents]), timestep, both).chunk(2)
    return rescale_guidance(predictor.guide(unconditional, conditional, scale), conditional, rescale)
