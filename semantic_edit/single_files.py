"""Models in a single file, as people trade them: what they are copies of, and how they load without the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semantic_edit.files import UsageError

KINDS = (
    "v1",
    "v2",
    "inpainting",
    "inpainting_v2",
)  # diffusers' names; inpainting is refused by the pipelines


def configured_like(path: Path) -> str:
    """The Hub id of the model whose configuration a single file needs.

    Raises:
        UsageError: If the file cannot be read, or is of another family.
    """
    from diffusers.loaders.single_file_utils import (
        fetch_diffusers_config,
        infer_diffusers_model_type,
        load_single_file_checkpoint,
    )

    try:
        checkpoint = load_single_file_checkpoint(str(path), local_files_only=True)
        kind = infer_diffusers_model_type(checkpoint)
        origin = fetch_diffusers_config(checkpoint)["pretrained_model_name_or_path"]
    except Exception as error:  # the loaders have classes of their own for damaged files
        reason = " ".join(str(error).split())
        raise UsageError(f"--model {path} cannot be read as a single-file model: {reason}") from error
    if kind not in KINDS:
        raise UsageError(
            f"--model {path} is a copy of {origin}, and only models of Stable Diffusion 1.x and 2.x are served"
        )
    return str(origin)


def load_single_file(pipeline: Any, path: Path, dtype: Any, components: dict[str, Any]) -> Any:
    """Load it, with a configuration from the local cache.

    Raises:
        UsageError: If the configuration is not there, or the file is no model that can be served.
    """
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    origin = configured_like(path)
    try:
        config = snapshot_download(origin, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"--model {path} holds weights alone, and the configuration that belongs to them, that of {origin}, is not "
            f"in the local cache; get it once with: hf download {origin} --include '*.json' '*.txt'"
        ) from error
    try:
        return pipeline.from_single_file(
            str(path), config=config, torch_dtype=dtype, local_files_only=True, **components
        )
    except SingleFileComponentError as error:  # whose further lines advise in Python
        raise UsageError(f"--model {path}: {str(error).strip().splitlines()[0]}") from error
