"""What all methods of the comparison have in common: a picture and two prompts in, a picture out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.schedule import Schedule
from semantic_edit.pipelines.conditioning import encode_prompts, read_prompt
from semantic_edit.pipelines.request import read_edit_pictures
from semantic_edit.pipelines.stages import convert_pixels, decode_pixels, encode_pictures

COMPONENTS = (
    "vae",
    "text_encoder",
    "tokenizer",
    "unet",
    "scheduler",
    "feature_extractor",
    "image_encoder",
)


@dataclass(frozen=True)
class EditMethod(ABC):
    """One way to edit a picture, with its knobs for fields; any loaded Stable Diffusion pipeline serves, only read.

    What a method makes of a picture before it knows the edit (an inversion, learned embeddings) is a value of its own,
    so that a sweep over knobs pays for it once: two methods of one class serve themselves from the same preparation if
    the fields in `prepared_by` agree.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps",)

    num_inference_steps: int = 50
    guidance_scale: float = 7.5

    def __call__(
        self, pipe: Any, image: Image.Image, source_prompt: str, prompt: str, seed: int = 0
    ) -> Image.Image:
        """The picture edited to show `prompt`; `seed` is of the noise, where a method draws any."""
        (prepared,) = self.prepare(pipe, [image], [source_prompt])
        return self.edit(pipe, prepared, prompt, seed)

    def check(self, pipe: Any) -> None:  # noqa: B027, most need nothing more
        """Refuse a pipeline that lacks what this method needs; asked before the first edit.

        Raises:
            ValueError: Naming what is missing.
        """

    def check_steps(self, pipe: Any) -> None:
        """Refuse more steps than the schedule has, or so few that a fraction of them is none; asked before the first
        edit.

        Raises:
            ValueError: Naming the number.
        """
        self.schedule(pipe)

    @abstractmethod
    def prepare(self, pipe: Any, images: Sequence[Image.Image], source_prompts: Sequence[str]) -> list[Any]:
        """What this method makes of each of some pictures of one size, side by side."""

    @abstractmethod
    def edit(self, pipe: Any, prepared: Any, prompt: str, seed: int = 0) -> Image.Image:
        """One edit of a picture that was prepared."""

    def edit_with_mask(
        self, pipe: Any, prepared: Any, prompt: str, seed: int = 0
    ) -> tuple[Image.Image, np.ndarray | None]:
        """An edit, and where it applied, booleans (height, width), if the method finds that out."""
        return self.edit(pipe, prepared, prompt, seed), None

    def reconstruct(self, pipe: Any, prepared: Any) -> np.ndarray | None:
        """What the preparation gives back of the picture, floats (height, width, 3) in [0, 1]; `None` if that means
        nothing."""
        return None

    def backward_evaluations(self, prepared: Any) -> int:
        """Of the denoiser, that the preparation of one picture took."""
        return 0

    @property
    def preparation(self) -> tuple[Any, ...]:
        """What the preparation depends on."""
        return type(self).__name__, *(getattr(self, name) for name in self.prepared_by)

    def schedule(self, pipe: Any) -> Schedule:
        """The levels that an inversion of this method walks."""
        return schedule_from_scheduler(pipe.scheduler, self.num_inference_steps)


def another_pipeline(kind: type, pipe: Any, **changes: Any) -> Any:
    """A silent pipeline of another kind around the same modules; not by `from_pipe`, which casts them.

    It has no safety checker: some methods are no pipelines and cannot have one, and its black pictures would count
    against the others.

    Args:
        changes: Components in place of the pipeline's own.
    """
    components = {name: getattr(pipe, name) for name in COMPONENTS}
    made = kind(**{**components, **changes}, safety_checker=None, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def sides_of(image: Image.Image) -> dict[str, Any]:
    """A picture's own size as our pipelines' arguments: all methods work at it, whatever the model's own size."""
    return {"height": image.height, "width": image.width}


@torch.no_grad()
def latents_of(pipe: Any, images: Sequence[Image.Image]) -> torch.Tensor:
    """Scaled latents, (pictures, channels, height, width) in float32."""
    return encode_pictures(pipe, read_edit_pictures(pipe, list(images)))


def embeds_of(pipe: Any, texts: Sequence[str]) -> torch.Tensor:
    """(texts, tokens, width), of the UNet's type."""
    (embeds,) = encode_prompts(pipe, (read_prompt("prompt", list(texts), None),), len(texts))
    assert embeds is not None  # no prompt was `None`
    return embeds


@torch.no_grad()
def picture_of(pipe: Any, latents: torch.Tensor) -> Image.Image:
    """The first of some latents, (batch, channels, height, width), as an RGB picture."""
    (picture,) = convert_pixels(pipe, decode_pixels(pipe, latents[:1]), "pil")
    return picture


@torch.no_grad()
def floats_of(pipe: Any, latents: torch.Tensor) -> np.ndarray:
    """The same as floats (height, width, 3) in [0, 1], not rounded to 8 bits."""
    return decode_pixels(pipe, latents[:1])[0].permute(1, 2, 0).cpu().double().numpy()


def vae_reconstruction(pipe: Any, image: Image.Image) -> np.ndarray:
    """What the autoencoder alone leaves of a picture, floats (height, width, 3) in [0, 1]."""
    return floats_of(pipe, latents_of(pipe, [image]))
