"""Z-Image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from diffusers import ZImageTransformer2DModel

from semantic_edit.attention_processors.framed_tokens import FramedPrompt, TokenRange
from semantic_edit.attention_processors.joint import TokenLayout
from semantic_edit.denoisers.chat import ChatDenoiser
from semantic_edit.denoisers.denoiser import ENCODINGS, FRESH_NOISE
from semantic_edit.denoisers.flow_schedules import check_flow_scheduler
from semantic_edit.denoisers.padded_text import padded_rows, unpadded_rows
from semantic_edit.denoisers.prompts import PromptInput, check_embeds
from semantic_edit.denoisers.transformer import TransformerComponents
from semantic_edit.disk.models import Z_IMAGE, Family
from semantic_edit.editing.conditioning import Conditioning

TURBO_SHIFT = 3.0
"""The `shift` in the scheduler of Z-Image-Turbo's folder; Z-Image's is 6.0. Nothing else tells the folders apart."""

TOKENS_TOGETHER = 32
"""The transformer pads picture and text to multiples of this."""


def is_step_distilled(scheduler: Any) -> bool:
    """Whether a scheduler is Z-Image-Turbo's."""
    config = getattr(scheduler, "config", {})
    return not config.get("use_dynamic_shifting") and config.get("shift") == TURBO_SHIFT


class ZImageParts(TransformerComponents, Protocol):
    """The components of a Z-Image pipeline."""

    transformer: ZImageTransformer2DModel


@dataclass(frozen=True, eq=False)
class ZImageDenoiser(ChatDenoiser):
    """A Z-Image model: picture before text in one stream, a clock that runs backwards.

    cfg_normalization: Largest norm of a guided prediction, as a multiple of the conditional one's; 0 is any.
    """

    pipe: ZImageParts
    cfg_normalization: float = 0.0

    family: ClassVar[Family] = Z_IMAGE

    @property
    def usual_guidance(self) -> float:  # type: ignore[override]
        """Z-Image's 5, which counts from 0; Turbo is not guided."""
        return 1.0 if is_step_distilled(self.pipe.scheduler) else 6.0

    @property
    def encodings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Step-distilled models cannot be walked backwards."""
        return (FRESH_NOISE,) if is_step_distilled(self.pipe.scheduler) else ENCODINGS

    def why_not(self, encoding: str) -> str:
        """See [`Denoiser.why_not`]."""
        return (
            "does not work with Z-Image-Turbo, which was distilled to a few long steps that cannot be retraced; use "
            f'`encoding="noise"`. It is recognised by its scheduler\'s `shift`, {TURBO_SHIFT}: if this transformer is '
            "not distilled, give it the scheduler of Z-Image's folder, whose `shift` is 6.0"
        )

    @property
    def text_width(self) -> int:
        """The width of the token embeddings that the transformer takes."""
        return self.transformer.config.cap_feat_dim

    @property
    def places(self) -> int | None:
        """As many as the transformer has rotations for, along the shorter of its two axes."""
        return min(self.transformer.config.axes_lens[1:])

    def check(self) -> None:
        """Raise if a component is missing, or they do not belong together.

        Raises:
            ValueError: Saying which, and what to do.
        """
        self._check_components(("transformer", "vae", "scheduler"))
        check_flow_scheduler(self.pipe.scheduler)
        signs = {"siglip_feat_dim": "Z-Image-Omni has, which takes pictures beside the text"}
        self._check_text_to_image(self.transformer.config, self.latent_channels, signs)
        self._check_text_width()

    def _read_embeds(self, given: PromptInput) -> Conditioning:
        name, rows = given.embeds_name, given.embeds
        if not isinstance(rows, (list, tuple)) or not rows:
            raise ValueError(
                f"`{name}` must be a list of tensors, (tokens, width), one for each prompt, as `encode_prompt` gives "
                f"them; got {type(rows).__name__ if not isinstance(rows, (list, tuple)) else 'an empty list'}."
            )
        for row in rows:
            check_embeds(name, row, "tokens, width", self.text_width, self.takes_text)
        return padded_rows(rows)

    def _framed(self, text: str) -> FramedPrompt:
        return FramedPrompt.of_user(self.pipe.tokenizer, text, enable_thinking=True)

    @property
    def _taken(self) -> TokenRange:
        return TokenRange(self.max_sequence_length)

    def _encode_texts(self, texts: Sequence[tuple[str, ...]], clip_skip: int | None) -> Conditioning:
        rows, _ = self.pipe.encode_prompt(
            [text for (text,) in texts],
            self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
        )
        return padded_rows(rows)

    def guide(
        self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: float | torch.Tensor
    ) -> torch.Tensor:
        """Classifier-free guidance, with its norm limited if that was asked for; see [`Denoiser.guide`]."""
        guided = super().guide(unconditional, conditional, scale)
        if not self.cfg_normalization:
            return guided
        most, norm = (one.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for one in (conditional, guided))
        return guided * (self.cfg_normalization * most / norm).nan_to_num(1.0).clamp(max=1)

    def _velocity(
        self, network: Any, latents: torch.Tensor, times: torch.Tensor, given: Conditioning
    ) -> torch.Tensor:
        frames = latents.to(self.network_dtype).unsqueeze(2)  # one each
        towards_image = network(
            list(frames.unbind()),
            (1000 - times) / 1000,
            unpadded_rows(given),
            joint_attention_kwargs=self.attention_kwargs,
            return_dict=False,
        )[0]
        return -torch.stack(list(towards_image)).squeeze(2)

    def layout(self, latents: torch.Tensor, given: Conditioning) -> TokenLayout:
        """The picture comes first, then the text, each padded by the transformer."""
        height, width = latents.shape[-2:]
        image = self.num_image_tokens((height, width))
        longest = max(map(len, unpadded_rows(given)))
        begin, room = (-(-length // TOKENS_TOGETHER) * TOKENS_TOGETHER for length in (image, longest))
        return TokenLayout(slice(0, image), slice(begin, begin + longest), begin + room)

    def attention_maps(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """With zeros for padding, which the transformer does not receive; see [`Denoiser.attention_maps`]."""
        maps = super().attention_maps(latents, timestep, given)
        return F.pad(maps, (0, given.prompt_embeds.shape[1] - maps.shape[-1]))
