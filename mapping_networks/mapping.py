"""The mapping network as a function of its parameters, for one network or several side by side.

A network turns an image's CLIP vision tokens into the input that the value projections of a UNet's cross-attention
receive in place of the text. Its layers treat tokens as channels, so a convolution of kernel size 1 is a single matrix
that mixes tokens.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

VARIANTS = ("modulate", "direct")
NORM_EPSILON = 1e-5  # BatchNorm's own


def parameter_shapes(
    variant: str, num_text_tokens: int, text_width: int, num_image_tokens: int, image_width: int
) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of one network, in the order in which they are drawn for a new one.

    A weight is (out, in). With 77 text tokens of width 768 and 197 image tokens of the same width, "modulate" has
    78,540 parameters.

    Args:
        variant: "modulate" or "direct".
        num_text_tokens, text_width: Of the text embeddings.
        num_image_tokens, image_width: Of the CLIP vision tokens.

    Returns:
        Shapes by name; see `mapping_forward` for what they mean.
    """
    hidden = 2 * num_text_tokens
    mapped = hidden if variant == "modulate" else num_text_tokens
    layers = {
        "conv_in": (hidden, num_image_tokens),
        "conv_mid": (hidden, hidden),
        "norm": (hidden,),
        "conv_out": (mapped, hidden),
    }
    if image_width != text_width:
        layers = {"proj": (text_width, image_width), **layers}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        shapes[f"{name}_weight"], shapes[f"{name}_bias"] = shape, shape[:1]
    return shapes


def initial_parameters(
    shapes: dict[str, tuple[int, ...]], seed: int, silent: bool = False
) -> dict[str, torch.Tensor]:
    """One network as PyTorch would initialise it, in float32: what `nn.Conv1d` and `nn.Linear` draw after
    `torch.manual_seed(seed)`.

    Args:
        shapes: The result of `parameter_shapes`.
        seed: For a generator that is created here; the global one is not touched.
        silent: Whether its last layer is 0, so that its output is too.

    Returns:
        A tensor for each of the names, on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition("_")
        value = torch.empty(shape, dtype=torch.float32)
        if layer == "norm":
            drawn[name] = value.fill_(1.0 if kind == "weight" else 0.0)
        elif kind == "weight":
            drawn[name] = nn.init.kaiming_uniform_(value, a=math.sqrt(5), generator=generator)
        else:
            bound = 1 / math.sqrt(shapes[f"{layer}_weight"][-1])
            drawn[name] = nn.init.uniform_(value, -bound, bound, generator=generator)
        if silent and layer == "conv_out":
            drawn[name].zero_()
    return drawn


def mapping_forward(parameters: dict[str, torch.Tensor], image_tokens: torch.Tensor) -> torch.Tensor:
    """Evaluate a batch of networks, each on its own image.

    Each token is normalised over its width. That is what BatchNorm in train mode does at batch size 1, and it makes an
    image's result independent of the others in the batch, apart from rounding.

    Args:
        parameters: (batch, *shape) for each name of `parameter_shapes`.
        image_tokens: (batch, image tokens, image width), of the parameters' dtype.

    Returns:
        (batch, 2 * text tokens, text width) for "modulate", (batch, text tokens, text width) for "direct".

    Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.2; the layers as in the authors' published code.
    """
    with torch.autocast(image_tokens.device.type, enabled=False):
        hidden = image_tokens
        if "proj_weight" in parameters:
            bias = parameters["proj_bias"].unsqueeze(1)
            hidden = torch.baddbmm(bias, hidden, parameters["proj_weight"].transpose(1, 2))
        hidden = _mix_tokens(parameters, "conv_mid", _mix_tokens(parameters, "conv_in", hidden))
        hidden = functional.layer_norm(hidden, hidden.shape[-1:], eps=NORM_EPSILON)
        hidden = hidden * parameters["norm_weight"].unsqueeze(-1) + parameters["norm_bias"].unsqueeze(-1)
        return _mix_tokens(parameters, "conv_out", functional.leaky_relu(hidden))


def _mix_tokens(parameters: dict[str, torch.Tensor], layer: str, tokens: torch.Tensor) -> torch.Tensor:
    bias = parameters[f"{layer}_bias"].unsqueeze(-1)
    return torch.baddbmm(bias, parameters[f"{layer}_weight"], tokens)


def value_embeds_of(
    variant: str,
    mapped: torch.Tensor,
    text_embeds: torch.Tensor,
    negative_embeds: torch.Tensor | None = None,
    guidance_scale: float = 1.0,
) -> torch.Tensor:
    """The input of the value projections: "modulate" scales and shifts the text, "direct" replaces it.

    With `negative_embeds`, "modulate" changes the text's values not from nothing, but from where guidance has about no
    effect: a share of 1 / `guidance_scale` of the way from the negative prompt's to the text's, which guidance takes
    `guidance_scale` times.

    Args:
        variant: "modulate" or "direct".
        mapped: The result of `mapping_forward`, (batch or 1, mapped tokens, text width); scales come before shifts.
        text_embeds: (batch, text tokens, text width), in any floating dtype.
        negative_embeds: (batch or 1, text tokens, text width), or `None`.
        guidance_scale: The learned one.

    Returns:
        (batch, text tokens, text width) in the dtype of `text_embeds`, computed in that of `mapped`.
    """
    if variant == "direct":
        return mapped.expand(text_embeds.shape).to(text_embeds.dtype)
    scale, shift = mapped.chunk(2, dim=1)
    text = text_embeds.to(mapped.dtype)
    values = text * scale + shift
    if negative_embeds is not None:
        away = negative_embeds.to(mapped.dtype)
        values = values + away + (text - away) / max(guidance_scale, 1.0)
    return values.to(text_embeds.dtype)
