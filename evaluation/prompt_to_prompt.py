"""Prompt-to-Prompt on a real picture: invert it under its own prompt, decode with its attention maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils.logging import EmptyTqdm

from semantic_edit.denoisers import UNetDenoiser, unet_denoiser_of
from semantic_edit.editing import Conditioning
from semantic_edit.evaluation.method import Edited, EditMethod, edited_from, embeds_of, floats_of
from semantic_edit.evaluation.word_swap import Inverted, WordSwap
from semantic_edit.pipelines import RestyleSettings, Restyling, Session, read_prompt_rows, restyle


@dataclass(frozen=True)
class PromptToPrompt(WordSwap):
    """Prompt-to-Prompt on a plain DDIM inversion, with nothing learned; the knobs are the taus and the guidance.

    tau_c, tau_s: Fractions of the steps, counted from the noisy end, with the source's cross- and self-attention maps;
        with both at 0, this is `WordSwap`. The defaults are those of null-text inversion's published example.

    Source: Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2.
    """

    tau_c: float = 0.8
    tau_s: float = 0.5

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError if the model has no UNet."""
        unet_denoiser_of(pipe).check()

    def edited(self, pipe: DiffusionPipeline, prepared: Inverted, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; nothing is random."""
        return edited_from(unet_denoiser_of(pipe), self.decode(pipe, prepared, prompt)[1:])

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Inverted) -> np.ndarray:
        """The source's row, which is how guidance under its own prompt reproduces the picture."""
        return floats_of(unet_denoiser_of(pipe), self.decode(pipe, prepared, prepared.prompt))

    def decode(self, pipe: DiffusionPipeline, prepared: Inverted, prompt: str) -> torch.Tensor:
        """The clean latents of the source and of the edit, (2, channels, height, width)."""
        denoiser = unet_denoiser_of(pipe)
        return decoded_side_by_side(denoiser, self, self.side_by_side(denoiser, prepared, prompt))

    def side_by_side(self, denoiser: UNetDenoiser, prepared: Inverted, prompt: str) -> SideBySide:
        """The picture and an edit of it, to be decoded."""
        settings = RestyleSettings(tau_c=self.tau_c, tau_s=self.tau_s, tau_u=0.0)
        return SideBySide(prepared.latents[-1], (prepared.prompt, prompt), settings)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """A picture and its edit, which are denoised side by side, the edit with attention maps of the picture.

    noisiest: The picture at the noisiest level, (1, channels, height, width).
    prompts: The picture's and the edit's.
    settings: Which of the maps to use; `tau_v` has no effect.
    negative_at: What both are guided away from at each step; by default the empty prompt.
    walk: The picture's inversion, (levels + 1, 1, channels, height, width), on which it is put back after each step;
        `None` leaves it where guidance leads it.
    """

    noisiest: torch.Tensor
    prompts: tuple[str, str]
    settings: RestyleSettings
    negative_at: Callable[[int], Conditioning] | None = None
    walk: torch.Tensor | None = None


@torch.no_grad()
def decoded_side_by_side(denoiser: UNetDenoiser, method: EditMethod, pair: SideBySide) -> torch.Tensor:
    """Denoise a picture and its edit; see `restyle`.

    Args:
        denoiser: The model.
        method: Supplies the schedule and the guidance scale.
        pair: The two.

    Returns:
        The clean latents of the source and of the edit, (2, channels, height, width).

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents.
    """
    rows = read_prompt_rows([denoiser.tokens(text) for text in pair.prompts], pair.settings)
    call = Restyling(
        latents=pair.noisiest[0],
        prompts=rows.to(denoiser.device),
        settings=pair.settings,
        given=embeds_of(denoiser, pair.prompts),
        negative=embeds_of(denoiser, [""]).expand(2),
        guidance_scales=torch.full((2,), method.guidance_scale, device=denoiser.device),
        negative_at=pair.negative_at,
        walk=None if pair.walk is None else pair.walk[:, 0],
    )
    return restyle(Session(denoiser, method.schedule(denoiser), bar=EmptyTqdm), call).latents
