"""Pipelines around the modules of another one."""

from __future__ import annotations

import inspect
from typing import Any

from diffusers import DiffusionPipeline


def arguments_of(kind: type) -> list[str]:
    """The names of the components and options that a pipeline's class takes."""
    return list(inspect.signature(kind).parameters)


def pipeline_around(kind: type, pipe: DiffusionPipeline, **changes: Any) -> Any:
    """A pipeline that shares another one's modules and options. diffusers' `from_pipe` would cast the modules.

    Args:
        kind: The class of the new pipeline.
        pipe: The loaded one; it stays as it is.
        changes: Components and options in place of the pipeline's own; those that `kind` does not take are left out.
    """
    # the config contains options such as SDXL's `force_zeros_for_empty_prompt`, and the class names of the modules
    known = {**pipe.config, **pipe.components, **changes}
    return kind(**{name: known[name] for name in arguments_of(kind) if name in known})
