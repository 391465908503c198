"""Build the content of a repository on the Hub: a pipeline, the still-life model, or a mapping network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import ModelCard

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.disk.models import STABLE_DIFFUSION
from semantic_edit.disk.writing import write_file
from semantic_edit.mapping_networks import MappingNetwork, model_card
from semantic_edit.pipelines.versions import supported_range
from semantic_edit.publishing.cards import CARDS, LINK, check_card, filled_card
from semantic_edit.publishing.errors import PublishError
from semantic_edit.publishing.pipelines import pipeline_file, source_version
from semantic_edit.publishing.published import PIPELINES, pipelines_for
from semantic_edit.still_life import model_path

# file name endings of whatever may contain a pickle
PICKLES = (".bin", ".ckpt", ".joblib", ".msgpack", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")


def build_pipeline(name: str, folder: Path, repo_id: str) -> None:
    """Build a repository of code: `pipeline.py`, its card and the card's pictures.

    Args:
        name: One of `PIPELINES`.
        folder: An empty folder.
        repo_id: The repository that it will become, "owner/name".

    Raises:
        BundleError: If the pipeline cannot be put into one file; says where.
    """
    write_file(folder / "pipeline.py", pipeline_file(name).encode())
    fields = {"repo_id": repo_id, "source": source_version(), "diffusers_range": supported_range()}
    _write_card(folder, filled_card(name, **fields))


def build_model(folder: Path, repo_id: str, own_pipeline: str | None = None) -> None:
    """Build a repository with the still-life model and the files of the pipelines that work with it.

    Args:
        folder: An empty folder.
        repo_id: The repository that it will become, "owner/name".
        own_pipeline: The name of one of them, as which the model loads by default instead of as a
            StableDiffusionPipeline.

    Raises:
        BundleError: If a pipeline cannot be put into one file; says where.
    """
    shutil.copytree(model_path(), folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for name in pipelines_for(STABLE_DIFFUSION):
        write_file(folder / f"{name}.py", pipeline_file(name).encode())
    if own_pipeline is not None:
        index = folder / "model_index.json"
        config = json.loads(index.read_text(encoding="utf-8"))
        config["_class_name"] = [own_pipeline, PIPELINES[own_pipeline].class_name]
        write_file(index, (json.dumps(config, indent=2) + "\n").encode())
    _write_card(folder, filled_card("still-life", repo_id=repo_id, diffusers_range=supported_range()))


def build_mapping(
    source: Path, folder: Path, repo_id: str, license: str, base_model: str | None = None
) -> None:
    """Build a repository with a learned picture, which is loaded, checked and saved anew: nothing else is sent.

    Args:
        source: A folder that `MappingNetwork.save_pretrained` wrote.
        folder: An empty folder.
        repo_id: The repository that it will become, "owner/name".
        license: What others may do with it, as the Hub calls it, for example "cc-by-4.0".
        base_model: Hub id of the model that it was learned with, if the network names a folder instead.

    Raises:
        PublishError: If `source` is not a mapping network, or its base model cannot be found by others.
    """
    try:
        network = MappingNetwork.from_pretrained(source, local_files_only=True)
    except (ValueError, OSError) as error:
        raise PublishError(f"{source} does not contain a readable mapping network: {error}") from error
    known = base_model or network.config.base_model
    if not is_hub_id(known) or (base_model is None and Path(known).is_dir()):
        raise PublishError(
            f"The picture was learned with {known or 'a model without a name'!r}, which others cannot load. Name the "
            "same model on the Hub with --base-model owner/name."
        )
    network.register_to_config(base_model=known)
    network.save_pretrained(folder)
    card = ModelCard(model_card(network.config, repo_id))
    card.data.license = license
    _write_card(folder, str(card))


def _write_card(folder: Path, text: str) -> None:
    """Write the card and the pictures that it shows."""
    write_file(folder / "README.md", text.encode())
    for link in LINK.findall(text):
        if link.startswith("pictures/"):
            (folder / link).parent.mkdir(exist_ok=True)
            shutil.copyfile(CARDS / link, folder / link)


def check_repository(folder: Path) -> list[tuple[str, int]]:
    """Check that every file of a folder may be published.

    Returns:
        The name and the size in bytes of every file.

    Raises:
        PublishError: If there is a pickle, a link, a hidden file or something that looks like a token, or if the card
            is not ready.
    """
    check_card(folder)
    problems = list(_unsafe(folder))
    if problems:
        raise PublishError(f"{folder} is not published: {'; '.join(problems)}.")
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in _files(folder)]


def _unsafe(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name} is a link, which may point outside the folder"
        elif any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield f"{name} is hidden"
        elif path.suffix.lower() in PICKLES:
            yield f"{name} may hold a pickle, which runs code when it is read; save as safetensors"
        elif path.is_file() and TOKEN.search(path.read_bytes()):
            yield f"{name} holds what looks like an access token"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
