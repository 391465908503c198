"""Prompt-to-Prompt on a real picture: invert it under its own prompt, decode with its attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import classifier_free_guidance
from semantic_edit.editing.inversion import ddim_step
from semantic_edit.editing.schedule import Schedule
from semantic_edit.evaluation.method import embeds_of, floats_of, picture_of
from semantic_edit.evaluation.word_swap import Inverted, WordSwap
from semantic_edit.pipelines.restyling import PromptRows, RestyleSettings, read_prompt_rows
from semantic_edit.pipelines.stages import noise_predictor


@dataclass(frozen=True)
class PromptToPrompt(WordSwap):
    """Prompt-to-Prompt on a plain DDIM inversion, with nothing learned; the knobs are the taus and the guidance.

    tau_c, tau_s: Fractions of the steps, from the noisy end, with the source's cross- and self-attention maps; at 0
        both, this is `WordSwap`. The defaults are those of null-text inversion's published example.

    Source: Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2.
    """

    tau_c: float = 0.8
    tau_s: float = 0.5

    def edit(self, pipe: Any, prepared: Inverted, prompt: str, seed: int = 0) -> Image.Image:
        """One edit; nothing is drawn."""
        return picture_of(pipe, self.decode(pipe, prepared, prompt)[1:])

    def reconstruct(self, pipe: Any, prepared: Inverted) -> np.ndarray:
        """The source's row, which is what guidance leaves of the picture under its own prompt."""
        return floats_of(pipe, self.decode(pipe, prepared, prepared.prompt))

    def decode(self, pipe: Any, prepared: Inverted, prompt: str) -> torch.Tensor:
        """The clean latents of the source and of the edit, (2, channels, height, width)."""
        return decode_swapped(
            pipe,
            self.schedule(pipe),
            prepared.latents[-1],
            (prepared.prompt, prompt),
            embeds_of(pipe, [""]).expand(self.num_inference_steps, -1, -1),
            RestyleSettings(tau_c=self.tau_c, tau_s=self.tau_s, tau_u=0.0),
            self.guidance_scale,
        )


@torch.no_grad()
def decode_swapped(
    pipe: Any,
    schedule: Schedule,
    latents: torch.Tensor,
    prompts: tuple[str, str],
    negative_embeds: torch.Tensor,
    settings: RestyleSettings,
    guidance_scale: float,
) -> torch.Tensor:
    """Denoise a picture and its edit side by side, the edit with attention maps of the picture.

    Args:
        latents: The picture at the noisiest level, (1, channels, height, width).
        prompts: The source's and the edit's.
        negative_embeds: The unconditional embedding of each step from the noisiest on, (steps, tokens, width).
        settings: Which of the maps; `tau_v` plays no part.

    Returns:
        The clean latents of the source and of the edit, (2, channels, height, width).

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents.

    Source: Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2.
    """
    source, target = (pipe.maybe_convert_prompt(one, pipe.tokenizer) for one in prompts)
    rows = read_prompt_rows(pipe.tokenizer, source, [target], settings)
    text = embeds_of(pipe, prompts)
    latents = latents.expand(2, -1, -1, -1)
    steps, watch = schedule.num_inference_steps, FiniteWatch()
    with (
        lock_of(pipe.unet),
        BorrowedNetwork(pipe.unet) as unet,
        controlled_attention(unet) as control,
    ):
        predict_noise = noise_predictor(pipe, borrowed=unet)
        for step, level in enumerate(range(steps, 0, -1)):
            control.plan = _plan(rows, step, steps, latents.shape[-2:])
            embeds = torch.cat([negative_embeds[step].to(text).expand(2, -1, -1), text])
            timestep = schedule.timestep(level)
            both = predict_noise(torch.cat([latents, latents]), timestep, embeds)
            unconditional, conditional = both.chunk(2)
            noise_pred = classifier_free_guidance(unconditional, conditional, guidance_scale)
            latents = ddim_step(latents, noise_pred, schedule, level)
            watch.see(at_step("the decoding", step, timestep), latents)
    watch.check()
    return latents


def _plan(prompts: PromptRows, step: int, steps: int, size: Sequence[int]) -> AttentionPlan:
    """Rows are [unconditional source, target, source, target]; self maps are swapped up to half the latent's side."""
    swap = prompts.swaps.cross_swap(step, steps, 2, (3,))
    height, width = (-(-side // 2) for side in size)
    return AttentionPlan(
        cross_swaps=() if swap is None else (swap,),
        self_swaps=prompts.swaps.self_swaps(step, steps, 2, (3,), 0, (1,)),
        self_queries=height * width,
    )
