"""How a trained pipeline is kept: half-precision safetensors that every supported version of the libraries reads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from semantic_edit.disk.writing import write_file


def save_half(pipeline: DiffusionPipeline, folder: Path, tokenizers: Mapping[str, Path]) -> None:
    """Put `pipeline`, which is half precision afterwards, into `folder`, in a layout that `from_pretrained` reads.

    `tokenizers`: the folder that `write_tokenizer` wrote, for each tokenizer's name in the pipeline.
    """
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for config in folder.glob(
        "*_encoder*/config.json"
    ):  # kept in half precision, loaded in full unless asked
        write_file(config, config.read_bytes().replace(b'"float16"', b'"float32"'))
    index = folder / "model_index.json"  # in the name that every version of transformers has
    write_file(index, index.read_bytes().replace(b'"CLIPImageProcessorPil"', b'"CLIPImageProcessor"'))
    for tokenizer, written in tokenizers.items():  # older transformers read these instead of tokenizer.json
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(written / name, folder / tokenizer / name)
