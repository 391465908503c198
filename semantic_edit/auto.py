"""Load the right pipeline for any model, as diffusers' AutoPipelines do."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from diffusers import DiffusionPipeline

from semantic_edit import pipelines
from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.disk.models import (
    PIPELINE_METHODS,
    Family,
    family_of_folder,
    family_of_pipeline,
    unserved,
    unserved_folder,
)
from semantic_edit.hub import network_unless
from semantic_edit.pipelines.around import arguments_of, pipeline_around
from semantic_edit.single_files import load_single_file
from semantic_edit.still_life import model_path

__all__ = ["load"]

AnyDiffEdit: TypeAlias = (
    pipelines.DiffEditPipeline
    | pipelines.StableDiffusionXLDiffEditPipeline
    | pipelines.StableDiffusion3DiffEditPipeline
    | pipelines.FluxDiffEditPipeline
    | pipelines.QwenImageDiffEditPipeline
    | pipelines.ZImageDiffEditPipeline
    | pipelines.Flux2KleinDiffEditPipeline
)
AnyStyleDiffusion: TypeAlias = (
    pipelines.StyleDiffusionPipeline | pipelines.StableDiffusionXLStyleDiffusionPipeline
)
Model: TypeAlias = str | os.PathLike[str] | DiffusionPipeline | None
# those of `from_pretrained`'s arguments that say where to look
PLACES = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")


@overload
def load(model: Model = None, method: Literal["diffedit"] = "diffedit", **kwargs: Any) -> AnyDiffEdit: ...


@overload
def load(model: Model = None, *, method: Literal["stylediffusion"], **kwargs: Any) -> AnyStyleDiffusion: ...


@overload
def load(model: Model, method: Literal["stylediffusion"], **kwargs: Any) -> AnyStyleDiffusion: ...


@overload
def load(model: Model = None, method: str = "", **kwargs: Any) -> AnyDiffEdit | AnyStyleDiffusion: ...


def load(model: Model = None, method: str = "diffedit", **kwargs: Any) -> AnyDiffEdit | AnyStyleDiffusion:
    """Load the pipeline that edits with a model, whatever family the model belongs to.

    ```python
    pipe = semantic_edit.load("stabilityai/stable-diffusion-xl-base-1.0", torch_dtype=torch.float16)
    ```

    Args:
        model: A folder in diffusers' layout, a Hub id, a single `.safetensors` file, or a pipeline of diffusers that is
            already loaded, whose modules are shared; by default the still-life model that comes with the package. The
            network is used only for an id, and not even then with `local_files_only=True`.
        method: "diffedit" or "stylediffusion".
        kwargs: For the class's `from_pretrained`, or for its `from_single_file` if `model` is a single file, whose
            configuration is taken from the local cache unless `config` names a folder with it. Of a rectified flow's
            single file only the transformer is used; the rest of the model is taken from the cache or that folder. With
            a loaded pipeline, only components that replace its own.

    Returns:
        [`DiffEditPipeline`] or [`StyleDiffusionPipeline`] for a model of Stable Diffusion 1.x or 2.x,
        [`StableDiffusionXLDiffEditPipeline`] or [`StableDiffusionXLStyleDiffusionPipeline`] for one of SDXL,
        [`StableDiffusion3DiffEditPipeline`] for one of Stable Diffusion 3,
        [`FluxDiffEditPipeline`] for one of FLUX.1, [`QwenImageDiffEditPipeline`] for one of
        Qwen-Image, [`ZImageDiffEditPipeline`] for one of Z-Image, [`Flux2KleinDiffEditPipeline`] for one of
        FLUX.2 klein.

    Raises:
        ValueError: If there is no such method, or no pipeline here can use the model; says what the model is.
        TypeError: If `model` is none of these, or an argument given with a loaded pipeline is not a component.
        OSError: If the model does not exist, or its files cannot be read.
    """
    if not isinstance(method, str) or method not in PIPELINE_METHODS:
        known = " or ".join(f'"{name}"' for name in PIPELINE_METHODS)
        raise ValueError(f"`method` must be {known}, got {method!r}.")

    def class_for(family: Family) -> Any:
        if method not in family.methods:
            raise ValueError(
                f"`method={method!r}` does not work with {family.title}: it needs a UNet's cross-attention. Use "
                f'method="{family.methods[0]}", or a model of Stable Diffusion 1.x, 2.x or XL.'
            )
        return getattr(pipelines, family.class_name(method))

    return load_as(class_for, model, **kwargs)


def load_as(class_for: Callable[[Family], Any], model: Model, **kwargs: Any) -> Any:
    """The same as the class that `class_for` gives for the model's family; see [`load`]."""
    if isinstance(model, DiffusionPipeline):
        return _around(class_for, model, **kwargs)
    if model is None:
        model = model_path()
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"`model` must be a folder, a file, a Hub id or a pipeline of diffusers, got {type(model).__name__}."
        )
    name = os.fspath(model)
    if os.path.isfile(name):
        return load_single_file(class_for, Path(name), load_as, **kwargs)
    if os.path.isdir(name):
        kwargs["local_files_only"] = True
    elif not is_hub_id(name):
        raise ValueError(f"There is no folder or file {name!r}, and a Hub id has the form owner/name.")
    with network_unless(bool(kwargs.get("local_files_only"))):
        found, lacks = _family_of_named(name, {place: kwargs[place] for place in PLACES if place in kwargs})
        return class_for(found).from_pretrained(name, **{**dict.fromkeys(lacks), **kwargs})


def _family_of_named(name: str, where: dict[str, Any]) -> tuple[Family, list[str]]:
    """A model's family, and the components of it that the model says it does without, such as a third text encoder.

    diffusers' `from_pretrained` does without them only if it is told.
    """
    with warnings.catch_warnings():
        # diffusers itself passes this argument, which huggingface_hub calls deprecated
        warnings.filterwarnings("ignore", "The `local_dir_use_symlinks`")
        index = DiffusionPipeline.load_config(name, **where)
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ValueError(
            f"The model_index.json of {name!r} does not name a pipeline: it is damaged. Load the model again."
        )
    found = family_of_folder(index)
    if found is None:
        raise ValueError(f"{name!r} {unserved_folder(index)}.")
    return found, [component for component in sorted(found.needed) if index[component] == [None, None]]


def _around(class_for: Callable[[Family], Any], pipe: DiffusionPipeline, **kwargs: Any) -> Any:
    """A pipeline of another one's modules, as they are."""
    found = family_of_pipeline(pipe)
    if found is None:
        raise ValueError(f"`model` {unserved(type(pipe).__name__, None)}.")
    served = class_for(found)
    if unknown := ", ".join(f"`{name}`" for name in kwargs if name not in arguments_of(served)):
        raise TypeError(
            f"With a loaded pipeline, `load` takes only components that replace its own, got {unknown}. "
            "Convert the pipeline before you pass it, or pass its folder."
        )
    new = pipeline_around(served, pipe, **kwargs)
    new.register_to_config(_name_or_path=pipe.config.get("_name_or_path"))
    return new
