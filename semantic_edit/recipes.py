"""An edit that was made elsewhere, as a command line and as Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from semantic_edit.edit_command import WORDS

PYTHON = """\
import torch
from PIL import Image

import semantic_edit

pipe = semantic_edit.load({model})
edit = pipe(
    image=Image.open("picture.png"),
{arguments}    generator=torch.Generator().manual_seed({seed}),
)
edit.images[0].save("edited.png")
"""


def edit_recipes(
    arguments: Mapping[str, Any], seed: int, has_mask: bool, model: str | None = None
) -> tuple[str, str]:
    """How to make an edit of `picture.png` again: the command, and the lines of Python.

    Args:
        arguments: Of the pipeline, besides images, an inversion and the generator.
        seed: Of the generator.
        has_mask: Whether `mask.png` is used, rather than a mask found.
        model: The model's name; `None` for the embedded one.
    """
    named = {name: value for name, value in arguments.items() if value is not None}
    options = {WORDS[name]: value for name, value in named.items()}
    options |= {"--mask": "mask.png"} if has_mask else {"--seed": seed}
    options |= {} if model is None else {"--model": model}
    # joined by "=", because words may begin with a dash
    typed = [f"{option}={value}" for option, value in options.items()]
    command = shlex.join(["semantic-edit", "edit", "picture.png", *typed, "--output=edited.png"])
    lines = [f"    {name}={value!r},\n" for name, value in named.items()]
    lines += ['    mask_image=Image.open("mask.png"),\n'] if has_mask else []
    loaded = "" if model is None else repr(model)
    return command, PYTHON.format(model=loaded, arguments="".join(lines), seed=seed)
