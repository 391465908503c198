"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.utils import scale_lora_layers, unscale_lora_layers

from semantic_edit.denoisers.lora import restored_lora_scale
from semantic_edit.denoisers.unet import UNetDenoiser
from semantic_edit.disk.models import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family, unserved
from semantic_edit.editing.conditioning import Conditioning


@dataclass(frozen=True, eq=False)
class StableDiffusionDenoiser(UNetDenoiser):
    """A Stable Diffusion 1.x or 2.x model: one text encoder, and a UNet that is conditioned only on its text."""

    family: ClassVar[Family] = STABLE_DIFFUSION
    usual_guidance = 7.5

    def check(self) -> None:
        """Raise if a component is missing, or the UNet needs more than latents, a timestep and text.

        Raises:
            ValueError: If there is no UNet, VAE or scheduler, the UNet is of another family (inpainting, SDXL, latent
                consistency, ...), an IP-Adapter is loaded, or the text encoder has a different width.
        """
        self._check_components(("unet", "vae", "scheduler"))
        config, encoder, name = self.unet.config, self.pipe.text_encoder, type(self.pipe).__name__
        needs = self._foreign_needs()
        if needs is None and config.get("addition_embed_type") == "text_time":
            raise ValueError(f"This `unet` {unserved(name, STABLE_DIFFUSION_XL, (name, self.family))}.")
        if needs is None and (
            config.get("addition_embed_type") is not None or config.get("encoder_hid_dim_type") is not None
        ):
            needs = "further embeddings, as Kandinsky's do"
        if needs is not None:
            raise ValueError(
                f"This `unet` needs {needs}. Use a text-to-image Stable Diffusion 1.x or 2.x model."
            )
        widths = self.text_widths
        if encoder is not None and widths != {encoder.config.hidden_size}:
            raise ValueError(
                f"The `text_encoder` gives embeddings {encoder.config.hidden_size} wide, but the UNet's cross "
                f"attention takes {', '.join(map(str, sorted(widths)))}: they are of different models. Stable "
                "Diffusion 1.x has 768, 2.x 1024. Load both from one model."
            )

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        with restored_lora_scale(self.pipe.text_encoder):
            return Conditioning({"prompt_embeds": self._embeds_of([one for (one,) in texts], clip_skip)})

    def _embeds_of(self, texts: list[str], clip_skip: int | None) -> torch.Tensor:
        """(texts, tokens, width), by diffusers' `encode_prompt` wherever that works."""
        pipe, encoder = self.pipe, self.pipe.text_encoder
        lora_scale = (self.cross_attention_kwargs or {}).get("scale")
        if clip_skip is None or hasattr(encoder, "text_model"):
            options: dict[str, Any] = {"lora_scale": lora_scale, "clip_skip": clip_skip}
            return pipe.encode_prompt(texts, self.device, 1, False, **options)[0]
        # transformers 5 merged the text model with its wrapper, but diffusers' clip_skip still expects the inner one
        inputs = pipe.tokenizer(  # type: ignore[misc]
            pipe.maybe_convert_prompt(texts, pipe.tokenizer),
            padding="max_length",
            max_length=pipe.tokenizer.model_max_length,  # type: ignore[union-attr]
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        masked = getattr(encoder.config, "use_attention_mask", False)  # type: ignore[union-attr]
        try:
            if lora_scale is not None:
                scale_lora_layers(encoder, lora_scale)
            hidden_states = encoder(  # type: ignore[misc]
                inputs.input_ids,
                attention_mask=inputs.attention_mask if masked else None,
                output_hidden_states=True,
            ).hidden_states
        finally:
            if lora_scale is not None:
                unscale_lora_layers(encoder, lora_scale)
        return encoder.final_layer_norm(hidden_states[-(clip_skip + 1)])  # type: ignore[union-attr]
