"""What is measured of an edit, and of a reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from semantic_edit.evaluation.method import vae_reconstruction
from semantic_edit.evaluation.metrics import nearest_alternative, psnr
from semantic_edit.evaluation.rows import Row
from semantic_edit.evaluation.structure import patch_features, structure_distance
from semantic_edit.evaluation.verdicts import shows_edit
from semantic_edit.still_life.cases import EditCase, edit_cases
from semantic_edit.still_life.judge import Judge, judged


@dataclass
class Cases:
    """The edits of a comparison; those of one number are of one picture, whatever their kind. Drawn when asked for."""

    kinds: tuple[str, ...]
    count: int
    seed: int
    split: str
    _drawn: dict[str, list[EditCase]] = field(default_factory=dict, repr=False)

    def case(self, kind: str, number: int) -> EditCase:
        """One edit."""
        if kind not in self._drawn:
            self._drawn[kind] = edit_cases(self.count, self.seed, (kind,), split=self.split)
        return self._drawn[kind][number]

    def source(self, number: int) -> tuple[Image.Image, str]:
        """One picture and what it shows."""
        case = self.case(self.kinds[0], number)
        return case.image, case.source_prompt


def measured_edit(pipe: Any, judge: Judge, case: EditCase, picture: Image.Image) -> Row:
    """Success by either measure, PSNR in dB outside the changed pixels, and structure distance to the source."""
    nearest = nearest_alternative(picture, case.alternatives, case.changed_mask)
    (answer,) = judged(judge, [picture])
    before, after = patch_features(pipe.image_encoder, pipe.feature_extractor, [case.image, picture])
    return {
        "nearest": nearest == case.target_word,
        "judge": shows_edit(case, answer),
        "background": psnr(picture, case.image, ~case.changed_mask),
        "structure": float(structure_distance(before, after)),
    }


def measured_reconstruction(pipe: Any, image: Image.Image, reconstruction: np.ndarray) -> Row:
    """PSNR in dB to the VAE's reconstruction, and to the picture beside the VAE's own."""
    best = vae_reconstruction(pipe, image)
    return {
        "to_vae": psnr(reconstruction, best),
        "to_picture": psnr(reconstruction, np.asarray(image.convert("RGB")) / 255.0),
        "vae_to_picture": psnr(best, np.asarray(image.convert("RGB")) / 255.0),
    }
