"""A folder that an interrupted learning goes on from: one file per finished step, and what they were made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from semantic_edit.mapping_networks.report import StepReport

CHECKPOINT_FORMAT = "semantic_edit.learning/1"
INPUTS_FILE = "inputs.json"


@dataclass(frozen=True, eq=False)
class FinishedStep:
    """What the next step starts from.

    parameters: For each name of `parameter_shapes`, (pictures, *shape).
    latents: What the step gave, (pictures, channels, height, width).
    """

    parameters: dict[str, torch.Tensor]
    latents: torch.Tensor
    report: StepReport

    @property
    def carried(self) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The parameters and latents that the next step starts from."""
        return self.parameters, self.latents


class Checkpoint:
    """The finished steps of one learning in a folder, which is made if it is not there.

    Args:
        folder: Where.
        inputs: Everything that the result depends on, as JSON values; tensors by `tensor_digest`.

    Raises:
        ValueError: If the folder holds the steps of a learning from other inputs.
    """

    def __init__(self, folder: str | os.PathLike[str], inputs: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        described = json.loads(json.dumps({"format": CHECKPOINT_FORMAT, **inputs}))
        path = self.folder / INPUTS_FILE
        if path.exists():
            self._check_inputs(json.loads(path.read_text(encoding="utf-8")), described)
        else:
            self._replace(
                path, lambda unfinished: unfinished.write_text(json.dumps(described, indent=2) + "\n")
            )

    def _check_inputs(self, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
        listed = [
            f"{name}: checkpoint {stored.get(name)!r}, this call {wanted.get(name)!r}"
            for name in sorted(stored.keys() | wanted.keys())
            if stored.get(name) != wanted.get(name)
        ]
        if listed:
            raise ValueError(
                f"The checkpoint in {os.fspath(self.folder)!r} is of another learning ({'; '.join(listed)}). Name "
                "another folder, or remove this one to start again."
            )

    def save(self, finished: FinishedStep) -> None:
        """Write one step; a reader sees the whole file or none."""
        tensors = {"latents": finished.latents, **finished.parameters}
        stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        metadata = {"report": json.dumps(dataclasses.asdict(finished.report))}
        self._replace(
            self._path(finished.report.step),
            lambda unfinished: save_file(stored, unfinished, metadata=metadata),
        )

    def load(self, device: torch.device) -> list[FinishedStep]:
        """The finished steps from 0 on, without a gap.

        Raises:
            ValueError: If a file is damaged.
        """
        finished: list[FinishedStep] = []
        while (path := self._path(len(finished))).exists():
            finished.append(self._load_step(path, device))
        return finished

    def _load_step(self, path: Path, device: torch.device) -> FinishedStep:
        try:
            with safe_open(path, framework="pt") as file:
                fields: dict[str, Any] = json.loads(file.metadata()["report"])
                # cloned: a mapped file's tensors are aligned otherwise, and kernels may round otherwise then
                tensors = {name: file.get_tensor(name).clone().to(device) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"{os.fspath(path)!r} cannot be read as a safetensors file ({error}); remove it to learn again from "
                "the step before."
            ) from error
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        report = StepReport(**fields)
        return FinishedStep(latents=tensors.pop("latents"), parameters=tensors, report=report)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:04d}.safetensors"

    def _replace(self, path: Path, write: Any) -> None:
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            write(unfinished)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def tensor_digest(tensor: torch.Tensor) -> str:
    """Sixteen hexadecimal digits of a tensor's shape, dtype and every bit of its values."""
    described = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(described + values).hexdigest()[:16]
