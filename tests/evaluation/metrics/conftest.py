from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from semantic_edit.still_life import model_path


@pytest.fixture(scope="session")
def still_life_parts() -> SimpleNamespace:
    """What metrics use of the still-life model: all but its UNet."""
    folder = model_path()
    parts: dict[str, Any] = {
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        "image_encoder": CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder"),
        "feature_extractor": CLIPImageProcessor.from_pretrained(folder / "feature_extractor"),
        "unet": None,
        "scheduler": None,
    }
    here = torch.device("cpu")
    return SimpleNamespace(components=parts, device=here, _execution_device=here, **parts)
