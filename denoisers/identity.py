"""What a network is and what conditions it, as text by which both can be recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers.utils import is_peft_available

from semantic_edit.editing.conditioning import Conditioning

PRECISE = (torch.float16, torch.float32, torch.float64)
"""Dtypes precise enough for the first values to distinguish a copy from another model."""

LOOK_WAVES = 8  # along each side of the projection by which embeddings are recognised
TEXT_TOLERANCE = 0.03
"""Relative to the size of the embeddings: bfloat16 changes them by 0.005, a different word by 0.15 or more."""


@torch.no_grad()
def model_fingerprint(model: torch.nn.Module) -> str:
    """Sixteen hexadecimal digits that distinguish one denoising model from another, cheaply, whatever adapters it has.

    Hashes the names, shapes and first values of all parameters, the values as float16, so that a model and its
    half-precision copy agree. If weights are offloaded out of reach, or are in bfloat16 or 8 bits, which are too coarse
    to distinguish a copy from another model, the result is "", which is never compared.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
    adapted = [f"{path}." for path, _ in _adapted_layers(model)]
    parameters = [
        (name, parameter)
        for name, parameter in ((_own_name(name, adapted), one) for name, one in model.named_parameters())
        # `fuse_qkv_projections` adds copies of existing weights, which are never removed again
        if name and ".to_qkv." not in name and ".to_kv." not in name
    ]
    if not parameters or not all(_is_precise(parameter) for _, parameter in parameters):
        return ""
    names = json.dumps([(name, list(parameter.shape)) for name, parameter in parameters])
    first = torch.cat([_first_four(parameter) for _, parameter in parameters]).to(torch.float16)
    return hashlib.sha256(names.encode() + first.cpu().numpy().tobytes()).hexdigest()[:16]


@torch.no_grad()
def network_identity(model: torch.nn.Module, cross_attention_kwargs: dict[str, Any] | None = None) -> str:
    """What a network computes with: `model_fingerprint` and, after a "+", the adapters that are active.

    Adapters are described by sixteen digits for their places and scales, and sixteen for their weights, or none if the
    weights cannot be fingerprinted. Adapters that are disabled, merged into the weights or scaled to nothing are not
    counted, and their names do not matter. Without any, nothing follows the fingerprint; if that is "", the result is
    "+".

    Args:
        model: The network.
        cross_attention_kwargs: "scale" is the LoRA scale of the call.
    """
    base = model_fingerprint(model)
    places, weights = [], []
    known = True
    for path, layer in _adapted_layers(getattr(model, "_orig_mod", model)):
        for adapter, factor in _acting(layer, (cross_attention_kwargs or {}).get("scale", 1.0)):
            own = [
                (name.replace(f".{adapter}", ""), one)
                for name, one in layer.named_parameters()
                if adapter in name.split(".") and not name.startswith("base_layer.")
            ]
            if not own:  # an adapter only of other layers
                continue
            known = known and all(_is_precise(one) for _, one in own)
            places.append([path, factor, [(name, list(one.shape)) for name, one in own]])
            if known:
                first = (_first_four(one).to(torch.float16).cpu().numpy().tobytes().hex() for _, one in own)
                weights.append([path, *first])
    if not places:
        return base or "+"
    return f"{base}+{_digest(places)}+{_digest(weights) if known else ''}"


def check_same_adapters(name: str, made_with: str, here: str) -> None:
    """Raise if something was made with other adapters than a network has now.

    Args:
        name: The argument.
        made_with, here: From `network_identity`; "" is not compared.

    Raises:
        ValueError: Saying on which side there are adapters.
    """
    if not made_with or not here:
        return
    (_, *then), (_, *now) = made_with.split("+"), here.split("+")
    then, now = ([one for one in parts if one] for parts in (then, now))
    if all(one == other for one, other in zip(then, now, strict=False)) and bool(then) == bool(now):
        return
    if then and now:
        difference = "with another LoRA, or another scale of it, than the model has in this call"
    else:
        difference = (
            "with a LoRA, but none is active in this call"
            if then
            else "without the LoRA that the model has in this call"
        )
    raise ValueError(
        f"The `{name}` was made {difference}, so it would not reproduce the picture. Load and scale what it was "
        'made with (`load_lora_weights`, `set_adapters`, "scale" in the call\'s attention arguments), or make it again.'
    )


def text_look(*given: Conditioning) -> str:
    """What conditions a network, as hexadecimal digits of 8 x 8 projections that half precision hardly changes.

    The prompts' token embeddings come first, and are all that there is in a family that has nothing else; then each of
    the other tensors, in the order of their names.

    Args:
        given: One prompt each, of one model.
    """
    names = sorted(given[0].tensors, key=lambda name: (name != "prompt_embeds", name))
    parts = ([one.tensors[name] for one in given] for name in names)
    return "".join(
        _projections(torch.cat([one.reshape(-1, one.shape[-1]) for one in part])) for part in parts
    )


def _projections(told: torch.Tensor) -> str:
    """Those of one tensor, (rows, width)."""
    told = told.detach().double().cpu()
    tokens, width = (
        torch.cos(2.4 * torch.arange(1, LOOK_WAVES + 1)[:, None] * torch.arange(size)).double()
        for size in told.shape
    )
    parts = 2 * tokens @ told @ width.T / told.norm().clamp(min=1e-12)
    # in thousandths, two bytes each
    return b"".join(
        int(value).to_bytes(2, "big", signed=True)
        for value in (1000 * parts).round().clamp(-32767, 32767).flatten()
    ).hex()


def check_same_text(look: str, given: Sequence[Conditioning], prompt: str) -> None:
    """Raise if the learned prompt no longer means what it did when it was learned.

    Args:
        look: From `text_look`; "" is not compared, nor are tensors after the last that it covers.
        given: The corresponding prompts of this call.
        prompt: The learned prompt.

    Raises:
        ValueError: Saying by how much the embeddings differ.
    """
    if not look:
        return
    then, now = (_numbers(one) for one in (look, text_look(*given)))
    difference = torch.tensor(torch.inf)
    if len(then) in range(LOOK_WAVES**2, len(now) + 1, LOOK_WAVES**2):
        of_each = (then - now[: len(then)]).unflatten(0, (-1, LOOK_WAVES**2)).square().mean(1).sqrt()
        difference = of_each.max()
    if difference > TEXT_TOLERANCE:
        raise ValueError(
            f"The `mapping_network` was learned under {prompt!r}, whose embeddings differ in this call by "
            f"{float(difference):.0%} of their size, so it would not reproduce the picture. Load the text encoder, the "
            "textual inversions and the LoRA that it was learned with, at the same scale, or learn the picture again."
        )


def _numbers(look: str) -> torch.Tensor:
    try:
        digits = bytes.fromhex(look)
    except ValueError:
        digits = b""
    pairs = zip(digits[::2], digits[1::2], strict=False)
    return torch.tensor([int.from_bytes(pair, "big", signed=True) / 1000 for pair in pairs])


def _adapted_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Every layer that is wrapped by adapters, with its path."""
    if not is_peft_available():
        return
    # written like this, or diffusers warns users who load this as a custom pipeline that they lack peft
    import peft.tuners.tuners_utils as tuners

    for path, module in model.named_modules():
        if isinstance(module, tuners.BaseTunerLayer):
            yield path, module


def _own_name(name: str, adapted: Sequence[str]) -> str:
    """A parameter's name as it is without adapters, or "" for an adapter's own parameters."""
    for prefix in adapted:
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            return prefix + inner.removeprefix("base_layer.") if inner.startswith("base_layer.") else ""
    return name


def _acting(layer: Any, scale: float) -> Iterator[tuple[str, float | None]]:
    """The adapters that a layer computes with, each with its factor, or `None` if its kind has none."""
    if layer.disable_adapters or layer.merged:
        return
    factors = getattr(layer, "scaling", {})
    for adapter in layer.active_adapters:
        factor = float(f"{factors[adapter] * scale:.4g}") if adapter in factors else None
        if factor != 0:
            yield adapter, factor


def _is_precise(parameter: torch.Tensor) -> bool:
    return not parameter.is_meta and parameter.dtype in PRECISE


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(sorted(value, key=json.dumps)).encode()).hexdigest()[:16]


def _first_four(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter's first values, by a single operation if possible: a model has hundreds of parameters."""
    if parameter.is_contiguous() and parameter.numel() >= 4:
        return parameter.as_strided((4,), (1,))
    # from four rows, because flattening all of them would copy weights in channels-last layout
    return (parameter[:4] if parameter.ndim > 1 else parameter).flatten()[:4]
