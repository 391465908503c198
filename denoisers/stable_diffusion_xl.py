"""Stable Diffusion XL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedTokenizerBase

from semantic_edit.denoisers.foreign_schedulers import check_own_scheduler
from semantic_edit.denoisers.lora import restored_lora_scale
from semantic_edit.denoisers.pooled import POOLED_EMBEDS, PooledPrompts
from semantic_edit.denoisers.prompts import Prompt, PromptInput
from semantic_edit.denoisers.unet import UNetComponents, UNetDenoiser
from semantic_edit.denoisers.vae_precision import told_of_overflow, upcast_if_forced
from semantic_edit.disk.models import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family, unserved
from semantic_edit.disk.numbers import plain_number
from semantic_edit.disk.sizes import Sizes
from semantic_edit.editing.conditioning import Conditioning

NUM_TIME_IDS = 6
USUAL_TOKENS = 77
LARGEST_SIZE = 65504  # of which float16 can tell the UNet


class TwoEncoderComponents(UNetComponents, Protocol):
    """The components of an SDXL pipeline."""

    text_encoder_2: CLIPTextModelWithProjection | None
    tokenizer_2: CLIPTokenizer | None

    @property
    def config(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False)
class StableDiffusionXLDenoiser(PooledPrompts, UNetDenoiser):
    """A Stable Diffusion XL model: two text encoders, a pooled embedding, and a UNet that is also conditioned on sizes.

    Its conditionings hold "prompt_embeds", (batch, tokens, width), and "pooled_prompt_embeds", (batch, width).

    original_size, target_size: (height, width) in pixels that condition the UNet; by default the latents' own.
    crops_coords_top_left: (top, left) in pixels, likewise; by default (0, 0).
    """

    pipe: TwoEncoderComponents
    original_size: tuple[int, int] | None = None
    crops_coords_top_left: tuple[int, int] | None = None
    target_size: tuple[int, int] | None = None

    family: ClassVar[Family] = STABLE_DIFFUSION_XL
    usual_guidance = 5.0
    further_encoders: ClassVar[int] = 1
    knows_absence: ClassVar[bool] = True
    takes_pooled: ClassVar[str] = "UNet"

    def __post_init__(self) -> None:
        for name, smallest in (("original_size", 1), ("crops_coords_top_left", 0), ("target_size", 1)):
            pair = getattr(self, name)
            if pair is None:
                continue
            numbers = tuple(map(plain_number, pair)) if isinstance(pair, (tuple, list)) else ()
            are_whole = all(type(number) is int for number in numbers)
            if not are_whole or len(numbers) != 2 or min(numbers) < smallest or max(numbers) > LARGEST_SIZE:
                order = "top, left" if smallest == 0 else "height, width"
                raise ValueError(
                    f"`{name}` must be two whole numbers of pixels, ({order}), from {smallest} to {LARGEST_SIZE}, got "
                    f"{pair!r}. Leave it out to condition the UNet on the picture's own size, without a crop."
                )
            object.__setattr__(self, name, numbers)

    @property
    def pooled_width(self) -> int:
        """The width of the pooled embedding that the UNet takes."""
        config = self.unet.config
        return config.projection_class_embeddings_input_dim - NUM_TIME_IDS * config.addition_time_embed_dim

    def check(self) -> None:
        """Raise if a component is missing, or the models are not those of an SDXL base model.

        Raises:
            ValueError: If there is no UNet, VAE or scheduler, the UNet is of another family (Stable Diffusion 1.x and
                2.x, inpainting, latent consistency, ...) or the refiner's, an IP-Adapter is loaded, the scheduler is
                that of EDM-style or distilled models, or the text encoders have different widths.
        """
        self._check_components(("unet", "vae", "scheduler"))
        config, name = self.unet.config, type(self.pipe).__name__
        needs = self._foreign_needs()
        added, projected = config.get("addition_embed_type"), config.get("encoder_hid_dim_type")
        if needs is None and added is None and projected is None:
            raise ValueError(f"This `unet` {unserved(name, STABLE_DIFFUSION, (name, self.family))}.")
        if needs is None and (added != "text_time" or projected is not None):
            needs = "further embeddings, as Kandinsky's and Kolors' do"
        if needs is None and self.text_width is None:
            needs = "text of several widths"
        if needs is not None:
            raise ValueError(f"This `unet` needs {needs}. Use a text-to-image SDXL base model.")
        self._check_no_refiner()
        check_own_scheduler(self.pipe.scheduler)
        self._check_encoders()

    def _check_no_refiner(self) -> None:
        encoder, config = self.pipe.text_encoder_2, self.unet.config
        # the refiner is conditioned on an aesthetic score in place of a size
        missing_ids = encoder is not None and self.pooled_width + config.addition_time_embed_dim == (
            encoder.config.projection_dim
        )
        if missing_ids or self.pipe.config.get("requires_aesthetics_score"):
            raise ValueError(
                "This is SDXL's refiner, which takes an aesthetic score and only finishes what the base model began. "
                "Use the base model, or one that was fine-tuned from it."
            )

    def _check_encoders(self) -> None:
        first, second = self.pipe.text_encoder, self.pipe.text_encoder_2
        instead = "they are of different models. SDXL has 768 + 1280 = 2048, and 1280 pooled. Load all from one model."
        if first is not None and second is not None:
            widths = first.config.hidden_size, second.config.hidden_size
            if sum(widths) != self.text_width:
                raise ValueError(
                    f"The `text_encoder` and `text_encoder_2` give embeddings {widths[0]} + {widths[1]} wide, but the "
                    f"UNet's cross attention takes {self.text_width}: {instead}"
                )
        if second is not None and second.config.projection_dim != self.pooled_width:
            raise ValueError(
                f"The `text_encoder_2` gives pooled embeddings {second.config.projection_dim} wide, but the UNet takes "
                f"{self.pooled_width}: {instead}"
            )
        tokenizers = self.pipe.tokenizer, self.pipe.tokenizer_2
        lengths = {one.model_max_length for one in tokenizers if one is not None}
        if len(lengths) > 1:
            raise ValueError(
                f"The `tokenizer` and the `tokenizer_2` pad to {' and '.join(map(str, sorted(lengths)))} tokens, which "
                "cannot be joined; set both to one `model_max_length`, 77 for SDXL."
            )

    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and those that belong with it; see [`Denoiser.read_prompt`]."""
        second, name_2 = given.others[0], given.other_names[0]
        if given.text is None and given.embeds is None and second is not None:
            raise ValueError(
                f"Got `{name_2}` without `{given.name}`, which the first text encoder reads; pass it too, "
                f'`{given.name}=""` for no text.'
            )
        if second == "":  # in diffusers, this means the same text as the first
            given = replace(given, others=(None, *given.others[1:]))
        return super().read_prompt(given, required, unconditional)

    def absent_prompt(self, name: str, unconditional: bool = False, instead: str = "") -> Prompt:
        """Zeros if the pipeline's `force_zeros_for_empty_prompt` is set, as in diffusers, or the empty text."""
        prompt = super().absent_prompt(name, unconditional, instead)
        return replace(prompt, is_absent=bool(self.pipe.config.get("force_zeros_for_empty_prompt")))

    def _without_absent(self, prompts: Sequence[Prompt | None]) -> Sequence[Prompt | None]:
        known = [prompt.embeds for prompt in prompts if prompt is not None and prompt.embeds is not None]
        tokenizer = self.pipe.tokenizer
        if known:
            tokens = known[0].prompt_embeds.shape[1]
        else:
            tokens = USUAL_TOKENS if tokenizer is None else tokenizer.model_max_length
        shapes = {"prompt_embeds": (1, tokens, self.text_width), POOLED_EMBEDS: (1, self.pooled_width)}
        zeros = Conditioning({name: torch.zeros(shape) for name, shape in shapes.items()})  # type: ignore[arg-type]
        return [
            replace(prompt, texts=None, others=(), embeds=zeros)
            if prompt is not None and prompt.is_absent
            else prompt
            for prompt in prompts
        ]

    @property
    def _tokenizers(self) -> list[PreTrainedTokenizerBase | None]:
        return [self.pipe.tokenizer, self.pipe.tokenizer_2]

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        pipe = self.pipe
        with restored_lora_scale(pipe.text_encoder), restored_lora_scale(pipe.text_encoder_2):
            embeds, _, pooled, _ = pipe.encode_prompt(
                *([*column] for column in zip(*texts, strict=True)),
                self.device,
                1,
                False,
                lora_scale=(self.cross_attention_kwargs or {}).get("scale"),
                clip_skip=clip_skip,
            )
        return Conditioning({"prompt_embeds": embeds, POOLED_EMBEDS: pooled})

    @property
    def pooling_tower(self) -> tuple[CLIPTokenizer | None, Any]:
        """The second tokenizer and text encoder, if there are any, since the second may have a projection."""
        pipe = self.pipe
        return (
            super().pooling_tower if pipe.text_encoder_2 is None else (pipe.tokenizer_2, pipe.text_encoder_2)
        )

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """See [`Denoiser.encode`]."""
        with told_of_overflow(self.pipe.vae):
            return super().encode(pixels)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See [`Denoiser.decode`]."""
        with told_of_overflow(self.pipe.vae):
            return super().decode(latents)

    def _vae_precision(self) -> AbstractContextManager[None]:
        return upcast_if_forced(self.pipe.vae)

    def _latent_statistics(self, latents: torch.Tensor) -> tuple[torch.Tensor | float, torch.Tensor | float]:
        """Mean and standard deviation of the scaled latents, (1, channels, 1, 1), if the VAE's config has them."""
        config = self.pipe.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            return 0.0, 1.0
        mean, std = (torch.tensor(numbers).to(latents).view(1, -1, 1, 1) for numbers in (mean, std))
        return mean * self.scaling_factor, std

    def _normalised(self, latents: torch.Tensor) -> torch.Tensor:
        mean, std = self._latent_statistics(latents)
        return (latents - mean) / std

    def _denormalised(self, latents: torch.Tensor) -> torch.Tensor:
        mean, std = self._latent_statistics(latents)
        return latents * std + mean

    def sizes(self, latent_height: int, latent_width: int) -> Sizes:
        """What the UNet is told of the picture's size, in the order in which it is told."""
        own = self.cell * latent_height, self.cell * latent_width
        return {
            "original_size": self.original_size or own,
            "crops_coords_top_left": self.crops_coords_top_left or (0, 0),
            "target_size": self.target_size or own,
        }

    def _added(self, latents: torch.Tensor, given: Conditioning) -> dict[str, Any]:
        height, width = latents.shape[-2:]
        numbers = [number for pair in self.sizes(height, width).values() for number in pair]
        # created on the device, because copying them there would wait for the GPU at every step
        ids = [latents.new_full((len(latents), 1), number, dtype=given.dtype) for number in numbers]
        return {
            "added_cond_kwargs": {
                "text_embeds": given.tensors[POOLED_EMBEDS],
                "time_ids": torch.cat(ids, dim=1),
            }
        }
