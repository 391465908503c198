"""Metrics with published networks: errors say what is missing, and nothing is ever downloaded silently."""

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
    """Import a module of the `evaluation` extra, only when it is needed.

    Raises:
        MetricUnavailable: If it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError: a torchvision built for another torch
        raise MetricUnavailable(
            f"{metric} needs `{name}`, which cannot be imported ({error}). Install it with: {EXTRA}"
        ) from error


def check_torch_weights(url: str, metric: str) -> None:
    """Check that torch.hub's cache contains the file at `url`, so that it need not be downloaded.

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
    """Load from a folder or the Hugging Face cache.

    Args:
        load: A `from_pretrained` method.
        name: A folder, or a name in the cache.
        metric: What needs it, for the error.

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
