"""Models in a single file: what they are copies of, and how to load them without the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from semantic_edit.disk.models import (
    FLUX,
    ONLY_SERVED,
    QWEN_IMAGE,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_3,
    STABLE_DIFFUSION_XL,
    Z_IMAGE,
    Family,
)
from semantic_edit.hub import network_unless
from semantic_edit.single_transformers import load_transformer

# by diffusers' names, except for Qwen-Image, of which it only converts the transformer
SERVED_KINDS = {
    "v1": STABLE_DIFFUSION,
    "v2": STABLE_DIFFUSION,
    "xl_base": STABLE_DIFFUSION_XL,
    "sd3": STABLE_DIFFUSION_3,
    "sd35_large": STABLE_DIFFUSION_3,
    "sd35_medium": STABLE_DIFFUSION_3,
    "flux-dev": FLUX,
    "flux-schnell": FLUX,
    "qwen-image": QWEN_IMAGE,
    "z-image-turbo": Z_IMAGE,
}
_INPAINTING = "is an inpainting model, whose UNet takes a mask and an image besides the latents"
REFUSED_KINDS = {
    "inpainting": _INPAINTING,
    "inpainting_v2": _INPAINTING,
    "xl_inpaint": _INPAINTING,
    "xl_refiner": "is SDXL's refiner, which only finishes what the base model began",
    "playground-v2-5": "is of the EDM kind, like Playground 2.5, whose UNet takes noise levels in other units",
    "flux-fill": "is FLUX.1 Fill, whose transformer reads an image and a mask beside the latents",
    "flux-depth": "is FLUX.1 Depth or Canny, whose transformer reads a control image beside the latents",
}
OF_QWEN_IMAGE = frozenset({"txt_norm.weight", "transformer_blocks.0.img_mlp.net.0.proj.weight"})
OF_UNETS = ("model.diffusion_model.input_blocks.", "first_stage_model.", "cond_stage_model.")
"""How tensors of a Stable Diffusion 1.x begin, for which diffusers takes everything that it does not know."""

SCALED = (".scale_weight", ".weight_scale", "scaled_fp8")


def load_single_file(
    class_for: Callable[[Family], Any], path: Path, load_folder: Callable[..., Any], **kwargs: Any
) -> Any:
    """Load a single file, with a configuration from the local cache.

    Args:
        class_for: Gives the pipeline's class for the model's family.
        path: The file.
        load_folder: `load_folder(class_for, folder, **kwargs)` loads a model's folder.
        kwargs: For `from_single_file` or, with rectified flows, `from_pretrained`; `config` names another folder, or a
            model in the cache, with the configuration.

    Raises:
        ValueError: If the file is a pickle, cannot be read, is of a model that cannot be used here, or lacks a part; or
            if its configuration is not in the cache.
    """
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    if path.suffix.lower() == ".gguf":
        raise ValueError(
            f"{str(path)!r} is a GGUF file, of which only the transformer can be loaded: pass it as transformer, by "
            "diffusers' from_single_file with a GGUFQuantizationConfig, together with its model's folder."
        )
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{str(path)!r} may be a pickle, which can run any code; use a .safetensors file.")
    family, origin = _kind_of(path)
    kind = class_for(family)
    with network_unless(is_local=True):
        config = kwargs.pop("config", None) or _cached_configuration(path, origin, family)
        if "transformer" in family.needed:
            folder = (
                str(config) if os.path.isdir(config) else _cached_configuration(path, str(config), family)
            )
            dtype = kwargs.get("torch_dtype", kwargs.get("dtype"))
            kwargs["transformer"] = load_transformer(path, family, folder, dtype)
            return load_folder(class_for, folder, **kwargs)
        kwargs["local_files_only"] = True
        try:
            return kind.from_single_file(str(path), config=config, **kwargs)
        except SingleFileComponentError as error:  # its other lines are about components
            raise ValueError(f"{str(path)!r}: {str(error).strip().splitlines()[0]}") from error


def _kind_of(path: Path) -> tuple[Family, str]:
    """The family of a single file, and the Hub id of the model whose configuration it needs."""
    import torch
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, infer_diffusers_model_type
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        # only shapes are needed, and the values may take seven gigabytes
        checkpoint = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        kind = infer_diffusers_model_type(checkpoint)
        origin = str(fetch_diffusers_config(checkpoint)["pretrained_model_name_or_path"])
    except Exception as error:  # the loaders raise errors of many classes for damaged files
        reason = " ".join(str(error).split())
        raise ValueError(f"{str(path)!r} cannot be read as a single-file model: {reason}") from error
    if kind == "v1":
        kind, origin = ("qwen-image", "Qwen/Qwen-Image") if shapes.keys() >= OF_QWEN_IMAGE else (kind, origin)
    if kind in REFUSED_KINDS:
        raise ValueError(f"{str(path)!r} {REFUSED_KINDS[kind]}; use a text-to-image base model.")
    if kind not in SERVED_KINDS:
        raise ValueError(f"{str(path)!r} is a copy of {origin}, and {ONLY_SERVED}.")
    _check_tensors(path, kind, shapes)
    return SERVED_KINDS[kind], origin


def _check_tensors(path: Path, kind: str, names: Collection[str]) -> None:
    if kind == "v1" and not any(name.startswith(OF_UNETS) for name in names):
        shown = f" (the first is {min(names)!r})" if names else ""
        raise ValueError(
            f"{str(path)!r} holds no model that is known by the names of its tensors{shown}. A transformer in "
            "diffusers' layout is loaded with its model's folder, the one with a model_index.json."
        )
    if any(name.endswith(SCALED) for name in names):
        raise ValueError(
            f"{str(path)!r} stores 8-bit weights with a scale for each, which diffusers does not read; use a file in "
            "16 bits."
        )


def _cached_configuration(path: Path, origin: str, family: Family) -> str:
    """The folder of a model in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        return snapshot_download(origin, local_files_only=True)
    if "transformer" not in family.needed:
        raise ValueError(
            f"{str(path)!r} holds only weights, and the configuration that belongs to them, that of {origin}, is not "
            f"in the local cache; download it once with: hf download {origin} --include '*.json' '*.txt'"
        )
    parts = " ".join(f"'{name}/*'" for name in sorted(family.needed - {"transformer"}))
    raise ValueError(
        f"{str(path)!r} serves as the transformer only, and the rest of the model, that of {origin}, is not in the "
        f"local cache; download it once with: hf download {origin} --include '*.json' {parts}; from Python, a folder "
        "with it can be passed as config"
    )
