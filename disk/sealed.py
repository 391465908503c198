"""Tensors with what they mean, in one safetensors file under a digest of all of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from semantic_edit.disk.reading import Rule, check_fields, check_is_file, parse_object


def sealed(kind: str, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The content of a file that `read_sealed` reads.

    Args:
        kind: What it is and in which version, for example "semantic_edit.trajectory/1".
        fields: JSON values.
    """
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(fields)
    return save(kept, {"format": kind, "fields": text, "digest": seal(kind, json.loads(text), kept)})


def read_sealed(
    path: str | os.PathLike[str], kind: str, rules: Mapping[str, Rule], what: str
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The fields and tensors of a file, on the CPU, once they have proved to be those that were written.

    Args:
        rules: Of each field.
        what: What the file should be, in words.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the file, if it is something else, damaged, or changed since it was written.
    """
    name = repr(os.fspath(path))
    check_is_file(path)
    try:
        with safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise ValueError(
                    f"{name} is no {what}: its format is {metadata.get('format')!r}, expected {kind!r}."
                )
            # cloned: a mapped file's tensors are aligned otherwise, and kernels may round otherwise then
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{name} cannot be read as a safetensors file: {error}.") from error
    fields = parse_object(metadata.get("fields", ""), f"what {name} says of itself")
    if metadata.get("digest") != seal(kind, fields, tensors):
        raise ValueError(f"{name} is not what was written: it was damaged or changed since.")
    check_fields(fields, rules, f"the {what} {name}")
    return fields, tensors


def seal(kind: str, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Thirty-two hexadecimal digits of all that a file says."""
    digests = {name: tensor_digest(value) for name, value in tensors.items()}
    described = json.dumps([kind, fields, digests], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def tensor_digest(tensor: torch.Tensor) -> str:
    """Sixteen hexadecimal digits of a tensor's shape, dtype and every bit of its values."""
    described = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(described + values).hexdigest()[:16]
