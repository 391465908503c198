"""What a model's folder says about itself, before any of it is loaded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

NEEDED = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
OF_OTHERS = ("text_encoder_2", "transformer")
WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:-\d+-of-\d+)?(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?"
    r"\.(?:safetensors|bin)"
)


def unserved(pipeline: str, components: Collection[str], unet: str) -> str:
    """Why the pipelines here cannot work with a model.

    Args:
        pipeline: The name of the model's pipeline class.
        components: The names of its components.
        unet: The name of its UNet's class.

    Returns:
        A phrase that continues "the model …", or "" if the model can be used.
    """
    is_other = not set(components) >= set(NEEDED) or any(name in components for name in OF_OTHERS)
    if not is_other and (unet == "UNet2DConditionModel" or not unet.startswith("UNet")):
        return ""
    return f"is the model of a {pipeline}, and only models of Stable Diffusion 1.x and 2.x are served"


def unserved_folder(index: Mapping[str, Any]) -> str:
    """The same for the content of a folder's `model_index.json`."""
    name, unet = index["_class_name"], index.get("unet")
    components = {name for name, value in index.items() if isinstance(value, list)} - {"_class_name"}
    return unserved(
        str(name[-1] if isinstance(name, list) and name else name),
        components,
        str(unet[-1]) if isinstance(unet, list) and unet else "",
    )


def variants_alone(folder: Path) -> dict[str, set[str]]:
    """The variants, for example {"fp16"}, of each component that has no files under the usual name."""
    found = _variants(folder)
    return {component: variants for component, variants in sorted(found.items()) if "" not in variants}


def variants_of(folder: Path) -> set[str]:
    """All variants for which a folder has files."""
    return set().union(*_variants(folder).values()) - {""}


def _variants(folder: Path) -> dict[str, set[str]]:
    """The variants of each component's files; "" stands for the usual name."""
    found: dict[str, set[str]] = {}
    for path in folder.glob("*/*"):
        match = WEIGHTS.fullmatch(path.name)
        if match is not None:
            found.setdefault(path.parent.name, set()).add(match["variant"] or "")
    return found
