"""Metrics of other people's networks: what is missing is said, and nothing is ever downloaded on the quiet."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

EXTRA = 'pip install "diffusers-semantic-edit[evaluation]"'


class MetricUnavailable(RuntimeError):
    """A metric needs a library, weights or a part of a pipeline that is not there."""


def optional_module(name: str, metric: str) -> Any:
    """A module of the `evaluation` extra, imported only now.

    Raises:
        MetricUnavailable: If it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except (
        ImportError,
        RuntimeError,
    ) as error:  # torchvision beside a torch that it was not built for: the latter
        raise MetricUnavailable(
            f"{metric} needs `{name}`, which cannot be imported ({error}). Install it with: {EXTRA}"
        ) from error


def check_torch_weights(url: str, metric: str) -> None:
    """See that torch.hub finds in its cache what it would download from `url`.

    Raises:
        MetricUnavailable: If it does not.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise MetricUnavailable(
            f"{metric} needs weights in '{path}', which is not there, and downloads nothing by itself. "
            f"Fetch them once with: curl --location --create-dirs --output '{path}' {url}"
        )


def from_cache(load: Callable[..., Any], name: str, metric: str) -> Any:
    """What `load`, some `from_pretrained`, makes of a folder or of what the Hugging Face cache has.

    Raises:
        MetricUnavailable: If neither is there.
    """
    try:
        return load(name, local_files_only=True)
    except OSError as error:
        raise MetricUnavailable(
            f"{metric} needs the weights of '{name}', which the Hugging Face cache does not have, and downloads "
            f"nothing by itself. Fetch them once with: hf download {name}"
        ) from error
