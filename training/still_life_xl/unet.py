"""The still-life UNet in SDXL's layout, and how it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from semantic_edit.still_life.clip import tokenize
from training.denoising import BATCH, NOISE, train_denoiser
from training.loop import LoopSettings, device
from training.still_life_xl.pool import ScenePool
from training.still_life_xl.sizes import drawn_sizes

SIZE_WIDTH = 16  # of the embedding of each of the six numbers
PLAIN, EMPTY = 0.25, 0.03  # the shares of captions in the plain wording, and of no words in their place
# How often the first encoder's states, the second's and the pooled embedding are told (1) or zeros in their place (0).
KEPT = {(1, 1, 1): 0.74, (0, 0, 0): 0.10, (0, 0, 1): 0.08, (0, 1, 1): 0.04, (1, 0, 1): 0.04}
SETTINGS = LoopSettings(steps=4_000, learning_rate=3e-4, weight_decay=0.01, checkpoint_every=200)


def new_scheduler() -> EulerDiscreteScheduler:
    """SDXL's, with what its configuration says to other schedulers that are made from it."""
    others = {
        "clip_sample": False,
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
    }
    return EulerDiscreteScheduler.from_config(
        {**NOISE, "timestep_spacing": "leading", "steps_offset": 1, **others}
    )


def new_unet(start: UNet2DConditionModel, bridge: torch.Tensor, pooled_width: int) -> UNet2DConditionModel:
    """`start` in SDXL's layout: given states, it predicts what `start` does given `states @ bridge.T`.

    The pooled embedding and the sizes change nothing yet: the last layer of their embedding is zero.

    Args:
        start: A UNet of Stable Diffusion's first layout.
        bridge: From the states of both text encoders, side by side, to what `start` is told, (old width, new width).
        pooled_width: Of the pooled embedding.
    """
    config = {
        **{name: value for name, value in start.config.items() if name != "_name_or_path"},
        "cross_attention_dim": bridge.shape[1],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_WIDTH,
        "projection_class_embeddings_input_dim": pooled_width + 6 * SIZE_WIDTH,
        "use_linear_projection": True,
    }
    unet = UNet2DConditionModel.from_config(config)
    weights = dict(start.state_dict())
    for name, value in weights.items():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            weights[name] = value @ bridge
        elif name.endswith(("proj_in.weight", "proj_out.weight")):
            weights[name] = value.flatten(1)  # a convolution of one pixel is a linear layer
    torch.nn.init.zeros_(unet.add_embedding.linear_2.weight)
    torch.nn.init.zeros_(unet.add_embedding.linear_2.bias)
    added = unet.add_embedding.state_dict()
    unet.load_state_dict(weights | {f"add_embedding.{name}": value for name, value in added.items()})
    return unet


def train_unet(
    pipe: StableDiffusionXLPipeline, folder: Path, pool: ScenePool, settings: LoopSettings = SETTINGS
) -> None:
    """Train the pipeline's UNet, told what the pipeline itself tells it: see `StableDiffusionXLPipeline.encode_prompt`.

    Captions that are dropped are zeros, as `force_zeros_for_empty_prompt` has it, or else no words, encoded. Parts of
    what is told are dropped for themselves too, or the pooled embedding, which says nothing new, would not be minded.
    """
    torch.manual_seed(settings.seed)
    pipe.to(device())
    width = pipe.text_encoder.config.hidden_size

    def tell(chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, Any]]:
        wordings = torch.randint(2**31, (BATCH,), generator=generator)
        wordings[torch.rand(BATCH, generator=generator) < PLAIN] = 0
        silent = torch.rand(BATCH, generator=generator) < EMPTY
        asked = zip(chosen.tolist(), wordings.tolist(), silent.tolist(), strict=True)
        texts = ["" if is_silent else pool.scenes[one].caption(wording) for one, wording, is_silent in asked]
        embeds, _, pooled, _ = pipe.encode_prompt(texts, do_classifier_free_guidance=False)
        kept = kept_parts(BATCH, generator)
        first, second, summary = kept.to(embeds).unbind(dim=1)
        embeds[..., :width] *= first[:, None, None]
        embeds[..., width:] *= second[:, None, None]
        sizes = drawn_sizes(pool.reductions[chosen], generator)
        heard = [text if any(row[:2]) else "" for text, row in zip(texts, kept.tolist(), strict=True)]
        return tokenize(pipe.tokenizer, heard), {
            "encoder_hidden_states": embeds,
            "added_cond_kwargs": {"text_embeds": pooled * summary[:, None], "time_ids": sizes.to(device())},
        }

    train_denoiser(pipe.unet, tell, pool.images, pipe.tokenizer, settings, folder / "unet")


def kept_parts(count: int, generator: torch.Generator) -> torch.Tensor:
    """Ones for what is told, zeros for what is dropped: the encoders' states and the pooled embedding, (count, 3)."""
    cases = torch.multinomial(torch.tensor([*KEPT.values()]), count, replacement=True, generator=generator)
    return torch.tensor([*KEPT])[cases]
