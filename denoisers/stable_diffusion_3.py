"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from diffusers import SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection, PreTrainedModel, PreTrainedTokenizerBase

from semantic_edit.attention_processors.joint import TokenLayout
from semantic_edit.denoisers.flow_schedules import check_flow_scheduler, schedule_of_flow, shift_of_size
from semantic_edit.denoisers.lora import restored_lora_scale
from semantic_edit.denoisers.pooled import POOLED_EMBEDS, PooledPrompts
from semantic_edit.denoisers.transformer import TransformerComponents, TransformerDenoiser
from semantic_edit.disk.models import STABLE_DIFFUSION_3, Family
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.frames import Size
from semantic_edit.editing.schedule import Schedule


class ThreeEncoderComponents(TransformerComponents, Protocol):
    """The components of a Stable Diffusion 3 pipeline."""

    transformer: SD3Transformer2DModel
    text_encoder_2: CLIPTextModelWithProjection | None
    tokenizer_2: PreTrainedTokenizerBase | None
    text_encoder_3: PreTrainedModel | None
    tokenizer_3: PreTrainedTokenizerBase | None


@dataclass(frozen=True, eq=False)
class StableDiffusion3Denoiser(PooledPrompts, TransformerDenoiser):
    """A Stable Diffusion 3 or 3.5 model: two CLIPs, a T5 that may be missing, and picture before text.

    Its conditionings hold "prompt_embeds", (batch, tokens, width), the CLIPs' tokens before T5's, and
    "pooled_prompt_embeds", (batch, width).
    """

    pipe: ThreeEncoderComponents
    max_sequence_length: int = 256

    family: ClassVar[Family] = STABLE_DIFFUSION_3
    usual_guidance = 7.0
    further_encoders: ClassVar[int] = 2

    @property
    def patch(self) -> int:
        """How many latents along each side make one token of the picture."""
        return self.transformer.config.patch_size

    @property
    def places(self) -> int | None:
        """As many as the transformer has positional embeddings along a side."""
        return self.transformer.config.pos_embed_max_size

    @property
    def own_size(self) -> Size:  # type: ignore[override]
        """The model's native width and height, in pixels."""
        return self._square_size(self.transformer.config.sample_size)

    @property
    def text_width(self) -> int:
        """The width of the token embeddings that the transformer takes."""
        return self.transformer.config.joint_attention_dim

    @property
    def pooled_width(self) -> int:
        """The width of the pooled embedding that the transformer takes."""
        return self.transformer.config.pooled_projection_dim

    def check(self) -> None:
        """Raise if a component is missing, or they do not belong together.

        Raises:
            ValueError: Saying which, and what to do.
        """
        self._check_components(("transformer", "vae", "scheduler"))
        check_flow_scheduler(self.pipe.scheduler)
        config = self.transformer.config
        if config.in_channels != self.latent_channels:
            raise ValueError(
                f"This `transformer` needs {config.in_channels} input channels where the VAE gives "
                f"{self.latent_channels}, as inpainting models do. Use a text-to-image Stable Diffusion 3 model."
            )
        encoders = self.pipe.text_encoder, self.pipe.text_encoder_2
        widths = [encoder.config.projection_dim for encoder in encoders if encoder is not None]
        if len(widths) == 2 and sum(widths) != self.pooled_width:
            raise ValueError(
                f"The `text_encoder` and `text_encoder_2` give pooled embeddings {widths[0]} + {widths[1]} wide, but "
                f"the transformer takes {self.pooled_width}: they are of different models. Load all from one model."
            )

    def schedule(self, num_inference_steps: int, latent_size: tuple[int, int] | None = None) -> Schedule:
        """The scheduler's own levels; their shift may depend on the picture's size."""
        self._check_places(latent_size)
        config = self.pipe.scheduler.config
        if not config.get("use_dynamic_shifting"):
            return schedule_of_flow(self.pipe.scheduler, num_inference_steps)
        told = {"max_shift": 1.16, **config}
        shift = shift_of_size(told, self.num_image_tokens(latent_size))
        return schedule_of_flow(self.pipe.scheduler, num_inference_steps, mu=shift)

    @property
    def _tokenizers(self) -> list[PreTrainedTokenizerBase | None]:
        third = None if self.pipe.text_encoder_3 is None else self.pipe.tokenizer_3
        return [self.pipe.tokenizer, self.pipe.tokenizer_2, third]

    def _length_for(self, tokenizer: PreTrainedTokenizerBase) -> int:
        is_third = tokenizer is self.pipe.tokenizer_3
        return self.max_sequence_length if is_third else super()._length_for(tokenizer)

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        pipe = self.pipe
        with ExitStack() as stack:
            for encoder in (pipe.text_encoder, pipe.text_encoder_2):
                stack.enter_context(restored_lora_scale(encoder))
            embeds, _, pooled, _ = pipe.encode_prompt(
                *([*column] for column in zip(*texts, strict=True)),
                self.device,
                1,
                False,
                clip_skip=clip_skip,
                max_sequence_length=self.max_sequence_length,
                lora_scale=(self.attention_kwargs or {}).get("scale"),
            )
        return Conditioning({"prompt_embeds": embeds, POOLED_EMBEDS: pooled})

    def _check_encoded(self, given: Conditioning) -> None:
        super()._check_encoded(
            given.map(lambda one: one[:, : -self.max_sequence_length] if one.ndim == 3 else one)
        )

    def _velocity(
        self, network: Any, latents: torch.Tensor, times: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        return network(
            hidden_states=latents.to(given.dtype),
            timestep=times,
            encoder_hidden_states=given.prompt_embeds,
            pooled_projections=given.tensors[POOLED_EMBEDS],
            joint_attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0]

    def layout(self, latents: torch.Tensor, given: Conditioning) -> TokenLayout:
        """The picture comes first, then the CLIPs' tokens, whose words are known, then T5's."""
        height, width = latents.shape[-2:]
        image = self.num_image_tokens((height, width))
        length = image + given.prompt_embeds.shape[1]
        return TokenLayout(slice(0, image), slice(image, image + self.num_text_tokens), length)
