"""The second text encoder: a smaller CLIP tower with a projection, which learns what the first has to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from semantic_edit.still_life.clip import MAX_TOKENS, tokenize
from training.loop import LoopSettings, device, train
from training.pool import pool_scenes

BATCH = 128
OTHER_WORDS = 0.04  # the share of words that are exchanged for any others
WORDINGS = 4  # captions drawn for each scene
SETTINGS = LoopSettings(steps=1_500, learning_rate=2e-3)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Half as wide as the still-life model's; the projection goes into that one's space, 128 wide."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=128,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Student(nn.Module):
    """The second text encoder, and the bridge: a matrix from both encoders' penultimate states to the first's last.

    A denoiser that was told the last states is told nearly the same through the bridge.
    """

    def __init__(self, encoder: CLIPTextModelWithProjection, teacher_width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.bridge = nn.Linear(teacher_width + encoder.config.hidden_size, teacher_width, bias=False)


def teach_text_encoder(
    folder: Path,
    teacher: CLIPTextModel,
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer],
    images: int,
    settings: LoopSettings = SETTINGS,
) -> Student:
    """Train a second text encoder on the captions of the training pool's scenes, from nothing.

    Its projected embedding learns to be the teacher's pooled one, and its penultimate states, beside the teacher's
    penultimate ones, to say what the teacher's last states say.
    """
    torch.manual_seed(settings.seed)
    student = Student(new_text_encoder(tokenizers[1]), teacher.config.hidden_size).to(device())
    teacher.to(device())
    texts = _captions(images)
    first, second = (tokenize(tokenizer, texts).to(torch.int16) for tokenizer in tokenizers)
    special = set(tokenizers[0].all_special_ids)
    words = torch.tensor(sorted(set(tokenizers[0].get_vocab().values()) - special))

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = torch.randint(len(texts), (BATCH,), generator=generator)
        ids, ids_2 = first[chosen].long(), second[chosen].long()
        others = words[torch.randint(len(words), ids.shape, generator=generator)]
        exchanged = (torch.rand(ids.shape, generator=generator) < OTHER_WORDS) & torch.isin(ids, words)
        ids, ids_2 = torch.where(exchanged, others, ids), torch.where(exchanged, others, ids_2)
        with torch.no_grad():
            told = teacher(ids.to(device()), output_hidden_states=True)
        said = student.encoder(ids_2.to(device()), output_hidden_states=True)
        joined = torch.cat([told.hidden_states[-2], said.hidden_states[-2]], dim=-1)
        states = functional.mse_loss(student.bridge(joined), told.last_hidden_state)
        pooled = functional.mse_loss(said.text_embeds, told.pooler_output)
        return states + pooled, {"states": states.item(), "pooled": pooled.item()}

    train(student, loss, settings, folder / "text_encoder_2")
    return student


def _captions(images: int) -> list[str]:
    """No words at all, and every scene of the pool in several wordings."""
    rng = np.random.default_rng(0)
    said = ["", *(scene.caption(0) for scene in pool_scenes("train", images))]
    for scene in pool_scenes("train", images):
        said += [scene.caption(int(wording)) for wording in rng.integers(1, 2**31, WORDINGS - 1)]
    return said
