"""Qwen-Image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from diffusers import QwenImageTransformer2DModel

from semantic_edit.attention_processors.framed_tokens import FramedPrompt, TokenRange
from semantic_edit.attention_processors.joint import TokenLayout
from semantic_edit.denoisers.chat import ChatDenoiser
from semantic_edit.denoisers.flow_schedules import check_flow_scheduler
from semantic_edit.denoisers.padded_text import TEXT_MASK, check_mask, masked_text
from semantic_edit.denoisers.prompts import Prompt, PromptInput
from semantic_edit.denoisers.transformer import TransformerComponents, latents_from, patches_of
from semantic_edit.disk.models import QWEN_IMAGE, Family
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import check_finite

OF_OTHER_QWENS = {
    "guidance_embeds": "models do into which guidance is distilled, which no published Qwen-Image is",
    "zero_cond_t": "Qwen-Image-Edit has, which takes a picture beside the text",
    "use_additional_t_cond": "Qwen-Image-Layered has, which paints several layers at once",
    "use_layer3d_rope": "Qwen-Image-Layered has, which paints several layers at once",
}


class QwenImageParts(TransformerComponents, Protocol):
    """The components of a Qwen-Image pipeline."""

    transformer: QwenImageTransformer2DModel
    prompt_template_encode: str
    prompt_template_encode_start_idx: int
    tokenizer_max_length: int


@dataclass(frozen=True, eq=False)
class QwenImageDenoiser(ChatDenoiser):
    """A Qwen-Image model: a VAE of videos with one frame, text before picture, guidance that keeps tokens' norms."""

    pipe: QwenImageParts

    family: ClassVar[Family] = QWEN_IMAGE
    usual_guidance = 4.0
    scaling_factor = 1.0

    @property
    def latent_channels(self) -> int:  # type: ignore[override]
        """Number of channels of the latents."""
        return self.pipe.vae.config.z_dim

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
        self._check_text_to_image(self.transformer.config, 4 * self.latent_channels, OF_OTHER_QWENS)
        self._check_text_width()

    def _check_vae(self) -> None:
        vae = self.pipe.vae
        if any(vae.config.get(name) is None for name in ("z_dim", "latents_mean", "latents_std")):
            raise ValueError(
                f"The `vae` is a {type(vae).__name__}, which has no `z_dim`, `latents_mean` and `latents_std` in its "
                "config; load the AutoencoderKLQwenImage of the model's folder."
            )
        if vae.config.get("input_channels", 3) != 3:
            raise ValueError(
                f"This `vae` takes pictures of {vae.config.input_channels} channels, as Qwen-Image-Layered's does, and "
                "an edit has 3. Use a text-to-image Qwen-Image model."
            )

    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and those that belong with it; see [`Denoiser.read_prompt`]."""
        if given.embeds is None:
            check_mask(given)
        return super().read_prompt(given, required, unconditional)

    def _read_embeds(self, given: PromptInput) -> Conditioning:
        embeds = super()._read_embeds(given).prompt_embeds
        check_mask(given)
        return masked_text(embeds, given.embeds_mask)

    def _instead_of_text(self, name: str) -> str:
        given = PromptInput(name)
        return f"`{given.embeds_name}` and `{given.mask_name}`"

    def _framed(self, text: str) -> FramedPrompt:
        before, after = self.pipe.prompt_template_encode.split("{}")
        return FramedPrompt(before, text, after)

    @property
    def _taken(self) -> TokenRange:
        dropped = self.pipe.prompt_template_encode_start_idx
        return TokenRange(self.pipe.tokenizer_max_length + dropped, dropped, self.max_sequence_length)

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        embeds, mask = self.pipe.encode_prompt(
            [text for (text,) in texts], self.device, max_sequence_length=self.max_sequence_length
        )
        return masked_text(embeds, mask)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See [`Denoiser.encode`]; to the VAE, a picture is a video of one frame."""
        vae = self.pipe.vae
        frames = (2 * pixels.to(self.device) - 1).to(vae.dtype).unsqueeze(2)
        mode = vae.encode(frames).latent_dist.mode()[:, :, 0].float()
        check_finite("the VAE's encoder", mode)
        mean, spread = self._statistics()
        return (mode - mean) / spread

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See [`Denoiser.decode`]."""
        vae = self.pipe.vae
        mean, spread = self._statistics()
        frames = (latents * spread + mean).to(vae.dtype).unsqueeze(2)
        decoded = vae.decode(frames, return_dict=False)[0][:, :, 0].float()
        check_finite("the VAE's decoder", decoded)
        return (decoded / 2 + 0.5).clamp(0, 1)

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel of the VAE's latents, (1, channels, 1, 1)."""
        config = self.pipe.vae.config
        mean, spread = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, spread

    def guide(
        self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: float | torch.Tensor
    ) -> torch.Tensor:
        """Classifier-free guidance that leaves each token of the picture the norm of its conditional prediction; see
        [`Denoiser.guide`]."""
        guided = patches_of(super().guide(unconditional, conditional, scale), self.patch)
        wanted = patches_of(conditional, self.patch).norm(dim=-1, keepdim=True)
        norm = guided.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(guided.dtype).tiny)
        height, width = conditional.shape[-2:]
        return latents_from(guided * (wanted / norm), height, width, self.patch)

    def _velocity(
        self, network: Any, latents: torch.Tensor, times: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        batch, _, height, width = latents.shape
        velocity = network(
            hidden_states=patches_of(latents, self.patch).to(given.dtype),
            timestep=times.to(given.dtype) / 1000,
            encoder_hidden_states_mask=given.tensors.get(TEXT_MASK),
            encoder_hidden_states=given.prompt_embeds,
            img_shapes=[[(1, height // self.patch, width // self.patch)]] * batch,
            attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0]
        return latents_from(velocity, height, width, self.patch)

    def layout(self, latents: torch.Tensor, given: Conditioning) -> TokenLayout:
        """The text comes first, then the picture."""
        text = given.prompt_embeds.shape[1]
        height, width = latents.shape[-2:]
        length = text + self.num_image_tokens((height, width))
        return TokenLayout(slice(text, length), slice(0, text), length)
