"""Direct Inversion with Prompt-to-Prompt: the source is put back on its inversion after each step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from semantic_edit.denoisers import UNetDenoiser
from semantic_edit.evaluation.prompt_to_prompt import PromptToPrompt, SideBySide
from semantic_edit.evaluation.word_swap import Inverted


@dataclass(frozen=True)
class DirectInversion(PromptToPrompt):
    """Nothing is learned: whatever guidance does to the source's latents is undone after each step, so that the edit
    takes its attention maps from latents that show the picture. The edit's own latents are left alone.

    The defaults are those of the published code, also known as PnP Inversion.

    Source: Direct Inversion, arXiv:2310.01506, Alg. 1.
    """

    tau_c: float = 0.4
    tau_s: float = 0.6

    def side_by_side(self, denoiser: UNetDenoiser, prepared: Inverted, prompt: str) -> SideBySide:
        """The picture and an edit of it, the picture on its inversion."""
        return replace(super().side_by_side(denoiser, prepared, prompt), walk=prepared.latents)
