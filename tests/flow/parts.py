"""The tiny parts that families of rectified flows share: VAEs and text encoders."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from tests.conftest import WORDS, small_text_config, written_tokenizer


@functools.cache
def small_tokenizer() -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        return written_tokenizer(Path(folder))


@functools.cache
def small_vae(channels: int, shift: float | None = None) -> AutoencoderKL:
    """A factor of 8, with so many latent channels."""
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        shift_factor=shift,
        scaling_factor=1.5,
    )
    return model.eval()


@functools.cache
def small_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModelWithProjection:
    """16 wide, and so its pooled embedding."""
    torch.manual_seed(seed)
    config = small_text_config(tokenizer, hidden_size=16, num_hidden_layers=2, projection_dim=16)
    return CLIPTextModelWithProjection(config).eval()


@functools.cache
def small_word_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each of the tests' words, as language models' tokenizers are loaded: padded at the end."""
    words = ["<pad>", "</s>", "<unk>", *WORDS]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


@functools.cache
def small_t5(width: int) -> T5EncoderModel:
    torch.manual_seed(2)
    config = T5Config(
        vocab_size=len(WORDS) + 3, d_model=width, d_kv=8, d_ff=37, num_layers=1, num_heads=2, pad_token_id=0
    )
    return T5EncoderModel(config).eval()
