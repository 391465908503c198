"""What a model family is to an edit. Everything above this room knows denoisers, and no family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from semantic_edit.attention_processors.tokens import PromptTokens
from semantic_edit.denoisers.prompts import Prompt, PromptInput
from semantic_edit.disk.models import Family
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.frames import Size
from semantic_edit.editing.guidance import classifier_free_guidance
from semantic_edit.editing.schedule import Schedule


class Denoiser(ABC):
    """One loaded model for one call: the only thing that evaluates its networks.

    cell: Pixels along a latent's side.
    multiple: What both sides of a picture must divide by, in pixels.
    own_size: Width and height in pixels that the model was made for.
    latent_channels: How many channels its latents have.
    scaling_factor: What its VAE's latents are multiplied by.
    usual_guidance: The guidance scale that suits its prompts.
    """

    family: ClassVar[Family]

    cell: int
    multiple: int
    own_size: Size
    latent_channels: int
    scaling_factor: float
    usual_guidance: float

    @abstractmethod
    def check(self) -> None:
        """Refuse a model that this family's edits cannot work with.

        Raises:
            ValueError: Saying why, and what to use instead.
        """

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model computes."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells the denoising network from others, whatever adapters it has; "" where nothing can."""

    @abstractmethod
    def identity(self) -> str:
        """`fingerprint`, and the adapters that act on it in this call; see `network_identity`."""

    @abstractmethod
    def schedule(self, num_inference_steps: int) -> Schedule:
        """The levels of so many steps, from the scheduler, which is only read.

        Raises:
            ValueError: If the scheduler cannot be inverted, or the number of steps is out of range.
        """

    @abstractmethod
    def read_prompt(self, given: PromptInput, required: bool = True, unconditional: bool = False) -> Prompt:
        """Check one prompt argument and its twins.

        Args:
            required: Whether giving nothing is an error; else it is the empty or the absent prompt.
            unconditional: Whether it is encoded as diffusers encodes negative prompts.

        Raises:
            ValueError: If arguments exclude each other or are missing, text holds what is no character, or embeddings
                have another shape, type or width.
            TypeError: If text is neither a string nor a list of strings.
        """

    @abstractmethod
    def absent_prompt(self, name: str, unconditional: bool = False, instead: str = "") -> Prompt:
        """The prompt that says nothing, under an argument's name."""

    @abstractmethod
    def embed(self, prompts: Sequence[Prompt | None], batch_size: int) -> list[Conditioning | None]:
        """Several prompt arguments, every different text encoded once.

        Args:
            prompts: `None` stays `None`.
            batch_size: What each argument is expanded to.

        Raises:
            ValueError: If text is given but there is no text encoder, or lengths differ from given ones.
            FloatingPointError: If embeddings are NaN or infinite in the network's type.
            RuntimeError: If somebody else used the tokenizer at the same time.
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
        """Pixels in float32 in [0, 1] of scaled latents; the other way round than `encode`, and as its errors."""

    @abstractmethod
    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """The network's raw output, in float32.

        Args:
            latents: (batch, channels, height, width) in float32.
            timestep: What the network is told of their noise; also a tensor of no dimensions.
            given: A prompt for each.
        """

    @abstractmethod
    def tokens(self, text: str) -> PromptTokens:
        """A prompt's tokens and words, as the attention to it counts them."""

    @abstractmethod
    def attention_to(
        self, words: Sequence[int], latents: torch.Tensor, timestep: float, given: Conditioning
    ) -> torch.Tensor:
        """How much some tokens of a prompt are looked at from each place, the mean of all latents: (rows, columns).

        Args:
            words: Indices of the tokens.
            latents, timestep, given: As for `predict`.

        Raises:
            FloatingPointError: If the prediction is NaN or infinite.
        """

    def guide(
        self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: float | torch.Tensor
    ) -> torch.Tensor:
        """The guided prediction, of two in one shape."""
        return classifier_free_guidance(unconditional, conditional, scale)
