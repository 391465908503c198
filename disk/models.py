"""What a model's folder says about itself, before any of it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_edit.disk.siblings import why_sibling

WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:-\d+-of-\d+)?(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?"
    r"\.(?:safetensors|bin)"
)


PIPELINE_METHODS = {"diffedit": "DiffEditPipeline", "stylediffusion": "StyleDiffusionPipeline"}
"""The methods by name, and their pipelines' classes without a family's prefix."""


@dataclass(frozen=True)
class Family:
    """A family of models that the pipelines here serve.

    name: As files keep it.
    title: As people know it.
    prefix: Of its pipelines' names, before "DiffEditPipeline".
    needed: Components that every model of it has.
    foreign: Components that none of it has.
    network: The class of its denoising network.
    methods: Those of `PIPELINE_METHODS` that edit with its models.
    foreign_encoders: How the classes of text encoders begin that none of it has.
    """

    name: str
    title: str
    prefix: str
    needed: frozenset[str]
    foreign: frozenset[str]
    network: str = "UNet2DConditionModel"
    methods: tuple[str, ...] = ("diffedit", "stylediffusion")
    foreign_encoders: tuple[str, ...] = ()

    @property
    def pipeline(self) -> str:
        """diffusers' class of its models, which is what saved files are of."""
        return f"{self.prefix or 'StableDiffusion'}Pipeline"

    def class_name(self, method: str) -> str:
        """The class of ours that edits with its models, by one of `PIPELINE_METHODS`."""
        return self.prefix + PIPELINE_METHODS[method]


_OF_ALL = frozenset({"vae", "text_encoder", "tokenizer", "scheduler"})
_SECOND = frozenset({"text_encoder_2", "tokenizer_2"})
_THIRD = frozenset({"text_encoder_3", "tokenizer_3"})
_OF_OTHERS = frozenset({"movq", "prior"})
_UNET, _TRANSFORMER = frozenset({"unet"}), frozenset({"transformer"})
STABLE_DIFFUSION = Family(
    "stable-diffusion",
    "Stable Diffusion 1.x and 2.x",
    "",
    _OF_ALL | _UNET,
    _OF_OTHERS | _TRANSFORMER | _SECOND,
)
STABLE_DIFFUSION_XL = Family(
    "stable-diffusion-xl",
    "SDXL",
    "StableDiffusionXL",
    _OF_ALL | _UNET | _SECOND,
    _OF_OTHERS | _TRANSFORMER | _THIRD,
)
STABLE_DIFFUSION_3 = Family(
    "stable-diffusion-3",
    "Stable Diffusion 3",
    "StableDiffusion3",
    _OF_ALL | _TRANSFORMER | _SECOND | _THIRD,
    _OF_OTHERS | _UNET,
    "SD3Transformer2DModel",
    ("diffedit",),
)
FLUX = Family(
    "flux",
    "FLUX.1",
    "Flux",
    _OF_ALL | _TRANSFORMER | _SECOND,
    _OF_OTHERS | _UNET | _THIRD,
    "FluxTransformer2DModel",
    ("diffedit",),
)
_NOT_TEXT_ALONE = frozenset({"controlnet", "processor", "siglip", "image_encoder"})
QWEN_IMAGE = Family(
    "qwen-image",
    "Qwen-Image",
    "QwenImage",
    _OF_ALL | _TRANSFORMER,
    _OF_OTHERS | _UNET | _SECOND | _THIRD | _NOT_TEXT_ALONE,
    "QwenImageTransformer2DModel",
    ("diffedit",),
)
Z_IMAGE = Family(
    "z-image",
    "Z-Image",
    "ZImage",
    _OF_ALL | _TRANSFORMER,
    _OF_OTHERS | _UNET | _SECOND | _THIRD | _NOT_TEXT_ALONE,
    "ZImageTransformer2DModel",
    ("diffedit",),
)
FLUX_2_KLEIN = Family(
    "flux-2-klein",
    "FLUX.2 klein",
    "Flux2Klein",
    _OF_ALL | _TRANSFORMER,
    _OF_OTHERS | _UNET | _SECOND | _THIRD | _NOT_TEXT_ALONE,
    "Flux2Transformer2DModel",
    ("diffedit",),
    foreign_encoders=("Mistral",),  # FLUX.2 dev's
)
FAMILIES = (
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    STABLE_DIFFUSION_3,
    FLUX,
    QWEN_IMAGE,
    Z_IMAGE,
    FLUX_2_KLEIN,
)
ONLY_SERVED = (
    f"only models of {', '.join(one.title for one in FAMILIES[:-1])} and {FAMILIES[-1].title} are served"
)


def family_of(classes: Mapping[str, str]) -> Family | None:
    """Which family a model is of, or `None` if none here serves it.

    Args:
        classes: Of what it is made of, by its name; "" where that is not known.
    """
    networks, encoder = _networks(classes), classes.get("text_encoder", "")

    def fits(one: Family) -> bool:
        has_parts = one.needed <= classes.keys() and not one.foreign & classes.keys()
        is_foreign = encoder.startswith(one.foreign_encoders)
        return has_parts and not is_foreign and all(name == one.network for name in networks)

    return next(filter(fits, FAMILIES), None)


def family_of_modules(components: Mapping[str, Any]) -> Family | None:
    """The same of a loaded pipeline's components."""
    # of a compiled module, that inside
    return family_of(
        {name: type(getattr(one, "_orig_mod", one)).__name__ for name, one in components.items()}
    )


def family_of_pipeline(pipe: Any) -> Family | None:
    """The same of a loaded pipeline, of which the class counts too."""
    return None if why_sibling(type(pipe).__name__) else family_of_modules(pipe.components)


def family_of_folder(index: Mapping[str, Any]) -> Family | None:
    """The same of a folder's `model_index.json`."""
    if why_sibling(_pipeline_of(index)):
        return None
    held = {name: value for name, value in index.items() if isinstance(value, list) and name != "_class_name"}
    return family_of({name: str(value[-1]) if value else "" for name, value in held.items()})


def _networks(classes: Mapping[str, str]) -> list[str]:
    """The classes of the denoising network, as far as they are known: custom and compiled ones are not judged."""
    named = [classes[name] for name in ("unet", "transformer") if name in classes]
    known = ("Transformer2DModel", "Transformer3DModel", "DiT2DModel")
    return [name for name in named if name.startswith("UNet") or name.endswith(known)]


def check_same_family(
    argument: str, made_with: str, family: Family | None, method: str, again: str, base_model: str = ""
) -> None:
    """Raise if something was made with a model of another family than the call's.

    Args:
        argument: The name of the argument that was made.
        made_with: The name of the family that it was made with; "" if unknown, which is not compared.
        family: The call's, or `None` if unknown, which is not compared either.
        method: The call's, one of `PIPELINE_METHODS`.
        again: What to do instead of using the other family's pipeline, in half a sentence.
        base_model: The Hub id or folder of the model that it was made with, or "" if unknown.

    Raises:
        ValueError: Naming both families and the pipeline that it can be used with.
    """
    if family is None or made_with in ("", family.name):
        return
    other = next((one for one in FAMILIES if one.name == made_with), None)
    title, pipeline = (
        ("", "its pipeline") if other is None else (other.title, f"a {other.class_name(method)}")
    )
    named = f" ({base_model!r})" if base_model else ""
    raise ValueError(
        f"The `{argument}` was made with a model of another family: it is of {title or repr(made_with)}, and this "
        f"pipeline's model is of {family.title}. Use the model that it was made with{named}, in {pipeline}, or {again}."
    )


def unserved(pipeline: str, found: Family | None, served: tuple[str, Family] | None = None) -> str:
    """Why a pipeline cannot work with a model, in half a sentence, or "" if nothing speaks against it.

    Args:
        pipeline: The class that the model is of.
        found: The model's family.
        served: The class of ours that is to work with it, and its family; any of them by default.
    """
    if found is None:
        return f"is the model of a {pipeline}, {why_sibling(pipeline) or f'and {ONLY_SERVED}'}"
    if served is None or served[1] == found:
        return ""
    name, _ = served
    method = next((one for one, suffix in PIPELINE_METHODS.items() if name.endswith(suffix)), None)
    instead = (
        f"use {found.class_name(method)} instead"
        if method in found.methods
        else "take a model of that family"
    )
    return f"is of {found.title}, which {name} does not support; {instead}"


def unserved_folder(index: Mapping[str, Any], served: tuple[str, Family] | None = None) -> str:
    """The same of a folder's `model_index.json`."""
    return unserved(_pipeline_of(index), family_of_folder(index), served)


def _pipeline_of(index: Mapping[str, Any]) -> str:
    name = index.get("_class_name", "")
    return str(name[-1] if isinstance(name, list) and name else name)


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
