"""FLUX.1: dev, which is guided by a number, and schnell, which takes a few long steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from diffusers import FluxTransformer2DModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from semantic_edit.attention_processors.joint import TokenLayout
from semantic_edit.denoisers.denoiser import ENCODINGS, FRESH_NOISE
from semantic_edit.denoisers.flow_schedules import check_flow_scheduler
from semantic_edit.denoisers.lora import restored_lora_scale
from semantic_edit.denoisers.pooled import POOLED_EMBEDS, PooledPrompts
from semantic_edit.denoisers.prompts import Prompt
from semantic_edit.denoisers.transformer import (
    TransformerComponents,
    TransformerDenoiser,
    latents_from,
    patches_of,
)
from semantic_edit.disk.models import FLUX, Family
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.frames import Size

OWN_SIDE = 128  # latents; the transformer's config does not tell


class FluxModules(TransformerComponents, Protocol):
    """The components of a FLUX.1 pipeline."""

    transformer: FluxTransformer2DModel
    text_encoder_2: PreTrainedModel | None
    tokenizer_2: PreTrainedTokenizerBase | None


@dataclass(frozen=True, eq=False)
class FluxDenoiser(PooledPrompts, TransformerDenoiser):
    """A FLUX.1 model: a CLIP for the pooled embedding, a T5 for the tokens, and text before picture.

    Its conditionings hold "prompt_embeds", (batch, tokens, width), and "pooled_prompt_embeds", (batch, width).

    guidance_scale: The number by which the model is guided in one evaluation; step-distilled ones are not told it.
    """

    pipe: FluxModules
    guidance_scale: float = 3.5

    family: ClassVar[Family] = FLUX
    encoder_of_words: ClassVar[int] = 1
    usual_guidance = 1.0  # away from a negative prompt
    flow_edit_scales = (1.5, 5.5)
    further_encoders: ClassVar[int] = 1

    @property
    def is_step_distilled(self) -> bool:
        """Whether the model was distilled to a few steps, as schnell was: its transformer has
        `guidance_embeds=False`, while dev and what is made from it are told a guidance scale."""
        return not self.transformer.config.guidance_embeds

    @property
    def encodings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those that the model allows, the default first."""
        return (FRESH_NOISE,) if self.is_step_distilled else ENCODINGS

    def why_not(self, encoding: str) -> str:
        """See [`Denoiser.why_not`]."""
        return (
            "does not work with a step-distilled model (FLUX.1 schnell: its transformer has guidance_embeds=False): it "
            "was trained to leap to a picture in a few steps, so its velocities lead neither back nor on in small "
            f'steps. Edit with `encoding="{FRESH_NOISE}"`, its default, or use FLUX.1 dev'
        )

    @property
    def own_size(self) -> Size:  # type: ignore[override]
        """The model's native width and height, in pixels."""
        return self._square_size(OWN_SIDE)

    @property
    def text_width(self) -> int:
        """The width of the token embeddings that the transformer takes."""
        return self.transformer.config.joint_attention_dim

    @property
    def pooled_width(self) -> int:
        """The width of the pooled embedding that the transformer takes."""
        return self.transformer.config.pooled_projection_dim

    @property
    def num_text_tokens(self) -> int:
        """The number of tokens that T5 pads or truncates a prompt to."""
        return self.max_sequence_length

    def check(self) -> None:
        """Raise if a component is missing, or they do not belong together.

        Raises:
            ValueError: Saying which, and what to do.
        """
        self._check_components(("transformer", "vae", "scheduler"))
        check_flow_scheduler(self.pipe.scheduler)
        taken, wanted = self.transformer.config.in_channels, self.latent_channels * self.patch**2
        if taken != wanted:
            raise ValueError(
                f"This `transformer` takes {taken} channels where {wanted} belong to the VAE's latents: those of "
                "FLUX.1 Fill, Depth and Canny take a picture or a mask beside them. Use FLUX.1 dev or schnell."
            )
        if getattr(self.transformer, "encoder_hid_proj", None) is not None:
            raise ValueError(
                "This `transformer` needs an IP-Adapter's image; call `unload_ip_adapter()` on the pipeline that "
                "loaded it."
            )
        for name, encoder, given, expected in (
            ("text_encoder", self.pipe.text_encoder, "hidden_size", self.pooled_width),
            ("text_encoder_2", self.pipe.text_encoder_2, "d_model", self.text_width),
        ):
            width = expected if encoder is None else getattr(encoder.config, given, expected)
            if width != expected:
                raise ValueError(
                    f"The `{name}` gives embeddings {width} wide, but the transformer takes {expected}: they are of "
                    "different models. Load both from one model."
                )

    def for_encoding(self) -> FluxDenoiser:
        """The same model, told a guidance scale of 1."""
        return replace(self, guidance_scale=1.0)

    def guided(self, scale: float) -> tuple[FluxDenoiser, float]:
        """The same model, told this guidance scale; nothing is left over."""
        return replace(self, guidance_scale=scale), 1.0

    @property
    def _tokenizers(self) -> list[PreTrainedTokenizerBase | None]:
        return [self.pipe.tokenizer, self.pipe.tokenizer_2]

    def _tokenizing(self, prompt: Prompt) -> list[tuple[str, Sequence[str], list[PreTrainedTokenizerBase]]]:
        # of a text that both read, CLIP's pooled embedding needs no more than the beginning
        return [(name, texts, readers[-1:]) for name, texts, readers in super()._tokenizing(prompt)]

    def _length_for(self, tokenizer: PreTrainedTokenizerBase) -> int:
        is_second = tokenizer is self.pipe.tokenizer_2
        return self.max_sequence_length if is_second else super()._length_for(tokenizer)

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        pipe = self.pipe
        with restored_lora_scale(pipe.text_encoder), restored_lora_scale(pipe.text_encoder_2):
            embeds, pooled, _ = pipe.encode_prompt(
                *([*column] for column in zip(*texts, strict=True)),
                device=self.device,
                max_sequence_length=self.max_sequence_length,
                lora_scale=(self.attention_kwargs or {}).get("scale"),
            )
        return Conditioning({"prompt_embeds": embeds, POOLED_EMBEDS: pooled})

    def _velocity(
        self, network: Any, latents: torch.Tensor, times: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        height, width = latents.shape[-2:]
        text, guidance = given.prompt_embeds, None
        if not self.is_step_distilled:
            guidance = torch.full_like(times, self.guidance_scale)
        velocity = network(
            hidden_states=patches_of(latents).to(text.dtype),
            timestep=times.to(text.dtype) / 1000,
            guidance=guidance,
            pooled_projections=given.tensors[POOLED_EMBEDS],
            encoder_hidden_states=text,
            txt_ids=text.new_zeros(text.shape[1], 3),
            img_ids=positions_of(height // self.patch, width // self.patch, text.device).to(text.dtype),
            joint_attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0]
        return latents_from(velocity, height, width)

    def layout(self, latents: torch.Tensor, given: Conditioning) -> TokenLayout:
        """T5's tokens come first, then the picture."""
        text = given.prompt_embeds.shape[1]
        length = text + self.num_image_tokens(tuple(latents.shape[-2:]))
        return TokenLayout(slice(text, length), slice(0, text), length)


def positions_of(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """The places of a picture's tokens as the transformer counts them, (tokens, 3): 0, the row and the column."""
    counted = torch.arange(rows * columns, device=device)
    return torch.stack([torch.zeros_like(counted), counted // columns, counted % columns], dim=1)
