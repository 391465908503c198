"""Negative-prompt inversion with Prompt-to-Prompt: guidance away from the source prompt instead of the empty one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from semantic_edit.denoisers import UNetDenoiser
from semantic_edit.evaluation.method import embeds_of
from semantic_edit.evaluation.prompt_to_prompt import PromptToPrompt, SideBySide
from semantic_edit.evaluation.word_swap import Inverted


@dataclass(frozen=True)
class NegativePromptInversion(PromptToPrompt):
    """What null-text inversion learns is replaced by the source prompt, so that guidance has no effect on the source.

    The defaults are those of null-text inversion, whose place it takes.

    Source: negative-prompt inversion, arXiv:2305.16807, Sec. 4.
    """

    def side_by_side(self, denoiser: UNetDenoiser, prepared: Inverted, prompt: str) -> SideBySide:
        """The picture and an edit of it, both guided away from the picture's prompt."""
        source = embeds_of(denoiser, [prepared.prompt])
        return replace(super().side_by_side(denoiser, prepared, prompt), negative_at=lambda step: source)
