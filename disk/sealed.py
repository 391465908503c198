"""Tensors and what they mean, in one safetensors file with a digest of all its content."""

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
    """The bytes of a file that `read_sealed` can read.

    Args:
        kind: What the file is, and its version, for example "semantic_edit.trajectory/1".
        fields: JSON values by name.
        tensors: By name.
    """
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(fields)
    return save(kept, {"format": kind, "fields": text, "digest": seal(kind, json.loads(text), kept)})


def read_sealed(
    path: str | os.PathLike[str],
    kind: str,
    rules: Mapping[str, Rule],
    what: str,
    later: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a file, and check that it is exactly as it was written.

    Args:
        path: The file.
        kind: As `sealed` was given it.
        rules: One for each field.
        what: What the file should be, in words.
        later: Fields that older files lack, with the values that they then have.

    Returns:
        The fields, and the tensors on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the file, if it is something else, or was damaged or changed after it was written.
    """
    name = repr(os.fspath(path))
    check_is_file(path)
    try:
        with safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != kind:
                raise ValueError(
                    f"{name} is not a {what}: its format is {metadata.get('format')!r}, expected {kind!r}."
                )
            # cloned: tensors of a mapped file are aligned differently, which may change how kernels round
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{name} cannot be read as a safetensors file: {error}.") from error
    fields = parse_object(metadata.get("fields", ""), f"the description in {name}")
    if metadata.get("digest") != seal(kind, fields, tensors):
        raise ValueError(f"{name} is not what was written: it has been damaged or changed.")
    fields = {**(later or {}), **fields}
    check_fields(fields, rules, f"the {what} {name}")
    return fields, tensors


def seal(kind: str, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Thirty-two hexadecimal digits that depend on everything in a file."""
    digests = {name: tensor_digest(value) for name, value in tensors.items()}
    described = json.dumps([kind, fields, digests], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def tensor_digest(tensor: torch.Tensor) -> str:
    """Sixteen hexadecimal digits that depend on a tensor's shape, its dtype and every bit of its values."""
    described = f"{tuple(tensor.shape)} {tensor.dtype}".encode()
    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(described + values).hexdigest()[:16]
