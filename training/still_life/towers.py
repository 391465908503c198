"""The tiny CLIP before it learns: a word-level tokenizer, a text tower and a vision tower, and how they are kept."""

from __future__ import annotations

import json
import string
import tempfile
from pathlib import Path

from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from semantic_edit.disk.writing import write_folder
from semantic_edit.still_life.clip import MAX_TOKENS
from semantic_edit.still_life.rendering import COLOURS, SIDE
from semantic_edit.still_life.solids import KINDS

_OTHER_WORDS = (
    "a an the and on of in to with without no next beside standing lying photo picture painting still life "
    "light dark wood wooden table marble grass sand checked cloth left right front behind"
)


END = "<|endoftext|>"


def write_tokenizer(folder: Path, pad_token: str = END) -> CLIPTokenizer:
    """Write and load a CLIPTokenizer that gives each word of the still lifes one token, and others their letters.

    Another `pad_token` than the end token comes last in the vocabulary, so that every other token keeps its number.
    Byte-pair merges build each known word from its left end, longer words first, so that "on" cannot break "lemon".
    """
    words = sorted({*KINDS, *COLOURS, *_OTHER_WORDS.split()}, key=lambda word: (-len(word), word))
    signs = string.ascii_lowercase + string.digits + ",.'-"
    tokens = [*signs, *(sign + "</w>" for sign in signs)]
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merge = (pieces[0], pieces[1])
            pieces[:2] = ["".join(merge)]
            if merge not in merges:
                merges.append(merge)
                tokens.append(pieces[0])
    tokens += ["<|startoftext|>", END, pad_token]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    lines = ["#version: 0.2", *map(" ".join, merges)]
    texts = {"vocab.json": json.dumps(vocabulary), "merges.txt": "\n".join(lines) + "\n"}
    write_folder(folder, {name: text.encode() for name, text in texts.items()})
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=MAX_TOKENS,
        bos_token="<|startoftext|>",
        eos_token=END,
        unk_token=END,
        pad_token=pad_token,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Both towers, 128 wide; the text projection is the identity, so pooled text is the embedding itself."""
    towers = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_TOKENS,
        num_hidden_layers=3,
        pad_token_id=tokenizer.pad_token_id,
        **special,
        **towers,
    )
    vision = CLIPVisionConfig(image_size=SIDE, patch_size=16, num_hidden_layers=4, **towers)
    clip = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )
    nn.init.eye_(clip.text_projection.weight)
    clip.text_projection.requires_grad_(False)
    return clip


def new_image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def load_parts(model: Path) -> CLIPModel:
    """The whole tiny CLIP from what `save_parts` left."""
    clip = new_clip(CLIPTokenizer.from_pretrained(model / "tokenizer"))
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder")
    image_encoder = CLIPVisionModelWithProjection.from_pretrained(model / "image_encoder")
    clip.text_model.load_state_dict(text_encoder.state_dict())
    clip.vision_model.load_state_dict(image_encoder.vision_model.state_dict())
    clip.visual_projection.load_state_dict(image_encoder.visual_projection.state_dict())
    return clip


def save_parts(clip: CLIPModel, model: Path) -> None:
    """Save the towers the way Stable Diffusion keeps them: a text encoder, and an image encoder with its projection."""
    with tempfile.TemporaryDirectory() as whole:
        clip.save_pretrained(whole)
        CLIPTextModel.from_pretrained(whole).save_pretrained(model / "text_encoder")
        CLIPVisionModelWithProjection.from_pretrained(whole).save_pretrained(model / "image_encoder")
