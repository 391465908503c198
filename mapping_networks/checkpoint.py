"""A folder from which an interrupted run of learning resumes: one file per finished step, and what they depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semantic_edit.disk.claims import OURS, held_folder
from semantic_edit.disk.fitting import listed_differences
from semantic_edit.disk.reading import (
    Rule,
    is_path,
    plain_text,
    read_object,
    real_number,
    several,
    shortened,
    whole_number,
)
from semantic_edit.disk.sealed import read_sealed, sealed
from semantic_edit.disk.writing import settle, write_file
from semantic_edit.mapping_networks.report import StepReport

CHECKPOINT_FORMAT = "semantic_edit.learning/1"
STEP_FORMAT = "semantic_edit.learning-step/2"
INPUTS_FILE = "inputs.json"
MOST_PICTURES = 100_000
ERRORS: Rule = several(real_number(), 1, MOST_PICTURES)
COUNTS: Rule = several(whole_number(0, 10**9), 1, MOST_PICTURES)
STEP_RULES: dict[str, Rule] = {
    "inputs_digest": plain_text(longest=100),
    "step": whole_number(0, 10**6),
    "level": whole_number(0, 10**6),
    "latent_before": ERRORS,
    "latent_after": ERRORS,
    "attention_before": ERRORS,
    "attention_after": ERRORS,
    "updates": COUNTS,
    "forward_evaluations": COUNTS,
    "seconds": real_number(0, 1e12),
}
Carried = tuple[dict[str, torch.Tensor], torch.Tensor]
"""What a step starts from: parameters, (pictures, *shape) each, and latents, (pictures, channels, height, width)."""


@dataclass(frozen=True, eq=False)
class FinishedStep:
    """What the next step starts from.

    parameters: For each name of `parameter_shapes`, (pictures, *shape).
    latents: The result of the step, (pictures, channels, height, width).
    report: What the step took.
    """

    parameters: dict[str, torch.Tensor]
    latents: torch.Tensor
    report: StepReport

    @property
    def carried(self) -> Carried:
        """The parameters and latents that the next step starts from."""
        return self.parameters, self.latents


class Checkpoint:
    """The finished steps of one run of learning, kept in a folder.

    Args:
        folder: Created if it does not exist.
        inputs: Everything that the result depends on, as JSON values; a tensor is represented by its `tensor_digest`.

    Raises:
        ValueError: If the folder holds the steps of a run with other inputs, or its inputs cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], inputs: Mapping[str, object]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        described = json.loads(json.dumps({"format": CHECKPOINT_FORMAT, **inputs}))
        self.inputs_digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
        path = self.folder / INPUTS_FILE
        if path.exists():
            self._check_inputs(read_object(path), described)
        else:
            write_file(path, (json.dumps(described, indent=2) + "\n").encode())

    def _check_inputs(self, stored: Mapping[str, object], wanted: Mapping[str, object]) -> None:
        compared = (
            (name, stored.get(name), wanted.get(name)) for name in sorted(stored.keys() | wanted.keys())
        )
        listed = listed_differences("checkpoint", compared, quoted=True)
        if listed:
            raise ValueError(
                f"The checkpoint in {os.fspath(self.folder)!r} belongs to another run of learning ({listed}). Name "
                "another folder, or remove this one to start again."
            )

    def save(self, finished: FinishedStep) -> None:
        """Write one step; a reader sees the whole file or none of it.

        Raises:
            OSError: Naming the file, if it cannot be written.
        """
        fields = {"inputs_digest": self.inputs_digest, **dataclasses.asdict(finished.report)}
        tensors = {"latents": finished.latents, **finished.parameters}
        write_file(self._path(finished.report.step), sealed(STEP_FORMAT, fields, tensors))

    def load(self, like: Carried) -> list[FinishedStep]:
        """The finished steps from 0 on, up to the first that is missing.

        Args:
            like: What learning starts from; the tensors of every step have the same names, shapes and types.

        Raises:
            ValueError: Naming the file that was damaged or changed, or that belongs to another run.
        """
        finished: list[FinishedStep] = []
        while os.path.lexists(path := self._path(len(finished))):
            finished.append(self._load_step(path, len(finished), like))
        return finished

    def _load_step(self, path: Path, step: int, like: Carried) -> FinishedStep:
        parameters, latents = like
        wanted = {"latents": latents, **parameters}
        try:
            fields, tensors = read_sealed(path, STEP_FORMAT, STEP_RULES, "finished step of learning")
        except (OSError, ValueError) as error:
            raise ValueError(f"{error} Remove it to resume from the step before.") from error
        reported: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        fits = (
            reported.pop("inputs_digest") == self.inputs_digest
            and fields["step"] == step
            and all(len(value) == len(latents) for value in reported.values() if isinstance(value, tuple))
            and _form(tensors) == _form(wanted)
            and all(torch.isfinite(value).all() for value in tensors.values())
        )
        if not fits:
            raise ValueError(
                f"{os.fspath(path)!r} is not step {step} of this run of learning. Remove it to resume from the "
                "step before."
            )
        placed = {name: value.to(latents.device) for name, value in tensors.items()}
        return FinishedStep(latents=placed.pop("latents"), parameters=placed, report=StepReport(**reported))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:04d}.safetensors"


def _form(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def check_checkpoint(folder: object) -> None:
    """Raise unless `folder` is `None` or can serve as a checkpoint's folder.

    Raises:
        ValueError: Saying what is wrong with it.
    """
    if folder is None:
        return
    if not is_path(folder):
        raise ValueError(f"`checkpoint` must be the path of a folder, or None, got {shortened(folder)}.")
    place = Path(folder)
    if os.path.lexists(place) and not place.is_dir():
        raise ValueError(
            f"`checkpoint` must be a folder, and {os.fspath(folder)!r} is not one; name another."
        )
    held = [name for name in os.listdir(place) if not name.startswith(OURS)] if place.is_dir() else []
    if held and INPUTS_FILE not in held:
        raise ValueError(
            f"`checkpoint` {os.fspath(folder)!r} holds something other than a checkpoint; name another folder."
        )


@contextmanager
def kept_checkpoint(
    folder: str | os.PathLike[str] | None, inputs: Mapping[str, object]
) -> Iterator[Checkpoint | None]:
    """The checkpoint in a folder, reserved for this process during the block; `None` without a folder.

    Args:
        folder: Created if it does not exist.
        inputs: See [`Checkpoint`].

    Raises:
        ValueError: If the folder holds the steps of another run, or is in use by another process.
    """
    if folder is None:
        yield None
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with held_folder(folder):
        settle(folder)
        yield Checkpoint(folder, inputs)
