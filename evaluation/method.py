"""What all methods of the comparison have in common: a picture and two prompts in, a picture out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import FLOW_EDIT, INVERSION, Denoiser, PromptInput, UNetDenoiser, denoiser_of
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import real_number
from semantic_edit.editing import Conditioning, PromptPair, Schedule, eight_bits
from semantic_edit.pipelines import read_images

PREPARING_SEED = 2_000_003
Prepared = TypeVar("Prepared")


@dataclass(frozen=True, eq=False)
class Edited:
    """What a method makes of a picture.

    latents: (1, channels, height, width), clean, from which `image` was decoded, before any pixels of the original
        were laid over it; `None` if they are not known.
    mask: Where the edit applied, booleans (height, width), if the method finds that out.
    """

    image: Image.Image
    latents: torch.Tensor | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class EditMethod(ABC, Generic[Prepared]):
    """One way to edit a picture, with its knobs as fields.

    Works with any loaded pipeline of a family that is served, including diffusers' own, unless `check` says otherwise;
    pipelines are only read.

    What a method computes for a picture before it knows the edit (an inversion, learned embeddings) is kept separate,
    so that a sweep over knobs pays for it only once: two methods of one class share a preparation if they agree in the
    fields in `prepared_by`.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("num_inference_steps",)

    num_inference_steps: int = 50
    guidance_scale: float = 7.5

    def __call__(
        self, pipe: DiffusionPipeline, image: Image.Image, source_prompt: str, prompt: str, seed: int = 0
    ) -> Image.Image:
        """Edit the picture to show `prompt`; `seed` is for the noise, if the method uses any."""
        (prepared,) = self.prepare(pipe, [image], [source_prompt])
        return self.edit(pipe, prepared, prompt, seed)

    def check(self, pipe: DiffusionPipeline) -> None:
        """Raise unless the pipeline's model is supported and has what this method needs; called before the first edit.

        Raises:
            ValueError: Naming what is missing.
        """
        denoiser_of(pipe).check()

    def check_steps(self, pipe: DiffusionPipeline) -> None:
        """Raise if the schedule has too few steps, or a fraction of them is less than one; called before the first
        edit.

        Raises:
            ValueError: Naming the number.
        """
        self.schedule(denoiser_of(pipe))

    @abstractmethod
    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Prepared]:
        """Prepare several pictures of one size, side by side."""

    @abstractmethod
    def edited(self, pipe: DiffusionPipeline, prepared: Prepared, prompt: str, seed: int = 0) -> Edited:
        """Make one edit of a prepared picture; returns all that is known of it."""

    def edit(self, pipe: DiffusionPipeline, prepared: Prepared, prompt: str, seed: int = 0) -> Image.Image:
        """Make one edit of a prepared picture; returns the picture alone."""
        return self.edited(pipe, prepared, prompt, seed).image

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Prepared) -> np.ndarray | None:
        """Reconstruct the picture from its preparation.

        Returns:
            Floats (height, width, 3) in [0, 1]; `None` if the method has no reconstruction.
        """
        return None

    def backward_evaluations(self, prepared: Prepared) -> int:
        """Number of backward evaluations of the denoiser that the preparation of one picture took."""
        return 0

    @property
    def preparation(self) -> tuple[Any, ...]:
        """What the preparation depends on."""
        return type(self).__name__, *(getattr(self, name) for name in self.prepared_by)

    def schedule(self, denoiser: Denoiser, latents: torch.Tensor | None = None) -> Schedule:
        """The levels that this method walks.

        Args:
            denoiser: The model.
            latents: (…, height, width), whose size the noise levels of some models depend on; by default that of the
                model's own size.
        """
        size = None if latents is None else (latents.shape[-2], latents.shape[-1])
        return denoiser.schedule(self.num_inference_steps, size)

    def prompts(self, denoiser: Denoiser, prompt: str) -> PromptPair:
        """The conditioning of a decoding: the prompt and, if it is guided, the empty prompt."""
        embeds = embeds_of(denoiser, [prompt, ""])
        return PromptPair(
            embeds.rows(slice(1)), None if self.guidance_scale == 1 else embeds.rows(slice(1, 2))
        )


def sides_of(image: Image.Image) -> dict[str, Any]:
    """A picture's own size as arguments of our pipelines: all methods work at it, whatever the native size."""
    return {"height": image.height, "width": image.width}


def pixels_of(denoiser: Denoiser, images: Sequence[Image.Image]) -> torch.Tensor:
    """(pictures, 3, height, width) in [0, 1].

    Raises:
        ValueError: If they differ in size, or the model cannot work at their size.
    """
    pixels = read_images(list(images), denoiser.multiple, denoiser.latent_channels).pixels
    assert pixels is not None  # only latents have none
    return pixels.to(denoiser.device)


@torch.no_grad()
def latents_of(denoiser: Denoiser, images: Sequence[Image.Image]) -> torch.Tensor:
    """Scaled latents, (pictures, channels, height, width) in float32."""
    return denoiser.encode(pixels_of(denoiser, images))


def embeds_of(denoiser: Denoiser, texts: Sequence[str]) -> Conditioning:
    """A row for each text. The empty text stands for no prompt, which SDXL represents in its own way."""
    prompts = [
        denoiser.read_prompt(PromptInput("prompt", text)) if text else denoiser.absent_prompt("prompt")
        for text in texts
    ]
    return Conditioning.cat([row for row in denoiser.embed(prompts, 1) if row is not None])


@torch.no_grad()
def image_of(denoiser: Denoiser, latents: torch.Tensor) -> Image.Image:
    """Decode the first of some latents, (batch, channels, height, width), to an RGB picture."""
    pixels = eight_bits(denoiser.decode(latents[:1])[0])
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def edited_from(denoiser: Denoiser, latents: torch.Tensor) -> Edited:
    """An edit that is decoded from the first of some latents, (batch, channels, height, width)."""
    return Edited(image_of(denoiser, latents), latents[:1])


def preparing_generator() -> torch.Generator:
    """Draws the noise of a preparation, the same for every picture: the edits' seeds are not known yet."""
    return torch.Generator().manual_seed(PREPARING_SEED)


def check_flow(denoiser: Denoiser, method: str) -> None:
    """Raise a ValueError unless a model is a rectified flow.

    Args:
        denoiser: The model.
        method: The name of the method that needs one.
    """
    if FLOW_EDIT not in denoiser.encodings:
        lacks = "predicts noise" if INVERSION in denoiser.encodings else "was distilled to a few long steps"
        raise ValueError(
            f"{method} moves along the velocities of a rectified flow, such as Stable Diffusion 3, and this model of "
            f"{denoiser.family.title} {lacks}. Use a model of Stable Diffusion 3, or another method."
        )


def check_noise(denoiser: Denoiser, method: str) -> None:
    """Raise a ValueError if a model is a rectified flow.

    Args:
        denoiser: The model.
        method: The name of the method that needs a model of another kind.
    """
    if not isinstance(denoiser, UNetDenoiser):  # of the flows, distilled ones do not even allow FlowEdit
        raise ValueError(
            f"{method} takes the steps of a model that predicts noise, such as Stable Diffusion 1.5 or XL, and this "
            f"model of {denoiser.family.title} is a rectified flow. Use one of those models, or another method."
        )


def steps_of(schedule: Schedule, name: str, fraction: float) -> int:
    """How many steps a fraction of a schedule's steps is, at least one.

    Args:
        schedule: The schedule.
        name: The knob's name, for the error.
        fraction: In (0, 1].

    Raises:
        ValueError: If the fraction is outside (0, 1], or less than one step.
    """
    read_number(name, fraction, real_number(0, 1), "It is a fraction of the steps.")
    # the tolerance keeps 0.29 of 100 from becoming 28, since 0.29 is not exact in binary
    steps = int(schedule.num_inference_steps * fraction + 1e-6)
    if steps < 1:
        raise ValueError(
            f"`{name}` {fraction} of `num_inference_steps` {schedule.num_inference_steps} is less than one step; raise "
            "one of the two."
        )
    return steps


@torch.no_grad()
def floats_of(denoiser: Denoiser, latents: torch.Tensor) -> np.ndarray:
    """The same as floats (height, width, 3) in [0, 1], not rounded to 8 bits."""
    return denoiser.decode(latents[:1])[0].permute(1, 2, 0).cpu().double().numpy()


def vae_reconstruction(denoiser: Denoiser, image: Image.Image) -> np.ndarray:
    """The autoencoder's reconstruction of a picture, floats (height, width, 3) in [0, 1]."""
    return floats_of(denoiser, latents_of(denoiser, [image]))
