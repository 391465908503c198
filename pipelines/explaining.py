"""Where in a picture a model looks for each word of a prompt, for a picture that nobody learned."""

from __future__ import annotations

import torch

from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.masking import draw_mask_noise
from semantic_edit.pipelines.stages import Session

NOISE_LEVELS = (0.1, 0.3, 0.5)
"""Noise at which a picture is looked at, as fractions of the steps: with little of it small things are still seen, with
more of it the model still has to find out what is where."""

NOISES = 2


def attention_in_images(
    session: Session[Denoiser],
    clean: torch.Tensor,
    given: Conditioning,
    generator: torch.Generator | list[torch.Generator] | None,
) -> torch.Tensor:
    """How strongly each position attends to each token, the mean over noises and levels of noise.

    Args:
        session: Of the call.
        clean: Latents, (pictures, channels, height, width).
        given: A prompt for each.
        generator: Draws the noise; one for all pictures, or one for each.

    Returns:
        (pictures, rows, columns, tokens) in float32.
    """
    schedule, device = session.schedule, clean.device
    noise = draw_mask_noise(len(clean), NOISES * len(NOISE_LEVELS), clean.shape[1:], generator, device)
    seen = []
    with session.bar("look for words", len(clean) * len(NOISE_LEVELS)) as progress_bar:
        for row, latents in enumerate(clean):
            maps = []
            for place, strength in enumerate(NOISE_LEVELS):
                level = max(1, schedule.levels(strength))
                drawn = noise[row, place * NOISES : (place + 1) * NOISES]
                noised = schedule.add_noise(latents.expand_as(drawn), drawn, level)
                told = given.rows(slice(row, row + 1)).expand(NOISES)
                maps.append(session.denoiser.attention_maps(noised, schedule.timestep(level), told).mean(0))
                progress_bar.update()
            seen.append(torch.stack(maps).mean(0))
    return torch.stack(seen)
