"""An edit at the real sizes of newer families, by DiffEdit's default preset: seconds, evaluations and peak memory.

Every network has its published configuration and random weights, but T5, for which one small layer stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

from benchmarks import sdxl_size
from benchmarks.on_gpu.bench import Bench
from benchmarks.on_gpu.report import Figure, figure
from benchmarks.sd15 import SCHEDULE, TEXT
from benchmarks.tasks import recolouring
from semantic_edit.evaluation.method import sides_of
from semantic_edit.pipelines import (
    FluxDiffEditPipeline,
    StableDiffusion3DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
)
from semantic_edit.still_life import model_path

SIDE = 1024
SD3_MEDIUM: dict[str, Any] = {
    "sample_size": SIDE // 8,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 192,
}
FLUX_DEV: dict[str, Any] = {"guidance_embeds": True}
FLOW_VAE: dict[str, Any] = {
    **sdxl_size.VAE,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
}
"""SD3's; FLUX's differs in both factors only."""


def families(bench: Bench) -> Iterator[Figure]:
    """One family after the other, each in bfloat16; an SDXL edit with four images too."""
    for name, make, batches in (
        ("SDXL", sdxl, (1, 4)),
        ("Stable Diffusion 3 medium", sd3, (1,)),
        ("FLUX.1 dev", flux, (1,)),
    ):
        with torch.device(bench.device), in_precision(torch.bfloat16 if bench.on_gpu else torch.float32):
            torch.manual_seed(0)
            pipe = make(bench.quick)
        pipe.set_progress_bar_config(disable=True)
        for batch in batches:
            yield from edited(bench, pipe, name, batch)
        del pipe
        if bench.on_gpu:
            torch.cuda.empty_cache()


def edited(bench: Bench, pipe: Any, name: str, batch: int) -> Iterator[Figure]:
    """Count the samples that one call evaluates, then time it."""
    task, samples = recolouring(128 if bench.quick else SIDE), [0]
    call = partial(
        pipe,
        [task.image] * batch,
        [task.prompt] * batch,
        [task.source_prompt] * batch,
        num_inference_steps=2 if bench.quick else 20,
        generator=[torch.Generator().manual_seed(seed) for seed in range(batch)],
        **sides_of(task.image),
    )

    def count(module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        samples[0] += len(given[0] if given else named["hidden_states"])

    network = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    handle = network.register_forward_pre_hook(count, with_kwargs=True)
    try:
        call()
    finally:
        handle.remove()
    seconds, peaks = bench.raced({"": call}, repeats=1 if bench.quick else 2)
    images = f"{batch} image{'s' * (batch > 1)}"
    yield figure(f"{name}, {task.image.width} pixels, {images}, {samples[0]} evaluations", seconds[""])
    if bench.on_gpu:
        yield Figure(f"{name}, {images}: peak memory beside the weights", peaks[""], "MiB")


class in_precision:
    """In the block, new floating-point tensors have this dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)


def tokenizer(length: int = 77) -> CLIPTokenizer:
    """The still-life model's."""
    return CLIPTokenizer.from_pretrained(model_path() / "tokenizer", model_max_length=length)


def clip(which: Callable[..., Any], config: dict[str, Any], quick: bool, **changes: Any) -> Any:
    """A text encoder that knows the tokenizer's special tokens."""
    own = tokenizer()
    special = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    fewer = {"num_hidden_layers": 2} if quick else {}
    return which(CLIPTextConfig(**{**config, **special, **fewer, **changes})).eval()


def vae(config: dict[str, Any], quick: bool, **changes: Any) -> AutoencoderKL:
    narrow = {"block_out_channels": (32,) * 4} if quick else {}
    return AutoencoderKL(**{**config, **narrow, **changes}).eval()


def sdxl(quick: bool) -> Any:
    small: dict[str, Any] = {
        "block_out_channels": (32, 32, 32),
        "attention_head_dim": 4,
        "transformer_layers_per_block": 1,
    }
    return StableDiffusionXLDiffEditPipeline(
        unet=UNet2DConditionModel(**{**sdxl_size.UNET, **(small if quick else {})}).eval(),
        vae=vae(sdxl_size.VAE, quick),
        text_encoder=clip(CLIPTextModel, TEXT, quick),
        text_encoder_2=clip(CLIPTextModelWithProjection, sdxl_size.TEXT_2, quick),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULE),
    )


def sd3(quick: bool) -> Any:
    small = {"num_layers": 1, "num_attention_heads": 2, "caption_projection_dim": 128}
    return StableDiffusion3DiffEditPipeline(
        transformer=SD3Transformer2DModel(**{**SD3_MEDIUM, **(small if quick else {})}).eval(),
        vae=vae(FLOW_VAE, quick),
        text_encoder=clip(CLIPTextModelWithProjection, TEXT, quick, projection_dim=768),
        text_encoder_2=clip(CLIPTextModelWithProjection, sdxl_size.TEXT_2, quick),
        text_encoder_3=None,
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        tokenizer_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(quick: bool) -> Any:
    small = {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1}
    t5 = T5Config(d_model=4096, d_kv=64, d_ff=256, num_layers=1, num_heads=1)
    return FluxDiffEditPipeline(
        transformer=FluxTransformer2DModel(**{**FLUX_DEV, **(small if quick else {})}).eval(),
        vae=vae(FLOW_VAE, quick, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=clip(CLIPTextModel, TEXT, quick),
        tokenizer=tokenizer(),
        text_encoder_2=T5EncoderModel(t5).eval(),
        tokenizer_2=tokenizer(64 if quick else 512),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )
