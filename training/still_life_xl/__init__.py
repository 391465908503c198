"""The still-life model in SDXL's layout: `python -m training.still_life_xl assemble FOLDER`.

What differs from the still-life model is kept here: a UNet that is also told a pooled embedding and the sizes, and a
second, smaller text encoder with its tokenizer. The rest is the still-life model's own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from semantic_edit.still_life import model_path

WEIGHTS = Path(__file__).parent / "weights"
SHARED = ("feature_extractor", "image_encoder", "text_encoder", "tokenizer", "vae")


def assemble(folder: Path, weights: Path = WEIGHTS) -> Path:
    """Copy the parts into `folder`, which `StableDiffusionXLPipeline.from_pretrained` then loads; returns it.

    Args:
        folder: Where to; made if it is not there. Files of the same names are replaced.
        weights: What differs from the still-life model: its own UNet, text_encoder_2, tokenizer_2 and scheduler.
    """
    for part in SHARED:
        shutil.copytree(model_path() / part, folder / part, dirs_exist_ok=True)
    shutil.copytree(weights, folder, dirs_exist_ok=True)
    return folder
