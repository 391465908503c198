"""What conditions a network besides latents and a timestep: named tensors that stay together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Conditioning:
    """One or more prompts as a model family embeds them.

    tensors: By name, batch first, all with the same number of rows. Every family has "prompt_embeds", (batch, tokens,
        width); the meaning of any others is known only to the family's denoiser.
    """

    tensors: Mapping[str, torch.Tensor]

    def __post_init__(self) -> None:
        counts = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"The tensors of a conditioning must have one number of rows, got {counts}.")

    def __len__(self) -> int:
        """The number of prompts."""
        return len(self.prompt_embeds)

    @property
    def prompt_embeds(self) -> torch.Tensor:
        """(batch, tokens, width)."""
        return self.tensors["prompt_embeds"]

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.prompt_embeds.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the embeddings."""
        return self.prompt_embeds.dtype

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
        """Apply a function to every tensor."""
        return Conditioning({name: function(tensor) for name, tensor in self.tensors.items()})

    def rows(self, index: slice | torch.Tensor) -> Conditioning:
        """Some of the prompts, selected by an index along the batch."""
        return self.map(lambda tensor: tensor[index])

    def expand(self, batch: int) -> Conditioning:
        """Repeat a single prompt for a whole batch; a batch of that size stays as it is."""
        return self.map(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    def repeat(self, copies: int) -> Conditioning:
        """Repeat each prompt several times; copies are adjacent."""
        return self.map(lambda tensor: tensor.repeat_interleave(copies, dim=0))

    def to(self, where: torch.device | torch.dtype) -> Conditioning:
        """Move to another device, or convert to another floating-point dtype."""
        return self.map(lambda tensor: tensor.to(where))

    def equals(self, other: Conditioning) -> bool:
        """Whether another conditioning holds the same numbers."""
        return self.tensors.keys() == other.tensors.keys() and all(
            one is other.tensors[name] or torch.equal(one, other.tensors[name])
            for name, one in self.tensors.items()
        )

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Concatenate the prompts of all parts."""
        return Conditioning(
            {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
        )

    @staticmethod
    def where(rows: torch.Tensor, first: Conditioning, second: Conditioning) -> Conditioning:
        """Take the first one's prompts where `rows`, (batch,) booleans, is true, and the second one's elsewhere."""

        def chosen(name: str) -> torch.Tensor:
            one, other = first.tensors[name], second.tensors[name]
            return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other)

        return Conditioning({name: chosen(name) for name in first.tensors})
