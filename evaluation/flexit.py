"""FlexIT: change a picture's latent until CLIP sees what the new prompt says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.attention_processors import BorrowedNetwork, frozen, lock_of
from semantic_edit.denoisers import denoiser_of
from semantic_edit.editing import check_finite
from semantic_edit.evaluation.method import (
    Edited,
    EditMethod,
    edited_from,
    floats_of,
    latents_of,
    pixels_of,
)


@dataclass(frozen=True, eq=False)
class Seen:
    """latents: (1, channels, height, width), clean; pixels: (1, 3, height, width) in [0, 1]; both show `prompt`."""

    latents: torch.Tensor
    pixels: torch.Tensor
    prompt: str


@dataclass(frozen=True)
class FlexIT(EditMethod[Seen]):
    """Gradient descent on the latent of the pipeline's VAE, guided by the pipeline's CLIP; the denoiser is not used.

    The loss is - E(picture) · target + perceptual_weight * perceptual distance + latent_weight * latent distance, with
    target = text_weight * E(prompt) + image_weight * E(source picture) - source_weight * E(source prompt), where every
    E has length 1. The length of each step is `learning_rate` times that of the source's latent. The defaults are those
    of the authors' published configuration, which however uses a VQGAN instead of the VAE, five CLIPs instead of one,
    LPIPS (VGG) as the perceptual distance, pictures of 288 pixels, and one random view per step instead of the picture
    itself.

    `num_inference_steps` and `guidance_scale` are not used.

    steps: Number of updates; more change more.
    text_weight, image_weight, source_weight: In the target; the latter two are the paper's lambda_I and lambda_S.
    perceptual_weight: Of `perceptual_distance` to the source, lambda_p.
    latent_weight: Of the latent's distance to the source's, lambda_z: norms over the channels, summed over positions,
        relative to the same sum for the source's latent.
    text_is_projected: Whether the text encoder's pooled output already lies in the space of the image encoder's
        embeddings, without a projection. This is so in the still-life model, but not for Stable Diffusion's text
        encoders.

    Source: FlexIT, arXiv:2203.04705, Sec. 3.
    """

    prepared_by: ClassVar[tuple[str, ...]] = ("text_is_projected",)

    steps: int = 160
    learning_rate: float = 0.05
    text_weight: float = 1.0
    image_weight: float = 0.2
    source_weight: float = 0.4
    perceptual_weight: float = 0.15
    latent_weight: float = 0.05
    text_is_projected: bool = False

    def prepare(
        self, pipe: DiffusionPipeline, images: Sequence[Image.Image], source_prompts: Sequence[str]
    ) -> list[Seen]:
        """The pictures' latents and pixels."""
        self.check(pipe)
        denoiser = denoiser_of(pipe)
        latents, pixels = latents_of(denoiser, images), pixels_of(denoiser, images)
        return [Seen(*one) for one in zip(latents.split(1), pixels.split(1), source_prompts, strict=True)]

    def edited(self, pipe: DiffusionPipeline, prepared: Seen, prompt: str, seed: int = 0) -> Edited:
        """Make one edit; nothing is random, so the seed is not used."""
        return edited_from(denoiser_of(pipe), self.optimise(pipe, prepared, prompt)[0])

    def reconstruct(self, pipe: DiffusionPipeline, prepared: Seen) -> np.ndarray:
        """The autoencoder's reconstruction of the picture."""
        return floats_of(denoiser_of(pipe), prepared.latents)

    def perceptual_distance(
        self, pipe: DiffusionPipeline, first: torch.Tensor, second: torch.Tensor
    ) -> torch.Tensor:
        """The distance between two pictures, (1, 3, height, width) in [0, 1]; a subclass may use LPIPS instead.

        Computed like LPIPS, but on all layers of the image encoder: squared differences between the tokens, normalised
        to length 1, averaged over tokens and layers.
        """
        seen = pipe.image_encoder(_tower_pixels(pipe, torch.cat([first, second])), output_hidden_states=True)
        layers = [F.normalize(layer.float(), dim=-1) for layer in seen.hidden_states]
        return torch.stack([(layer[0] - layer[1]).square().sum(-1).mean() for layer in layers]).mean()

    def optimise(
        self, pipe: DiffusionPipeline, prepared: Seen, prompt: str
    ) -> tuple[torch.Tensor, list[float]]:
        """The edit's latents, (1, channels, height, width), and the loss before each update."""
        target = self._target(pipe, prepared, prompt)
        start, latents = prepared.latents, prepared.latents
        losses: list[float] = []
        with (
            lock_of(pipe.vae),
            lock_of(pipe.image_encoder),
            BorrowedNetwork(pipe.vae) as vae,
            BorrowedNetwork(pipe.image_encoder) as image_encoder,
            frozen(vae),
            frozen(image_encoder),
            torch.enable_grad(),
        ):
            for step in range(self.steps):
                latents = latents.detach().requires_grad_()
                loss = self._loss(pipe, prepared, target, latents)
                (slope,) = torch.autograd.grad(loss, latents)
                losses.append(loss.item())
                length = self.learning_rate * start.norm() / slope.norm().clamp(min=1e-12)
                latents = latents.detach() - length * slope
                check_finite(f"the update of step {step}", latents)
        return latents, losses

    def _loss(
        self, pipe: DiffusionPipeline, prepared: Seen, target: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor:
        pixels = denoiser_of(pipe).decode(latents)
        (seen,) = _image_embeds(pipe, _tower_pixels(pipe, pixels))
        moved = torch.linalg.vector_norm(latents - prepared.latents, dim=1).sum()
        size = torch.linalg.vector_norm(prepared.latents, dim=1).sum()
        return (
            -(seen @ target)
            + self.perceptual_weight * self.perceptual_distance(pipe, pixels, prepared.pixels)
            + self.latent_weight * moved / size
        )

    @torch.no_grad()
    def _target(self, pipe: DiffusionPipeline, prepared: Seen, prompt: str) -> torch.Tensor:
        """(width,), not normalised."""
        wanted, source = _text_embeds(pipe, [prompt, prepared.prompt])
        (image,) = _image_embeds(pipe, _tower_pixels(pipe, prepared.pixels))
        return self.text_weight * wanted + self.image_weight * image - self.source_weight * source

    def check(self, pipe: DiffusionPipeline) -> None:
        """Also raise a ValueError unless the pipeline has a CLIP in which texts and pictures share a space."""
        super().check(pipe)
        _, encoder = denoiser_of(pipe).pooling_tower
        projects = hasattr(encoder, "text_projection")
        if pipe.image_encoder is None or pipe.feature_extractor is None:
            raise ValueError(
                "FlexIT needs a CLIP, and this pipeline has no `image_encoder` with its `feature_extractor`. Give it "
                "the CLIP that the text encoder is from: on the command line by --image-encoder, in Python as a "
                "CLIPVisionModelWithProjection with its processor."
            )
        if not projects and not self.text_is_projected:
            raise ValueError(
                f"FlexIT needs texts and pictures in one space, and this pipeline's {type(encoder).__name__} has no "
                "projection into the image encoder's. Load the pipeline with CLIPTextModelWithProjection and "
                "CLIPVisionModelWithProjection of one CLIP, for Stable Diffusion 1.x openai/clip-vit-large-patch14. "
                "Or pass `text_is_projected=True` if the pooled text lies there as it is, as in the still-life model."
            )
        text, image = encoder.config, pipe.image_encoder.config.projection_dim
        width = text.projection_dim if projects else text.hidden_size
        if width != image:
            raise ValueError(
                f"FlexIT needs texts and pictures in one space, and this pipeline's text embeddings are {width} wide "
                f"where those of its pictures are {image}. Load both encoders from the same CLIP."
            )


def _text_embeds(pipe: DiffusionPipeline, texts: Sequence[str]) -> torch.Tensor:
    """(texts, width), normalised to length 1."""
    denoiser = denoiser_of(pipe)
    tokenizer, _ = denoiser.pooling_tower
    return F.normalize(
        denoiser.pooled_text(pipe.maybe_convert_prompt(list(texts), tokenizer)).float(), dim=-1
    )


def _image_embeds(pipe: DiffusionPipeline, tower_pixels: torch.Tensor) -> torch.Tensor:
    """(pictures, width), normalised to length 1."""
    return F.normalize(pipe.image_encoder(tower_pixels).image_embeds.float(), dim=-1)


def _tower_pixels(pipe: DiffusionPipeline, pixels: torch.Tensor) -> torch.Tensor:
    """Prepare pixels, (pictures, 3, height, width) in [0, 1], like the feature extractor, but with gradients."""
    side, extractor = pipe.image_encoder.config.image_size, pipe.feature_extractor
    height, width = (side * size // min(pixels.shape[-2:]) for size in pixels.shape[-2:])
    top, left = (height - side) // 2, (width - side) // 2
    resized = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    cropped = resized[..., top : top + side, left : left + side]
    mean, spread = (
        torch.tensor(values, device=pixels.device).view(-1, 1, 1)
        for values in (extractor.image_mean, extractor.image_std)
    )
    return ((cropped - mean) / spread).to(pipe.image_encoder.dtype)
