"""Copies of the tiny models on the device; the shared ones stay on the CPU, for comparison."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    """Use true float32 in the test, not the shorter format that convolutions may use on a GPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def on_gpu() -> Callable[..., Any]:
    """A copy of a pipeline with its own models on the GPU, in a given precision."""

    def moved(pipe: Any, dtype: torch.dtype = torch.float32) -> Any:
        parts = {
            name: copy.deepcopy(part) if isinstance(part, torch.nn.Module) else part
            for name, part in pipe.components.items()
        }
        copied = type(pipe)(**parts, requires_safety_checker=False)
        copied.set_progress_bar_config(disable=True)
        return copied.to(CUDA, dtype)

    return moved
