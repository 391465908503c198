"""What an edit costs at Stable Diffusion XL's real size: `python -m benchmarks.sdxl_size`.

The networks have the published configurations and random weights. First, one evaluation of the UNet, the VAE's encoder
and decoder, and the text encoders with an edit's prompts are measured, each with its memory besides the weights. Then
one edit by `StableDiffusionXLDiffEditPipeline` is timed with small stand-in networks of the same widths, and their time
is subtracted: what remains is everything else that an edit does. Only one network at a time is in memory; the UNet
takes 5.2 GB in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from benchmarks.inside import Edit, modules_of, seconds_inside
from benchmarks.memory import mib, peak_bytes
from benchmarks.options import parser_of
from benchmarks.sd15 import SCHEDULE, TEXT
from benchmarks.sd15 import VAE as SD15_VAE
from benchmarks.tasks import Task, recolouring
from benchmarks.timing import seconds_of
from semantic_edit.evaluation.method import sides_of
from semantic_edit.pipelines import StableDiffusionXLDiffEditPipeline
from semantic_edit.still_life import model_path

SIDE = 1024
CPU = torch.device("cpu")
UNET = {
    "sample_size": SIDE // 8,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 1280 + 6 * 256,
}
VAE = {**SD15_VAE, "sample_size": SIDE, "scaling_factor": 0.13025}
TEXT_2 = {
    **TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
}
HEADER = "| SDXL at 1024 px | seconds | memory beside the weights | weights |\n| --- | --- | --- | --- |"


@dataclass(frozen=True)
class Cost:
    """The cost of one call: the median time in seconds, and both memories in bytes."""

    seconds: float
    peak: int
    weights: int

    def line(self, what: str) -> str:
        """A table's."""
        return f"| {what} | {self.seconds:.2f} | {mib(self.peak)} | {mib(self.weights)} |"


def random_unet(dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet at its real size, created in its final dtype: in float32 it would take twice the memory."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET).eval().to(dtype)
    unet.to_empty(device=CPU)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            else:
                parameter.fill_(name.endswith("weight"))
    return unet


@torch.no_grad()
def cost_of(run: Callable[[], object], repeats: int, *models: torch.nn.Module) -> Cost:
    """Measure a call; the memory is measured in a first one, which also warms up."""
    peak = peak_bytes(run, CPU)
    seconds = sorted(seconds_of(run) for _ in range(repeats))
    weights = sum(one.numel() * one.element_size() for model in models for one in model.parameters())
    return Cost(seconds[len(seconds) // 2], peak, weights)


def unet_cost(dtype: torch.dtype, repeats: int) -> Cost:
    """The cost of one evaluation of one sample."""
    unet, cell = random_unet(dtype), SIDE // 8
    latents, text = torch.randn(1, 4, cell, cell, dtype=dtype), torch.randn(1, 77, 2048, dtype=dtype)
    sizes = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]], dtype=dtype)
    added = {"text_embeds": torch.randn(1, 1280, dtype=dtype), "time_ids": sizes}
    return cost_of(lambda: unet(latents, torch.tensor(501), text, added_cond_kwargs=added), repeats, unet)


def vae_costs(repeats: int) -> tuple[Cost, Cost]:
    """The cost of encoding and of decoding an image, in float32, as its config demands."""
    vae, image = AutoencoderKL(**VAE).eval(), torch.rand(1, 3, SIDE, SIDE)
    latents = torch.randn(1, 4, SIDE // 8, SIDE // 8)
    return cost_of(lambda: vae.encode(image), repeats, vae), cost_of(
        lambda: vae.decode(latents), repeats, vae
    )


def text_encoders(layers: int | None = None) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Both text encoders in float32 at their real widths, with all layers or a given number."""
    fewer = {} if layers is None else {"num_hidden_layers": layers}
    return (
        CLIPTextModel(CLIPTextConfig(**{**TEXT, **fewer})).eval(),
        CLIPTextModelWithProjection(CLIPTextConfig(**{**TEXT_2, **fewer})).eval(),
    )


def text_cost(prompts: int, repeats: int) -> Cost:
    """The cost of encoding some prompts with both text encoders."""
    encoders, ids = text_encoders(), torch.randint(0, 1000, (prompts, 77))
    return cost_of(
        lambda: [encoder(ids, output_hidden_states=True) for encoder in encoders], repeats, *encoders
    )


def stand_in_pipeline() -> StableDiffusionXLDiffEditPipeline:
    """A pipeline whose networks have the real inputs and outputs, but compute little."""
    tokenizer = CLIPTokenizer.from_pretrained(model_path() / "tokenizer", model_max_length=77)
    narrow: dict[str, Any] = {
        "block_out_channels": (8, 8, 8),
        "transformer_layers_per_block": 1,
        "attention_head_dim": 1,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }
    first, second = text_encoders(layers=2)
    pipe = StableDiffusionXLDiffEditPipeline(
        vae=AutoencoderKL(**{**VAE, "block_out_channels": (4, 4, 4, 4), "norm_num_groups": 4}).eval(),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(**{**UNET, **narrow}).eval(),
        scheduler=EulerDiscreteScheduler.from_config(SCHEDULE),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rest_of_edit(task: Task, repeats: int) -> tuple[float, int]:
    """The median seconds of one edit outside its networks, and the number of samples that its UNet evaluates."""
    pipe, samples = stand_in_pipeline(), [0]

    def run() -> object:
        return pipe(
            task.image,
            task.prompt,
            task.source_prompt,
            generator=torch.Generator().manual_seed(0),
            **sides_of(task.image),
        )

    modules = {**modules_of(pipe), "text encoder": [pipe.text_encoder, pipe.text_encoder_2]}

    def count(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        samples[0] += len(arguments[0])

    handle = pipe.unet.register_forward_pre_hook(count)
    run()
    handle.remove()
    rests = []
    for _ in range(repeats):
        whole, parts = seconds_inside(Edit("", run, modules))
        rests.append(whole - sum(parts.values()))
    return sorted(rests)[len(rests) // 2], samples[0]


def main() -> None:
    parser = parser_of(__doc__, repeats=3)
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="precision of the UNet"
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    print(HEADER)
    rest, samples = rest_of_edit(recolouring(SIDE), options.repeats)
    text = text_cost(2, options.repeats)
    print(text.line("two prompts through both text encoders, float32"), flush=True)
    encoding, decoding = vae_costs(1)
    print(encoding.line("the VAE's encoder, float32"))
    print(decoding.line("the VAE's decoder, float32"), flush=True)
    unet = unet_cost(getattr(torch, options.dtype), options.repeats)
    print(unet.line(f"one evaluation of the UNet, {options.dtype}"))
    networks = samples * unet.seconds + encoding.seconds + decoding.seconds
    print(
        f"\nAn edit of {samples} evaluations: {networks:.0f} s in the UNet and the VAE; {text.seconds:.2f} s in the "
        f"text encoders and {rest:.2f} s in all the rest, together {(text.seconds + rest) / networks:.2%} of that. "
        f"{torch.get_num_threads()} threads."
    )


if __name__ == "__main__":
    main()
