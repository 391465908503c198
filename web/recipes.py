"""What an edit on the page is elsewhere: arguments of the pipeline, a command line, and a few lines of Python."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

FOR_STILL_LIFE = "semantic_edit.load()"


@dataclass(frozen=True)
class Asked:
    """What a visitor asks for, checked by the pipeline; names and units are those of a call."""

    source: str
    prompt: str
    preset: str
    steps: int
    strength: float
    threshold: float
    seed: int
    negative: str

    @property
    def words(self) -> tuple[object, ...]:
        """All that a mask depends on, besides its threshold."""
        return self.source, self.prompt, self.preset, self.steps, self.seed, self.negative

    def arguments(self, has_mask: bool) -> dict[str, Any]:
        """Those of the pipeline besides image, mask, trajectory and generator."""
        given: dict[str, Any] = {"prompt": self.prompt}
        if not has_mask:
            given |= {"source_prompt": self.source, "mask_threshold": self.threshold}
        if self.negative:
            given["negative_prompt"] = self.negative
        return {
            **given,
            "preset": self.preset,
            "num_inference_steps": self.steps,
            "inpaint_strength": self.strength,
        }


def command_line(asked: Asked, has_mask: bool, model: str | None) -> str:
    """The edit as a command.

    Args:
        asked: What was asked for.
        has_mask: Whether the mask was corrected by hand, and is in `mask.png`.
        model: The model's name; `None` for the embedded one.
    """
    options = {
        "--source": None if has_mask else asked.source,
        "--prompt": asked.prompt,
        "--negative": asked.negative or None,
        "--mask": "mask.png" if has_mask else None,
        "--mask-threshold": None if has_mask else asked.threshold,
        "--seed": None if has_mask else asked.seed,
        "--preset": asked.preset,
        "--steps": asked.steps,
        "--strength": asked.strength,
        "--model": model,
    }
    # joined by "=", because words may begin with a dash
    typed = [f"{name}={value}" for name, value in options.items() if value is not None]
    return shlex.join(["semantic-edit", "edit", "picture.png", *typed, "--output", "edited.png"])


def python_lines(asked: Asked, has_mask: bool, model: str | None) -> str:
    """The edit in Python; the arguments are those of `command_line`."""
    loaded = FOR_STILL_LIFE if model is None else f"semantic_edit.load({model!r})"
    given = "".join(f"    {name}={value!r},\n" for name, value in asked.arguments(has_mask).items())
    mask = '    mask_image=Image.open("mask.png"),\n' if has_mask else ""
    return (
        "import torch\nfrom PIL import Image\n\nimport semantic_edit\n\n"
        f"pipe = {loaded}\n"
        f'edit = pipe(\n    image=Image.open("picture.png"),\n{given}{mask}'
        f"    generator=torch.Generator().manual_seed({asked.seed}),\n)\n"
        'edit.images[0].save("edited.png")\n'
    )
