"""Encode-Decode: DiffEdit without its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from semantic_edit.evaluation.word_swap import Inverted, WordSwap
from semantic_edit.pipelines.checks import levels_for


@dataclass(frozen=True)
class EncodeDecode(WordSwap):
    """Invert under the empty prompt, as far as `strength` says, and decode under the new one.

    strength: The encoding ratio, a fraction of the steps in (0, 1]; more changes more. Inversions reach the noisiest
        level, so that one serves every strength.

    Source: the ablation "Encode-Decode" of DiffEdit, arXiv:2210.11427.
    """

    strength: float = 0.8

    def prepare(
        self, pipe: Any, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Inverted]:
        """The inversions; the sources' prompts play no part."""
        return super().prepare(pipe, images, [""] * len(images))

    def edit(self, pipe: Any, prepared: Inverted, prompt: str, seed: int = 0) -> Image.Image:
        """One edit; nothing is drawn.

        Raises:
            ValueError: If the strength lies outside (0, 1], or is less than one step.
        """
        return super().edit(pipe, self._encoded(pipe, prepared), prompt, seed)

    def reconstruct(self, pipe: Any, prepared: Inverted) -> np.ndarray:
        """The way back under the empty prompt, where guidance changes nothing."""
        return super().reconstruct(pipe, self._encoded(pipe, prepared))

    def check_steps(self, pipe: Any) -> None:
        """Refuse a strength of less than one step too."""
        levels_for(self.schedule(pipe), "strength", self.strength)

    def _encoded(self, pipe: Any, prepared: Inverted) -> Inverted:
        """As far as `strength` reaches."""
        levels = levels_for(self.schedule(pipe), "strength", self.strength)
        return replace(prepared, latents=prepared.latents[: levels + 1])
