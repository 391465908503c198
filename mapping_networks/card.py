"""The model card of a learned picture. It lives here because every saved network writes its own card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.disk.models import FAMILIES, STABLE_DIFFUSION

MODEL_CARD = """\
---
library_name: diffusers
{base_model_entry}pipeline_tag: image-to-image
tags:
  - diffusers
  - image-editing
  - stylediffusion
  - mapping-network
{model_index}---

# A picture to edit with words: {title}

A mapping network that [StyleDiffusion](https://arxiv.org/abs/2303.15649) learned from one picture. With it and its base
model, anyone can change the picture with words, without having the picture itself. It holds the picture's encoding, so
whoever loads it can also see the picture.

```python
{import_code}

pipe = {pipeline}.from_pretrained({base_model_code})
learned = pipe.load_mapping_network({repo_code})
edit = pipe({prompt_code}, mapping_network=learned)  # change the prompt's words
edit.images[0].save("edited.png")
```

`pip install diffusers-semantic-edit` brings `semantic_edit`.

| | |
|---|---|
| prompt that the picture was learned under | {prompt} |
| negative prompt | {negative_prompt} |
| base model | {base_model} |
| base model's fingerprint | {base_fingerprint} |
| variant | {variant} |
| steps | {num_inference_steps}, {prediction_type} |
| schedule's fingerprint | {schedule_fingerprint} |
| guidance scale | {guidance_scale:g} |
| latents | {latent_shape} |
| text tokens | {num_text_tokens} of width {text_width} |
| image tokens | {num_image_tokens} of width {image_width} |
| reconstruction, PSNR | {reconstruction_psnr} |
| reconstruction, SSIM | {reconstruction_ssim} |
| learning | {learning} |

Another base model, schedule or number of steps is refused, and the error says why.

Do not use it to deceive or to demean, above all real people, and label edits as edits.
"""

MODEL_INDEX = """\
model-index:
  - name: mapping network
    results:
      - task:
          type: image-to-image
        dataset:
          type: picture
          name: the learned picture
        metrics:
"""


def model_card(config: Mapping[str, Any], location: str) -> str:
    """The card's text.

    Args:
        config: The config of a `MappingNetwork`.
        location: Where the network can be loaded from: a Hub id or a folder.

    Returns:
        Markdown with the metadata that the Hub reads on top.
    """
    prompt = " ".join(config["prompt"].split())
    base_model = config["base_model"]
    family = next(one for one in FAMILIES if one.name == config.get("model_family", STABLE_DIFFUSION.name))
    pipeline = family.class_name("stylediffusion")
    fields = {
        **config,
        "base_model_entry": f"base_model: {base_model}\n" if is_hub_id(base_model) else "",
        "model_index": _model_index(config),
        "title": f'"{_cell(prompt)}"' if prompt else "a picture without a prompt",
        # diffusers takes any line of a custom pipeline's file that looks like an import for one, even inside a string
        "import_code": f"from semantic_edit import {pipeline}",
        "pipeline": pipeline,
        "base_model_code": _code(base_model or "path/to/the/base/model"),
        "repo_code": _code(location),
        "prompt_code": _code(prompt),
        "prompt": _cell(prompt),
        "negative_prompt": _cell(" ".join((config["negative_prompt"] or "").split())),
        "base_model": _cell(base_model),
        "base_fingerprint": _cell(config["base_fingerprint"]),
        "schedule_fingerprint": _cell(config["schedule_fingerprint"]),
        "latent_shape": "x".join(str(side) for side in config["latent_shape"]),
        "reconstruction_psnr": _figure(config["reconstruction_psnr"], "{:.1f} dB"),
        "reconstruction_ssim": _figure(config["reconstruction_ssim"], "{:.4f}"),
        "learning": ", ".join(f"{name} {_cell(str(value))}" for name, value in config["learning"].items()),
    }
    return MODEL_CARD.format(**fields)


def _model_index(config: Mapping[str, Any]) -> str:
    """The measured figures as the Hub reads them; "" if nothing was measured."""
    measured = {
        "psnr": ("PSNR of the reconstruction to the autoencoder's, in dB", config["reconstruction_psnr"]),
        "ssim": ("SSIM of the reconstruction to the autoencoder's", config["reconstruction_ssim"]),
    }
    entries = [
        f"          - type: {kind}\n            name: {name}\n            value: {value:.4f}\n"
        for kind, (name, value) in measured.items()
        if value is not None
    ]
    return MODEL_INDEX + "".join(entries) if entries else ""


def _code(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") or "(none)"


def _figure(value: float | None, form: str) -> str:
    return "not measured" if value is None else form.format(value)
