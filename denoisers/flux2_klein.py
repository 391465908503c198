"""FLUX.2 klein."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from diffusers import Flux2Transformer2DModel

from semantic_edit.attention_processors.framed_tokens import FramedPrompt, TokenRange
from semantic_edit.attention_processors.joint import TokenLayout
from semantic_edit.denoisers.chat import ChatDenoiser
from semantic_edit.denoisers.denoiser import ENCODINGS, FRESH_NOISE
from semantic_edit.denoisers.flow_schedules import check_flow_scheduler, shift_of_steps
from semantic_edit.denoisers.transformer import TransformerComponents, latents_from, patches_of
from semantic_edit.disk.models import FLUX_2_KLEIN, Family
from semantic_edit.editing.conditioning import Conditioning


class Flux2KleinParts(TransformerComponents, Protocol):
    """The components of a FLUX.2 klein pipeline, and its config."""

    transformer: Flux2Transformer2DModel
    config: Any


@dataclass(frozen=True, eq=False)
class Flux2KleinDenoiser(ChatDenoiser):
    """A FLUX.2 klein model: latents whose statistics the VAE has for each place in a patch, text before picture.

    The latents are the VAE's, 8 pixels a side, normalised. diffusers' own pipeline holds the same numbers as patches of
    16 pixels a side, with four times the channels. All tokens of the text count, padding as well.
    """

    pipe: Flux2KleinParts

    family: ClassVar[Family] = FLUX_2_KLEIN
    layers_read: ClassVar[int] = 3
    scaling_factor = 1.0

    @property
    def is_step_distilled(self) -> bool:
        """Whether the model was distilled to a few steps, as the pipeline's config says."""
        return bool(self.pipe.config.get("is_distilled", False))

    @property
    def usual_guidance(self) -> float:  # type: ignore[override]
        """The base model's 4; distilled ones are not guided."""
        return 1.0 if self.is_step_distilled else 4.0

    @property
    def encodings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Step-distilled models cannot be walked backwards."""
        return (FRESH_NOISE,) if self.is_step_distilled else ENCODINGS

    def why_not(self, encoding: str) -> str:
        """See [`Denoiser.why_not`]."""
        return (
            "does not work with a step-distilled model (`is_distilled` is True in the pipeline's config): its few long "
            f'steps cannot be retraced. Edit with `encoding="{FRESH_NOISE}"`, its default, or use a FLUX.2 klein base '
            "model"
        )

    @property
    def text_width(self) -> int:
        """The width of the token embeddings that the transformer takes."""
        return self.transformer.config.joint_attention_dim

    def check(self) -> None:
        """Raise if a component is missing, or they do not belong together.

        Raises:
            ValueError: Saying which, and what to do.
        """
        self._check_components(("transformer", "vae", "scheduler"))
        check_flow_scheduler(self.pipe.scheduler)
        signs = {"guidance_embeds": "FLUX.2 dev has, which is guided by a number that it is told"}
        self._check_text_to_image(self.transformer.config, 4 * self.latent_channels, signs)
        self._check_text_width()

    def _check_vae(self) -> None:
        if not hasattr(self.pipe.vae, "bn"):
            raise ValueError(
                f"The `vae` is a {type(self.pipe.vae).__name__}, which has no statistics of its latents (`bn`); load "
                "the AutoencoderKLFlux2 of the model's folder."
            )

    def _shift(self, steps: int, tokens: int) -> float:
        return shift_of_steps(steps, tokens)

    def _framed(self, text: str) -> FramedPrompt:
        return FramedPrompt.of_user(self.pipe.tokenizer, text, enable_thinking=False)

    @property
    def _taken(self) -> TokenRange:
        return TokenRange(self.max_sequence_length)

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        embeds, _ = self.pipe.encode_prompt(
            [text for (text,) in texts], self.device, max_sequence_length=self.max_sequence_length
        )
        return Conditioning({"prompt_embeds": embeds})

    def _normalised(self, latents: torch.Tensor) -> torch.Tensor:
        mean, spread = self._statistics()
        return latents_from((patches_of(latents) - mean) / spread, *latents.shape[-2:])

    def _denormalised(self, latents: torch.Tensor) -> torch.Tensor:
        mean, spread = self._statistics()
        return latents_from(patches_of(latents) * spread + mean, *latents.shape[-2:])

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each number of a patch, (channels * 4,)."""
        vae = self.pipe.vae
        mean, variance = (one.to(self.device).float() for one in (vae.bn.running_mean, vae.bn.running_var))
        return mean, torch.sqrt(variance + vae.config.batch_norm_eps)

    def _velocity(
        self, network: Any, latents: torch.Tensor, times: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        height, width = latents.shape[-2:]
        text = given.prompt_embeds
        words = torch.arange(text.shape[1], device=text.device).unsqueeze(1)
        rows, columns = (torch.arange(side // self.patch, device=text.device) for side in (height, width))
        velocity = network(
            hidden_states=patches_of(latents).to(text.dtype),
            timestep=times.to(text.dtype) / 1000,
            guidance=None,
            encoder_hidden_states=text,
            # places are counted as (0, row, column, word)
            txt_ids=F.pad(words, (3, 0)).unsqueeze(0),
            img_ids=F.pad(torch.cartesian_prod(rows, columns), (1, 1)).unsqueeze(0),
            joint_attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0]
        return latents_from(velocity, height, width)

    def layout(self, latents: torch.Tensor, given: Conditioning) -> TokenLayout:
        """The text comes first, then the picture."""
        text = given.prompt_embeds.shape[1]
        length = text + self.num_image_tokens(tuple(latents.shape[-2:]))
        return TokenLayout(slice(text, length), slice(0, text), length)
