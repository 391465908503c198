"""Edits that were made elsewhere, as a command line and as Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from semantic_edit.edit_command import WORDS
from semantic_edit.names import AUTOMATIC

PYTHON = """\
import torch
from PIL import Image

import semantic_edit

pipe = semantic_edit.load({model})
edit = pipe(
    image=Image.open("picture.png"),
{arguments}    generator=torch.Generator().manual_seed({seed}),
)
edit.images[0].save("edited-again.png")
"""

SERIES = """\
import shutil

from PIL import Image

import semantic_edit

shutil.unpack_archive("learned.zip", "learned")
pipe = semantic_edit.load({model}, "stylediffusion")
edits = pipe(
    {prompts!r},
    semantic_edit.MappingNetwork.from_pretrained("learned"),
{arguments})
for index, image in enumerate(edits.images, start=1):
    image.save(f"restyled-{{index}}.png")
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
    command = shlex.join(["semantic-edit", "edit", "picture.png", *typed, "--output=edited-again.png"])
    lines = [f"    {name}={value!r},\n" for name, value in named.items()]
    lines += ['    mask_image=Image.open("mask.png"),\n'] if has_mask else []
    loaded = "" if model is None else repr(model)
    return command, PYTHON.format(model=loaded, arguments="".join(lines), seed=seed)


def restyle_recipes(
    prompts: Sequence[str],
    taus: Mapping[str, float],
    is_confined: bool,
    has_image: bool,
    model: str | None = None,
) -> tuple[str, str]:
    """How to make edits of `learned.zip` again: the command, and the lines of Python.

    Args:
        prompts: One for each edit.
        taus: What is kept for how long, by the pipeline's names.
        is_confined: Whether each edit is confined to where the descriptions differ.
        has_image: Whether confined edits are laid over `picture.png`.
        model: The model's name; `None` for the embedded one.
    """
    laid = is_confined and has_image
    options = [f"--prompt={prompt}" for prompt in prompts]
    options += [f"--{name.replace('_', '-')}={value}" for name, value in taus.items()]
    options += [f"--mask={AUTOMATIC}"] * is_confined + ["--image=picture.png"] * laid
    options += [] if model is None else [f"--model={model}"]
    command = shlex.join(["semantic-edit", "restyle", "--mapping=learned", *options, "--output=restyled.png"])
    lines = [f"    {name}={value!r},\n" for name, value in taus.items()]
    lines += [f'    mask_image="{AUTOMATIC}",\n'] * is_confined
    lines += ['    image=Image.open("picture.png"),\n    preserve_background=True,\n'] * laid
    python = SERIES.format(model=repr(model), prompts=list(prompts), arguments="".join(lines))
    return f"python -m zipfile -e learned.zip learned\n{command}", python
