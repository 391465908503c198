"""The still-life transformer in Stable Diffusion 3's layout, and how it is trained: rectified flow, from nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

from semantic_edit.still_life.clip import MAX_TOKENS, tokenize
from semantic_edit.still_life.scenes import Scene
from training.denoising import LatentPool
from training.grounding import ObjectWords, grounding_loss
from training.loop import LoopSettings, device, train
from training.still_life_sd3.joint_maps import recorded_text_columns

BATCH = 32
GROUNDING = 0.05  # the weight of the grounding loss
PLAIN, EMPTY = 0.25, 0.10  # the shares of captions in the plain wording, and of no words in their place
# How often tokens' states and the pooled embedding are told (1) or zeros in their place (0).
KEPT = {(1, 1): 0.84, (1, 0): 0.10, (0, 1): 0.06}
ABSENT = 256  # the tokens of zeros that stand for an absent third encoder, unless a caller says otherwise
SETTINGS = LoopSettings(
    steps=9_000, learning_rate=1e-3, ema_decay=0.999, warmup=300, weight_decay=0.01, checkpoint_every=250
)

# From pictures' numbers and the step's generator: token ids (batch, tokens), and what the transformer is called with.
Tell = Callable[[torch.Tensor, torch.Generator], tuple[torch.Tensor, dict[str, Any]]]


def new_scheduler(shift: float = 1.0) -> FlowMatchEulerDiscreteScheduler:
    """Stable Diffusion 3's, with the shift that suits 16x16 latents."""
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def new_transformer(text_width: int, pooled_width: int) -> SD3Transformer2DModel:
    """Patches of 2x2 latent cells, 64 for a picture of 128 pixels a side; room for 24 patches a side."""
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=6,
        joint_attention_dim=text_width,
        caption_projection_dim=192,
        pooled_projection_dim=pooled_width,
        pos_embed_max_size=24,
        qk_norm="rms_norm",
    )


def train_transformer(
    pipe: StableDiffusion3Pipeline,
    folder: Path,
    pool: LatentPool,
    scenes: list[Scene],
    settings: LoopSettings = SETTINGS,
) -> None:
    """Train the pipeline's transformer in place to predict velocities; a checkpoint in `folder` goes first.

    Noise levels are drawn as in Sec. 3.1 of the Stable Diffusion 3 paper, arXiv 2403.03206: logit-normal.
    """
    torch.manual_seed(settings.seed)
    pipe.to(device())
    tell, find_words = _teller(pipe, scenes), ObjectWords(pipe.tokenizer)
    transformer = pipe.transformer

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = torch.randint(len(pool.latents), (BATCH,), generator=generator)
        with torch.no_grad(), torch.autocast(device().type, torch.bfloat16):
            ids, told = tell(chosen, generator)
        sigmas = _levels(generator).to(device())
        clean = pool.latents[chosen].float().to(device())
        noise = torch.randn(clean.shape, generator=generator).to(device())
        level = sigmas.view(-1, 1, 1, 1)
        noisy = (1 - level) * clean + level * noise
        maps.clear()
        with torch.autocast(device().type, torch.bfloat16):
            velocity = transformer(noisy, timestep=1000 * sigmas, **told).sample
        error = (velocity.float() - (noise - clean)).square().mean()
        coverage = pool.coverage[chosen].float().to(device())
        grounding = grounding_loss(maps, find_words(ids).to(device()), coverage)
        return error + GROUNDING * grounding, {"mse": error.item(), "outside": grounding.item()}

    with recorded_text_columns(transformer, MAX_TOKENS, ABSENT) as maps:
        train(transformer, loss, settings, folder / "transformer")


def _levels(generator: torch.Generator) -> torch.Tensor:
    """Noise levels, (BATCH,), logit-normal; each batch covers the distribution evenly."""
    spread = (torch.rand(1, generator=generator) + (torch.arange(BATCH) + 0.5) / BATCH) % 1.0
    return (math.sqrt(2) * torch.erfinv(2 * spread.clamp(1e-3, 1 - 1e-3) - 1)).sigmoid()


def _teller(pipe: StableDiffusion3Pipeline, scenes: list[Scene]) -> Tell:
    """What the pipeline itself tells its transformer, with one token of zeros for all of the absent encoder's."""

    def tell(chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        wordings = torch.randint(2**31, (BATCH,), generator=generator)
        wordings[torch.rand(BATCH, generator=generator) < PLAIN] = 0
        silent = torch.rand(BATCH, generator=generator) < EMPTY
        asked = zip(chosen.tolist(), wordings.tolist(), silent.tolist(), strict=True)
        texts = ["" if is_silent else scenes[one].caption(wording) for one, wording, is_silent in asked]
        embeds, _, pooled, _ = pipe.encode_prompt(
            texts, None, None, do_classifier_free_guidance=False, max_sequence_length=1
        )
        cases = torch.multinomial(
            torch.tensor([*KEPT.values()]), BATCH, replacement=True, generator=generator
        )
        kept = torch.tensor([*KEPT])[cases].to(embeds)
        heard = [
            text if any_heard else "" for text, any_heard in zip(texts, kept[:, 0].tolist(), strict=True)
        ]
        return tokenize(pipe.tokenizer, heard), {
            "encoder_hidden_states": embeds * kept[:, :1, None],
            "pooled_projections": pooled * kept[:, 1:],
        }

    return tell
