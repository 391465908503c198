"""Direct Inversion with Prompt-to-Prompt: the source is put back on its inversion after each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.denoisers import UNetDenoiser
from semantic_edit.editing import StepHooks
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
        walk = prepared.latents
        steps = len(walk) - 1

        def put_back(step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
            return {"latents": torch.cat([walk[steps - step - 1], tensors["latents"][1:]])}

        return replace(super().side_by_side(denoiser, prepared, prompt), hooks=StepHooks(after=put_back))
