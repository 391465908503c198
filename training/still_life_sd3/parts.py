"""The parts of the still-life model in Stable Diffusion 3's layout that are made of what other layouts have."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from semantic_edit.disk.writing import write_file
from semantic_edit.still_life import model_path
from training.saving import save_half
from training.still_life_sd3.transformer import new_scheduler, new_transformer
from training.still_life_xl import WEIGHTS as XL_WEIGHTS


def new_pipeline(transformer: Path | None = None) -> StableDiffusion3Pipeline:
    """The pipeline without a third text encoder; its transformer is new, or that of the folder given."""
    first = projected(CLIPTextModel.from_pretrained(model_path() / "text_encoder"))
    second = CLIPTextModelWithProjection.from_pretrained(XL_WEIGHTS / "text_encoder_2")
    widths = first.config.hidden_size + second.config.hidden_size
    pooled = first.config.projection_dim + second.config.projection_dim
    return StableDiffusion3Pipeline(
        transformer=new_transformer(widths, pooled)
        if transformer is None
        else SD3Transformer2DModel.from_pretrained(transformer),
        scheduler=new_scheduler(),
        vae=shifted(AutoencoderKL.from_pretrained(model_path() / "vae")),
        text_encoder=first,
        tokenizer=CLIPTokenizer.from_pretrained(model_path() / "tokenizer"),
        text_encoder_2=second,
        tokenizer_2=CLIPTokenizer.from_pretrained(XL_WEIGHTS / "tokenizer_2"),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def projected(encoder: CLIPTextModel) -> CLIPTextModelWithProjection:
    """`encoder` with the projection that its pooled states, which lie in the pictures' space already, do not need."""
    whole = CLIPTextModelWithProjection(encoder.config)
    weights = encoder.state_dict()
    inner = {
        name if name in whole.state_dict() else f"text_model.{name}": value for name, value in weights.items()
    }
    identity = {"text_projection.weight": torch.eye(encoder.config.hidden_size)}
    whole.load_state_dict(inner | identity)
    return whole.eval()


def shifted(vae: AutoencoderKL) -> AutoencoderKL:
    """`vae` with a shift of nothing, which Stable Diffusion 3's pipeline adds and cannot do without."""
    vae.register_to_config(shift_factor=0.0)
    return vae


def save_parts(pipe: StableDiffusion3Pipeline, folder: Path) -> None:
    """Put the pipeline, which is half precision afterwards, into `folder`."""
    written = {"tokenizer": model_path() / "tokenizer", "tokenizer_2": XL_WEIGHTS / "tokenizer_2"}
    save_half(pipe, folder, written)
    index = folder / "model_index.json"  # diffusers leaves out what is missing, but asks for it when loading
    absent = {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    write_file(index, (json.dumps({**json.loads(index.read_text()), **absent}, indent=2) + "\n").encode())
