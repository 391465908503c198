"""What a network is and what it is told, as text by which both are known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers.utils import is_peft_available

PRECISE = (torch.float16, torch.float32, torch.float64)
"""Types of which the first digits tell a copy from another model."""

LOOK_WAVES = 8  # along each side of what embeddings are known by
TEXT_TOLERANCE = 0.03
"""Of the embeddings' own size: bfloat16 changes them by 0.005, another word by 0.15 and more."""


@torch.no_grad()
def model_fingerprint(model: torch.nn.Module) -> str:
    """Sixteen hexadecimal digits that tell one denoising model from another, cheaply, whatever adapters it has.

    Hashes the names, the shapes and the first values of all parameters, the values as float16, so that a
    model and its half-precision copy agree. Where weights are offloaded out of reach, or in bfloat16 or 8 bits, whose
    few digits cannot tell a copy from another model, the answer is "", which is never compared.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper
    adapted = [f"{path}." for path, _ in _adapted_layers(model)]
    parameters = [
        (name, parameter)
        for name, parameter in ((_own_name(name, adapted), one) for name, one in model.named_parameters())
        # `fuse_qkv_projections` adds copies of what is there, and nothing takes them away again
        if name and ".to_qkv." not in name and ".to_kv." not in name
    ]
    if not parameters or not all(_is_precise(parameter) for _, parameter in parameters):
        return ""
    names = json.dumps([(name, list(parameter.shape)) for name, parameter in parameters])
    first = torch.cat([_first_four(parameter) for _, parameter in parameters]).to(torch.float16)
    return hashlib.sha256(names.encode() + first.cpu().numpy().tobytes()).hexdigest()[:16]


@torch.no_grad()
def network_identity(model: torch.nn.Module, cross_attention_kwargs: dict[str, Any] | None = None) -> str:
    """What a network computes with: `model_fingerprint` and, behind "+", the adapters that act on it.

    Of the adapters come sixteen digits of where they are and at which scale, and sixteen of their weights, or none
    where these cannot be told. Adapters that are disabled, merged into the weights or scaled to nothing do not count,
    nor do names. Without any, nothing follows the fingerprint, or "+" alone if that is "".

    Args:
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
            if not own:  # an adapter of other layers
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
    """Refuse what was made with other adapters than a network has now.

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
        difference = "with another LoRA, or another scale of it, than the UNet has in this call"
    else:
        difference = (
            "with a LoRA, and none acts on the UNet in this call"
            if then
            else "without the LoRA that the UNet has in this call"
        )
    raise ValueError(
        f"The `{name}` was made {difference}, so it would not give the picture back. Load and scale what it was "
        'made with (`load_lora_weights`, `set_adapters`, `cross_attention_kwargs={"scale": ...}`), or make it again.'
    )


def base_of(identity: str) -> str:
    """The fingerprint in what `network_identity` gave."""
    return identity.partition("+")[0]


def text_look(*embeds: torch.Tensor) -> str:
    """What a network is told, the same in half precision up to a few digits: hexadecimal digits of 8 x 8 projections.

    Args:
        embeds: (tokens, width) each, of one width.
    """
    told = torch.cat(embeds).detach().double().cpu()
    tokens, width = (
        torch.cos(2.4 * torch.arange(1, LOOK_WAVES + 1)[:, None] * torch.arange(size)).double()
        for size in told.shape
    )
    parts = 2 * tokens @ told @ width.T / told.norm().clamp(min=1e-12)
    # thousandths, in two bytes each
    return b"".join(
        int(value).to_bytes(2, "big", signed=True)
        for value in (1000 * parts).round().clamp(-32767, 32767).flatten()
    ).hex()


def check_same_text(look: str, embeds: Sequence[torch.Tensor], prompt: str) -> None:
    """Refuse to restyle where the learned prompt means something else than it did.

    Args:
        look: From `text_look`; "" is not compared.
        embeds: What it is taken of in this call.
        prompt: The learned one.

    Raises:
        ValueError: Saying by how much it differs.
    """
    if not look:
        return
    then, now = (_numbers(one) for one in (look, text_look(*embeds)))
    difference = (then - now).square().mean().sqrt() if then.shape == now.shape else torch.tensor(torch.inf)
    if difference > TEXT_TOLERANCE:
        raise ValueError(
            f"The `mapping_network` was learned under {prompt!r}, whose embeddings are others in this call, by "
            f"{float(difference):.0%} of their size, so it would not give the picture back. Load the text encoder, the "
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
    """Every layer that adapters were put around, with its path."""
    if not is_peft_available():
        return
    # in these words, or diffusers warns those who load this as a custom pipeline that they lack peft
    import peft.tuners.tuners_utils as tuners

    for path, module in model.named_modules():
        if isinstance(module, tuners.BaseTunerLayer):
            yield path, module


def _own_name(name: str, adapted: Sequence[str]) -> str:
    """A parameter's name without what adapters made of it, or "" if it is an adapter's."""
    for prefix in adapted:
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            return prefix + inner.removeprefix("base_layer.") if inner.startswith("base_layer.") else ""
    return name


def _acting(layer: Any, scale: float) -> Iterator[tuple[str, float | None]]:
    """The adapters that a layer computes with, each with its factor, or `None` where its kind has none."""
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
    """A parameter's first values, by one operation where it can be: a model has hundreds of parameters."""
    if parameter.is_contiguous() and parameter.numel() >= 4:
        return parameter.as_strided((4,), (1,))
    # of four rows, because flattening all would copy weights that lie channels last
    return (parameter[:4] if parameter.ndim > 1 else parameter).flatten()[:4]
