"""Load what the command line names: models, mapping networks, trajectories and images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.disk.models import Family, unserved_folder, variants_alone, variants_of
from semantic_edit.disk.reading import read_object
from semantic_edit.files import UsageError, read_image
from semantic_edit.hub import network_unless, reason_for
from semantic_edit.options import STILL_LIFE_MODEL, ModelChoice
from semantic_edit.running import refusals
from semantic_edit.terminal import complain

if TYPE_CHECKING:
    from semantic_edit.auto import AnyStyleDiffusion
    from semantic_edit.editing import Trajectory
    from semantic_edit.mapping_networks import MappingNetwork

_MODEL_FILE = "model_index.json"
SINGLE_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
# appears after two seconds, and disappears when done
_PROGRESS_BAR = {"disable": None, "delay": 2, "leave": False}


def load_pipeline(method: str | None, choice: ModelChoice = STILL_LIFE_MODEL, **components: Any) -> Any:
    """Load a model, from a folder or file without touching the network, or from the Hub if an id was typed.

    Args:
        method: "diffedit" or "stylediffusion", as [`load`] takes it; `None` for diffusers' own pipeline.
        components: Replace the model's own.

    Raises:
        UsageError: If there is no such model or device, or no pipeline here can use the model.
    """
    name, is_here = _find_model(choice)
    import diffusers
    import torch

    from semantic_edit.auto import load_as
    from semantic_edit.denoisers.foreign_schedulers import check_own_scheduler

    device = _find_device(choice.device)
    dtype = getattr(torch, choice.dtype or ("float16" if device.startswith("cuda") else "float32"))
    given = {"torch_dtype": dtype, "local_files_only": is_here or choice.offline, **components}
    if choice.variant is not None:
        given["variant"] = choice.variant
    try:
        with warnings.catch_warnings():
            # "dtype" is the newer name, which diffusers before 0.40 does not know
            warnings.filterwarnings("ignore", ".*torch_dtype", FutureWarning)
            pipe = load_as(partial(_class_for, name, method), name, **given).to(device)
    except UsageError:
        raise
    except Exception as error:  # the loaders raise errors of many classes for missing and damaged files
        reason = _damaged_config(Path(name)) or reason_for(error, name)
        raise UsageError(f"cannot load the model {name}: {reason}") from error
    if "tokenizer_2" in pipe.components:  # the scheduler distinguishes some models that share SDXL's layout
        with refusals():
            check_own_scheduler(pipe.scheduler)
    if "beta_schedule" in pipe.scheduler.config:
        # Stochastic samplers cannot be inverted, but DDIM walks the same training schedule.
        config = pipe.scheduler.config
        pipe.scheduler = diffusers.DDIMScheduler.from_config(config, clip_sample=False, thresholding=False)
    pipe.set_progress_bar_config(**_PROGRESS_BAR)
    return pipe


def _class_for(name: str, method: str | None, family: Family) -> Any:
    import diffusers

    from semantic_edit import pipelines

    if method is None:
        return getattr(diffusers, family.pipeline)
    if method not in family.methods:
        raise UsageError(
            f"the model {name} is of {family.title}, and only those with a UNet's cross-attention learn and restyle "
            "images; use semantic-edit edit, or a model of Stable Diffusion 1.x, 2.x or XL"
        )
    return getattr(pipelines, family.class_name(method))


def load_mapping(mapping: str, offline: bool = False) -> MappingNetwork:
    """Load a mapping network from a folder that `semantic-edit learn` wrote, or by its Hub id.

    Raises:
        UsageError: If there is no such network.
    """
    name, is_folder = _find_mapping(mapping)
    from semantic_edit.mapping_networks import MappingNetwork

    is_local = is_folder or offline
    try:
        with network_unless(is_local):
            return MappingNetwork.from_pretrained(name, local_files_only=is_local)
    except Exception as error:  # as in `load_pipeline`
        raise UsageError(f"cannot load the mapping network {name}: {reason_for(error, name)}") from error


def load_pipeline_for(
    network: MappingNetwork, mapping: str, choice: ModelChoice = STILL_LIFE_MODEL
) -> AnyStyleDiffusion:
    """Load the model that a mapping network edits with, as `load_pipeline` does.

    Args:
        mapping: What `load_mapping` was given. If it is a folder, a Hub id that it names is looked up only in the local
            cache, because the user did not type it.
        choice: If it names no model, the model that the network was learned with is loaded, by its Hub id or, if
            `mapping` is a folder, from its own folder; if that is not known, the still-life model. The pipeline refuses
            a network of another model. A folder that the user did not type is announced, and no pickle in it is read.

    Raises:
        UsageError: If there is no such model or device.
    """
    is_folder = Path(mapping).is_dir()
    named = _base_model(network, is_folder) if choice.model is None else None
    if named is None:
        return load_pipeline("stylediffusion", choice)
    choice = replace(choice, model=named)
    if not is_folder:
        return load_pipeline("stylediffusion", choice)
    if Path(named).is_absolute():
        complain("note", f"using the model that the image was learned with, {named}; --model chooses another")
    try:
        return load_pipeline("stylediffusion", replace(choice, offline=True), use_safetensors=True)
    except UsageError as error:
        raise UsageError(
            f"{error} (the image was learned with it; --model {named} looks for it on the Hub)"
        ) from error


def load_image_encoder(name: str | None, offline: bool = False) -> dict[str, Any]:
    """The components that learning needs, from the folder or Hub id of a CLIP vision model; none for `None`.

    Raises:
        UsageError: If there is no such model.
    """
    if name is None:
        return {}
    name, is_folder = _find_image_encoder(name)
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    local = is_folder or offline
    try:
        with network_unless(local):
            return {
                "image_encoder": CLIPVisionModelWithProjection.from_pretrained(name, local_files_only=local),
                "feature_extractor": CLIPImageProcessor.from_pretrained(name, local_files_only=local),
            }
    except Exception as error:  # as in `load_pipeline`
        raise UsageError(f"cannot load the image encoder {name}: {reason_for(error, name)}") from error


def quiet_loading() -> None:
    """Hide the progress bars that the libraries draw while they load."""
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    hub_logging.set_verbosity_error()  # each of its five retries prints two lines
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def load_trajectory(path: Path) -> Trajectory:
    """Read what `--save-trajectory` wrote.

    Raises:
        UsageError: If there is no such file, or it holds something else.
    """
    from semantic_edit.editing import Trajectory

    try:
        return Trajectory.load(path)
    except (OSError, ValueError) as error:
        raise UsageError(error) from error


def load_image(path: Path) -> Image.Image:
    """Read an image as the pipelines would: upright, opaque and in 8-bit RGB.

    Raises:
        UsageError: If there is no such image, or its values cannot be converted without guessing.
    """
    from semantic_edit.pipelines import opaque_rgb

    with refusals():
        return opaque_rgb(read_image(path))


def _base_model(network: MappingNetwork, is_folder: bool) -> str | None:
    """The Hub id of the model that an image was learned with, or its folder, which only a local network may name."""
    from semantic_edit.still_life import model_path

    name = network.config.base_model
    if name == str(model_path()):
        return None  # it is installed with this package
    is_there = is_folder and Path(name).is_absolute() and (Path(name) / _MODEL_FILE).is_file()
    return name if is_there or is_hub_id(name) else None


def _damaged_config(folder: Path) -> str:
    """What is wrong with a config in a model's folder, "" if nothing is; the loaders' own errors mislead."""
    for path in sorted(folder.glob("*/*config.json")):
        try:
            read_object(path)
        except (OSError, ValueError) as error:
            return str(error)
    return ""


def check_model_choice(choice: ModelChoice) -> None:
    """Raise if the model cannot be loaded, as far as that is known before anything slow is imported.

    Raises:
        UsageError: Naming the option and the reason.
    """
    if choice.model is not None or choice.variant is not None:
        _find_model(choice)


def check_mapping(mapping: str) -> None:
    """The same for a mapping network."""
    _find_mapping(mapping)


def check_image_encoder(name: str | None) -> None:
    """The same for an image encoder."""
    if name is not None:
        _find_image_encoder(name)


def _find_mapping(mapping: str) -> tuple[str, bool]:
    return _find("--mapping", mapping, "config.json", "mapping network")


def _find_image_encoder(name: str) -> tuple[str, bool]:
    return _find("--image-encoder", name, "config.json", "CLIP vision model")


def _find_model(choice: ModelChoice) -> tuple[str, bool]:
    """The folder, file or Hub id to load, and whether it is here."""
    model, variant = choice.model, choice.variant
    if model is None:
        if variant is not None:
            raise UsageError("--model-variant needs a --model: the still-life model has no variants")
        from semantic_edit.still_life import model_path

        return str(model_path()), True
    path = Path(model)
    if path.is_file() and path.suffix.lower() in SINGLE_FILES:
        if path.suffix.lower() != ".safetensors":
            raise UsageError(
                f"--model {model} is a pickle, which may run any code; choose a .safetensors file"
            )
        if variant is not None:
            raise UsageError(
                "--model-variant chooses among the files of a folder, but --model is a single file"
            )
        return str(path.resolve()), True
    name, is_folder = _find("--model", model, _MODEL_FILE, "diffusers model")
    if is_folder:
        _check_served(model, read_object(path / _MODEL_FILE))
        _check_variant(model, variant)
    return name, is_folder


def _check_served(name: str, index: Mapping[str, Any]) -> None:
    """Raise if a model's `model_index.json` shows that no pipeline here can use it."""
    if reason := unserved_folder(index):
        raise UsageError(f"--model {name} {reason}")


def _check_variant(folder: str, variant: str | None) -> None:
    """Raise if a folder has no files of the variant that will be looked for."""
    lacking = {name: found for name, found in variants_alone(Path(folder)).items() if variant not in found}
    if lacking:
        listed = ", ".join(f"{name} ({' or '.join(sorted(found))})" for name, found in lacking.items())
        first = sorted(next(iter(lacking.values())))[0]
        raise UsageError(
            f"--model {folder} has only files of a variant for {listed}; add --model-variant {first}"
        )
    if variant is not None and variant not in (known := variants_of(Path(folder))):
        listed = ", ".join(sorted(known)) or "the usual ones"
        raise UsageError(f"--model-variant {variant}: {folder} has no such files, only {listed}")


def _find(option: str, name: str, file: str, kind: str) -> tuple[str, bool]:
    """The folder (as an absolute path) or the Hub id that an option names, and whether it is a folder."""
    path = Path(name)
    if path.is_dir():
        if not (path / file).is_file():
            raise UsageError(f"{option} {name}: a folder without {file} is not a {kind}")
        try:
            content = read_object(path / file)
        except (OSError, ValueError) as error:
            raise UsageError(f"{option} {name}: {error}") from error
        if file == _MODEL_FILE and "_class_name" not in content:
            raise UsageError(f"{option} {name}: its {file} does not name a pipeline")
        return str(path.resolve()), True
    if path.exists():
        raise UsageError(f"{option} {name} is a file; choose the folder of a {kind}, or a Hub id")
    if not is_hub_id(name):
        raise UsageError(f"{option} {name}: there is no such folder, and a Hub id has the form owner/name")
    return name, False


def _find_device(asked: str | None) -> str:
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {asked} cannot be used: {str(error).splitlines()[0]}") from error
    return asked
