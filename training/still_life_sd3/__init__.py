"""The still-life model in Stable Diffusion 3's layout: `python -m training.still_life_sd3 assemble FOLDER`.

What differs from the still-life model is kept here: a transformer that was trained as a rectified flow. The second text
encoder is that of the model in SDXL's layout, and the rest the still-life model's own.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"


def assemble(folder: Path, weights: Path = WEIGHTS) -> Path:
    """Put the parts together in `folder`, which `StableDiffusion3Pipeline.from_pretrained` then loads; returns it.

    Args:
        folder: Where to; made if it is not there. Files of the same names are replaced.
        weights: What training left: a folder with the transformer.
    """
    from training.still_life_sd3.parts import new_pipeline, save_parts

    save_parts(new_pipeline(weights / "transformer"), folder)
    return folder
