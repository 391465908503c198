"""The transformer of a rectified flow from a single file; the rest of such a model comes from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semantic_edit.disk.models import Family, family_of_folder, unserved_folder
from semantic_edit.hub import reason_for


def load_transformer(path: Path, family: Family, folder: str, dtype: Any) -> Any:
    """Load the transformer in a single file.

    Args:
        path: The file.
        family: Of its model.
        folder: Of a model of that family, for the transformer's config.
        dtype: What to convert it to; `None` leaves it as it is.

    Raises:
        ValueError: If the folder is of another family, or the transformer is not of the folder's model.
    """
    import diffusers

    _check_folder(path, family, folder)
    network = getattr(diffusers, family.network)
    try:
        return network.from_single_file(
            str(path), config=folder, subfolder="transformer", torch_dtype=dtype, local_files_only=True
        )
    except Exception as error:  # the converters raise errors of many classes for other layouts
        raise ValueError(
            f"{str(path)!r} does not fit the transformer's config in {folder!r}: {reason_for(error, str(path))}. "
            "Choose the folder of its own model."
        ) from error


def _check_folder(path: Path, family: Family, folder: str) -> None:
    from diffusers import DiffusionPipeline

    index = DiffusionPipeline.load_config(folder)
    found = family_of_folder(index)
    if found == family:
        return
    what = unserved_folder(index) if found is None else f"is of {found.title}"
    raise ValueError(
        f"{str(path)!r} is of {family.title}, and the folder {folder!r} for the rest of it {what}."
    )
