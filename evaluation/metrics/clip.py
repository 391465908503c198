"""How well a picture agrees with a prompt, according to a CLIP: the cosine of their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.metrics.regions import only_inside
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable, from_cache

CLIP = "openai/clip-vit-large-patch14"
_STILL_LIFE_WIDTH = (
    128  # the still-life CLIP's text projection is the identity; published CLIPs are at least 512 wide
)


@dataclass(frozen=True)
class Clip:
    """Texts and pictures in one space.

    embed_text: A text's embedding, (width,), not normalised.
    embed_image: A picture's.
    """

    embed_text: Callable[[str], torch.Tensor]
    embed_image: Callable[[Image.Image], torch.Tensor]

    @torch.no_grad()
    def agreement(self, text: str, image: Image.Image, where: np.ndarray | None = None) -> float:
        """Cosine of the text's and the picture's embeddings, in [-1, 1].

        Args:
            text: Truncated to what the tokenizer allows.
            image: Of any size.
            where: Booleans (height, width), to score only an edited region: everything else is made black, and the text
                stays whole, as in PIE-Bench (arXiv:2310.01506). Nothing is cropped.

        Raises:
            ValueError: If `where` does not have the picture's size.
        """
        seen = image if where is None else only_inside(image, where)
        told = self.embed_text(text).cpu().double()
        return F.cosine_similarity(told, self.embed_image(seen).cpu().to(told), dim=0).item()

    def score(self, text: str, image: Image.Image, where: np.ndarray | None = None) -> float:
        """100 max(cosine, 0), the form in which agreement is usually reported.

        Source: CLIPScore, Hessel et al., arXiv:2104.08718, which has 2.5 in place of 100.
        """
        return 100 * max(self.agreement(text, image, where), 0.0)


def pipeline_clip(pipe: DiffusionPipeline) -> Clip:
    """The CLIP formed by a pipeline's two towers: a text encoder with its projection and an `image_encoder`.

    The still-life model has one; its text projection is the identity. Stable Diffusion has none: its text encoder comes
    without the projection, so its pooled output lies in a different space from the output of any vision tower that is
    added.

    Raises:
        MetricUnavailable: If the pipeline lacks a tower, or the two do not share a space.
    """
    tower, processor = getattr(pipe, "image_encoder", None), getattr(pipe, "feature_extractor", None)
    if tower is None or processor is None:
        raise MetricUnavailable(
            "CLIP agreement needs a pipeline with an `image_encoder` and a `feature_extractor`. "
            "Add them, or ask for `clip_score`, which loads a CLIP of its own."
        )
    denoiser = denoiser_of(pipe)
    _, text_encoder = denoiser.pooling_tower
    projected = hasattr(text_encoder, "text_projection")
    text, vision = text_encoder.config, tower.config.projection_dim
    width = text.projection_dim if projected else text.hidden_size
    if (
        width != vision
        or not (projected or width == _STILL_LIFE_WIDTH)
        or not hasattr(tower, "visual_projection")
    ):
        raise MetricUnavailable(
            f"This pipeline's text encoder ({width} wide, {'with' if projected else 'without'} its projection) and "
            f"image encoder ({vision} wide) share no space, or the latter has no projection. "
            "Ask for `clip_score`, which loads a CLIP of its own."
        )

    def embed_text(words: str) -> torch.Tensor:
        return denoiser.pooled_text([words])[0]

    def embed_image(image: Image.Image) -> torch.Tensor:
        pixels = processor(images=image.convert("RGB"), return_tensors="pt").pixel_values
        return tower(pixels.to(tower.device, tower.dtype)).image_embeds[0]

    return Clip(embed_text, embed_image)


def cached_clip(device: torch.device | str = "cpu", name: str = CLIP) -> Clip:
    """OpenAI's ViT-L/14, as in PIE-Bench, or another `CLIPModel`; independent of the edited model's encoders.

    Args:
        device: Where it runs.
        name: A folder, or a name in the Hugging Face cache.

    Raises:
        MetricUnavailable: If the weights are not there.
    """
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    metric = "The CLIP score"
    model = from_cache(CLIPModel.from_pretrained, name, metric).eval().to(device)
    tokenizer = from_cache(CLIPTokenizer.from_pretrained, name, metric)
    processor = from_cache(CLIPImageProcessor.from_pretrained, name, metric)

    def embed_text(words: str) -> torch.Tensor:
        longest = tokenizer.model_max_length
        inputs = tokenizer(
            [words], padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        )
        return model.text_projection(model.text_model(inputs.input_ids.to(device)).pooler_output)[0]

    def embed_image(image: Image.Image) -> torch.Tensor:
        pixels = processor(images=image.convert("RGB"), return_tensors="pt").pixel_values
        return model.visual_projection(model.vision_model(pixels.to(device)).pooler_output)[0]

    return Clip(embed_text, embed_image)
