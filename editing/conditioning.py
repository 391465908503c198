"""What a network is told besides latents and a time: named tensors that stay together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Conditioning:
    """One or more prompts as a model family embeds them.

    tensors: By name, batch first, all with the same number of rows. Every family has "prompt_embeds", (batch, tokens,
        width); what else there is only the family's denoiser knows.
    """

    tensors: Mapping[str, torch.Tensor]

    def __post_init__(self) -> None:
        counts = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"The tensors of a conditioning must have one number of rows, got {counts}.")

    def __len__(self) -> int:
        """How many prompts there are."""
        return len(self.prompt_embeds)

    @property
    def prompt_embeds(self) -> torch.Tensor:
        """(batch, tokens, width)."""
        return self.tensors["prompt_embeds"]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.prompt_embeds.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the embeddings."""
        return self.prompt_embeds.dtype

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
        """The same function applied to every tensor."""
        return Conditioning({name: function(tensor) for name, tensor in self.tensors.items()})

    def rows(self, index: slice | torch.Tensor) -> Conditioning:
        """Some of the prompts, as indexing takes them."""
        return self.map(lambda tensor: tensor[index])

    def expand(self, batch: int) -> Conditioning:
        """One prompt for all of a batch; a batch of that size stays as it is."""
        return self.map(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    def repeat(self, copies: int) -> Conditioning:
        """Each prompt several times, copies side by side."""
        return self.map(lambda tensor: tensor.repeat_interleave(copies, dim=0))

    def to(self, where: torch.device | torch.dtype) -> Conditioning:
        """On another device, or in another floating-point type."""
        return self.map(lambda tensor: tensor.to(where))

    def equals(self, other: Conditioning) -> bool:
        """Whether the other one holds the same numbers."""
        return self.tensors.keys() == other.tensors.keys() and all(
            one is other.tensors[name] or torch.equal(one, other.tensors[name])
            for name, one in self.tensors.items()
        )

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """The prompts of all parts, one after the other."""
        return Conditioning(
            {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
        )

    @staticmethod
    def where(rows: torch.Tensor, first: Conditioning, second: Conditioning) -> Conditioning:
        """The first one's prompts where `rows`, (batch,) booleans, are true, else the second one's."""

        def chosen(name: str) -> torch.Tensor:
            one, other = first.tensors[name], second.tensors[name]
            return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other)

        return Conditioning({name: chosen(name) for name in first.tensors})
