"""Models in a single file: what they are copies of, and how to load them without the network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from semantic_edit.disk.models import ONLY_SERVED, STABLE_DIFFUSION, STABLE_DIFFUSION_XL, Family
from semantic_edit.hub import network_unless

# by diffusers' names
SERVED_KINDS = {"v1": STABLE_DIFFUSION, "v2": STABLE_DIFFUSION, "xl_base": STABLE_DIFFUSION_XL}
_INPAINTING = "is an inpainting model, whose UNet takes a mask and an image besides the latents"
REFUSED_KINDS = {
    "inpainting": _INPAINTING,
    "inpainting_v2": _INPAINTING,
    "xl_inpaint": _INPAINTING,
    "xl_refiner": "is SDXL's refiner, which only finishes what the base model began",
    "playground-v2-5": "is of the EDM kind, like Playground 2.5, whose UNet takes noise levels in other units",
}


def load_single_file(class_for: Callable[[Family], Any], path: Path, **kwargs: Any) -> Any:
    """Load a single file, with a configuration from the local cache.

    Args:
        class_for: Gives the pipeline's class for the model's family.
        kwargs: For `from_single_file`; `config` names a folder with another configuration.

    Raises:
        ValueError: If the file is a pickle, cannot be read, is of a model that cannot be used here, or lacks a part; or
            if its configuration is not in the cache.
    """
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{str(path)!r} may be a pickle, which can run any code; use a .safetensors file.")
    family, origin = _kind_of(path)
    with network_unless(is_local=True):
        config = kwargs.pop("config", None) or _cached_configuration(path, origin)
        kwargs["local_files_only"] = True
        try:
            return class_for(family).from_single_file(str(path), config=config, **kwargs)
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
    if kind in REFUSED_KINDS:
        raise ValueError(f"{str(path)!r} {REFUSED_KINDS[kind]}; use a text-to-image base model.")
    if kind not in SERVED_KINDS:
        raise ValueError(f"{str(path)!r} is a copy of {origin}, and {ONLY_SERVED}.")
    return SERVED_KINDS[kind], origin


def _cached_configuration(path: Path, origin: str) -> str:
    """The folder of a model's configuration in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        return snapshot_download(origin, local_files_only=True)
    raise ValueError(
        f"{str(path)!r} holds only weights, and the configuration that belongs to them, that of {origin}, is not in "
        f"the local cache; download it once with: hf download {origin} --include '*.json' '*.txt'"
    )
