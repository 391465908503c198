"""What an edit needs to know of a model family. Code outside this room knows only denoisers, not families."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from semantic_edit.attention_processors.tokens import PromptTokens
from semantic_edit.denoisers.prompts import Prompt, PromptInput
from semantic_edit.disk.fitting import KnownModel
from semantic_edit.disk.models import Family
from semantic_edit.disk.sizes import Sizes
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.flow_edit import GuidedSide
from semantic_edit.editing.frames import Size
from semantic_edit.editing.guidance import PromptPair, classifier_free_guidance
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.tuning import EditTuning

# On the still-life model's validation pictures, an `otsu_part` of 0.8 is the best of 0.6 to 1.0; a `coherence` of 0.65
# misjudges 1 of 128 edits; a `room` of 0.25 does not succeed more often, and its background is 2 dB worse; guiding
# object edits away from the source prompt changes more objects than guiding them away from the empty one, and colour
# edits would fail with it.
MEASURED = EditTuning(
    otsu_part=0.8,
    coherence=0.65,
    matte=(0.2, 0.6),
    reach=0.5,
    room=0.1,
    source_guidance=4.0,
    source_guidance_stop=0.6,
    colour_guidance_stop=0.5,
)

INVERSION, FRESH_NOISE, FLOW_EDIT = ENCODINGS = ("inversion", "noise", "flowedit")
"""How a picture may be encoded: by walking the sampler backwards, by fresh noise, or not at all, by FlowEdit."""


class Denoiser(ABC):
    """One loaded model for one call, and the only code that evaluates its networks.

    tuning: What suits the model's edits.
    cell: Pixels along a latent's side.
    multiple: What both sides of a picture must be multiples of, in pixels.
    own_size: The model's native width and height, in pixels.
    latent_channels: Number of channels of its latents.
    scaling_factor: What its VAE's latents are multiplied by.
    usual_guidance: The guidance scale that is usual for the model.
    encodings: Those of `ENCODINGS` that the model allows, the default first.
    flow_edit_scales: FlowEdit's usual guidance under the source's and under the target's prompt.
    """

    family: ClassVar[Family]
    tuning: ClassVar[EditTuning] = MEASURED
    encoder_of_words: ClassVar[int] = 0
    """Which of the family's text encoders' texts is the one whose words are found in attention maps."""

    cell: int
    multiple: int
    own_size: Size
    latent_channels: int
    scaling_factor: float
    usual_guidance: float
    encodings: tuple[str, ...] = (INVERSION, FRESH_NOISE)
    flow_edit_scales: tuple[float, float] = (3.5, 13.5)

    @abstractmethod
    def check(self) -> None:
        """Raise unless this family's edits can work with the model.

        Raises:
            ValueError: Saying why they cannot, and what to use instead.
        """

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model computes."""

    @abstractmethod
    def identity(self) -> str:
        """What distinguishes the denoising network from others, and the adapters that are active in this call; see
        `network_identity`."""

    def sizes(self, latent_height: int, latent_width: int) -> Sizes:
        """The sizes that condition the model besides its prompts, for latents of this size; {} if there are none."""
        return {}

    def known(self, latent_height: int, latent_width: int) -> KnownModel:
        """What a trajectory or a learned picture of latents of this size is compared with."""
        sizes = self.sizes(latent_height, latent_width)
        return KnownModel(self.family, self.identity(), self.scaling_factor, sizes)

    @abstractmethod
    def schedule(self, num_inference_steps: int, latent_size: tuple[int, int] | None = None) -> Schedule:
        """The levels of a schedule, derived from the scheduler, which is only read.

        Args:
            num_inference_steps: Number of steps.
            latent_size: The latents' (height, width), which some families' noise levels depend on; by default that of
                the model's own size.

        Raises:
            ValueError: If the scheduler cannot be inverted, or the number of steps is out of range.
        """

    @abstractmethod
    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and those that belong with it.

        Args:
            given: The arguments.
            required: Whether it is an error if nothing is given; otherwise that means the empty or the absent prompt.
            unconditional: Whether it is encoded as diffusers encodes negative prompts.

        Raises:
            ValueError: If arguments exclude each other or are missing, text is not valid, or embeddings have a
                different shape, dtype or width.
            TypeError: If text is neither a string nor a list of strings.
        """

    @abstractmethod
    def absent_prompt(self, name: str, unconditional: bool = False, instead: str = "") -> Prompt:
        """The prompt that says nothing, under the name of an argument.

        Args:
            name: The argument.
            unconditional: Whether it is encoded as diffusers encodes negative prompts.
            instead: What to pass if there is no text encoder, for the error.
        """

    @abstractmethod
    def embed(self, prompts: Sequence[Prompt | None], batch_size: int) -> list[Conditioning | None]:
        """Embed several prompt arguments, encoding every different text once.

        Args:
            prompts: `None` stays `None`.
            batch_size: The size to which each argument is expanded.

        Raises:
            ValueError: If text is given but there is no text encoder, or embeddings differ in length.
            FloatingPointError: If embeddings are NaN or infinite in the network's dtype.
            RuntimeError: If other code used the tokenizer at the same time.
        """

    @abstractmethod
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scaled latents, (batch, channels, height // cell, width // cell) in float32: the posterior's mode.

        Args:
            pixels: (batch, 3, height, width) in [0, 1].

        Raises:
            FloatingPointError: If the VAE gives NaN or infinite values.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode scaled latents to pixels, (batch, 3, height, width) in float32 in [0, 1].

        Args:
            latents: As `encode` returns them.

        Raises:
            FloatingPointError: If the VAE gives NaN or infinite values.
        """

    @abstractmethod
    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """The network's raw output, in float32.

        Args:
            latents: (batch, channels, height, width) in float32.
            timestep: Of all latents; may be a tensor without dimensions.
            given: A prompt for each.
        """

    @abstractmethod
    def tokens(self, text: str) -> PromptTokens:
        """A prompt's tokens and words, indexed as in its attention maps."""

    def tokens_read(self, prompt: Prompt, edits: int) -> list[PromptTokens]:
        """For each edit, the tokens of its text, where there are several that of the encoder whose words are found.

        Args:
            prompt: With texts, one for each edit or one for all.
            edits: The number of edits.
        """
        texts = [read[min(self.encoder_of_words, len(read) - 1)] for read in prompt.readings]
        return [self.tokens(text) for text in texts] * (edits // len(texts))

    @abstractmethod
    def attention_maps(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """How strongly each position attends to each token of a prompt: (batch, rows, columns, tokens) in float32.

        The tokens are those of `tokens`.

        Args:
            latents, timestep, given: As for `predict`.

        Raises:
            FloatingPointError: If the prediction is NaN or infinite.
        """

    def guide(
        self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: float | torch.Tensor
    ) -> torch.Tensor:
        """The guided prediction from an unconditional and a conditional one of the same shape.

        Args:
            unconditional, conditional: The predictions.
            scale: A number, or a tensor that broadcasts to their shape.
        """
        return classifier_free_guidance(unconditional, conditional, scale)

    def for_encoding(self) -> Denoiser:
        """The same denoiser for encoding pictures: without the guidance that is distilled into some models."""
        return self

    def guided(self, scale: float) -> tuple[Denoiser, float]:
        """A denoiser guided by a scale as far as that is distilled into the model, and the scale that is left for
        guidance away from unconditional prompts."""
        return self, scale

    def guided_side(self, prompts: PromptPair, scale: float) -> GuidedSide:
        """One of FlowEdit's velocities, guided by a scale in the model's own way; see `guided`."""
        model, left = self.guided(scale)
        return GuidedSide(model, prompts if left > 1 else PromptPair(prompts.conditional), left)

    def attention_layers(self) -> list[str]:
        """The module paths of the layers whose attention an edit may share with its source; none by default."""
        return []

    def why_not(self, encoding: str) -> str:
        """Why the model does not allow one of `ENCODINGS`, and what to pass, as the end of a sentence."""
        return (
            "is for rectified flows, such as Stable Diffusion 3 and FLUX; this model predicts noise. Use "
            + " or ".join(f'"{one}"' for one in self.encodings)
        )
