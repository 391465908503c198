"""Prompt-to-Prompt on transformers: decode an edit beside its source, whose attention it shares for a while."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import AttentionMaps
from semantic_edit.attention_processors.joint import captured_text_columns, shared_projections
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.denoisers.transformer import TransformerDenoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import Guidance, PromptPair
from semantic_edit.editing.inversion import StepHooks, Walk, decode_latents
from semantic_edit.editing.local_blend import BLEND_FROM, blend_into_source, word_regions
from semantic_edit.pipelines.locating import Located
from semantic_edit.pipelines.options import Sharing
from semantic_edit.pipelines.stages import with_bar


@dataclass(frozen=True, eq=False)
class _BesideItsSource:
    """A denoiser of batches whose second half shares the first half's attention at noisy timesteps; with guidance,
    such a batch comes twice, the unconditional one first.

    last: The lowest timestep at which attention is shared.
    rows: The number of edits, and of sources.
    """

    denoiser: TransformerDenoiser
    borrowed: BorrowedNetwork
    sharing: Sharing
    last: float
    rows: int

    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        """See [`Predictor.predict`]."""
        predictor = self.denoiser.through(self.borrowed)
        if timestep < self.last:
            return predictor.predict(latents, timestep, given)
        both = 2 * self.rows
        source_of = {
            first + self.rows + row: first + row
            for first in range(0, len(latents), both)
            for row in range(self.rows)
        }
        image = self.denoiser.layout(latents, given).image
        with shared_projections(self.borrowed, image, source_of, self.sharing.layers):
            return predictor.predict(latents, timestep, given)

    def guide(
        self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: float | torch.Tensor
    ) -> torch.Tensor:
        """See [`Predictor.guide`]."""
        return self.denoiser.guide(unconditional, conditional, scale)


@dataclass(frozen=True, eq=False)
class _Blend:
    """LocalBlend: after a step the edits stay with their sources outside of the regions of their words.

    maps: The attention of the conditional rows so far, the sources' and then the edits'.
    words: For each of these rows the tokens of its words.
    side: Rows and columns of the tokens of the picture.
    first: The step after which it begins.
    """

    maps: AttentionMaps
    words: Sequence[Sequence[int]]
    side: tuple[int, int]
    threshold: float
    first: int

    def around(self, hooks: StepHooks) -> StepHooks:
        """The same hooks, which get blended latents."""

        def blended(step: int, timestep: float, tensors: dict[str, Any]) -> dict[str, Any]:
            latents = tensors["latents"]
            if step >= self.first:
                size = (latents.shape[-2], latents.shape[-1])
                maps = self.maps.mean().unflatten(1, self.side)
                source, edited = latents.chunk(2)
                inside = torch.maximum(*word_regions(maps, self.words, size, self.threshold).chunk(2))
                latents = torch.cat([source, blend_into_source(edited, source, inside)])
            changed = (
                {} if hooks.after is None else hooks.after(step, timestep, {**tensors, "latents": latents})
            )
            return {"latents": latents, **changed}

        return StepHooks(blended, hooks.should_stop)


def decode_beside_source(
    here: Located, walk: Walk, prompts: PromptPair, guidance: Guidance, hooks: StepHooks
) -> torch.Tensor:
    """Decode every edit beside a row under its source prompt, which stays on the inversion at every step.

    Args:
        here: What is edited, and where.
        walk: Latents (levels + 1, edits or 1, channels, height, width), and the masks.
        prompts: One for each edit.
        guidance: A scale and a stop for each row of the result.
        hooks: Called around the steps; the tensors that they get hold the sources' rows before the edits'.

    Returns:
        (edits * copies, channels, height, width).

    Source: Prompt-to-Prompt, arXiv:2208.01626; the source's row is kept as in Direct Inversion, arXiv:2310.01506.
    """
    session, request, sharing = here.session, here.request, here.request.options.sharing
    denoiser, schedule, copies = session.denoiser, session.schedule, request.options.num_images_per_prompt
    assert isinstance(denoiser, TransformerDenoiser)  # others' calls have no argument that leads here
    assert here.embeds.source is not None
    rows = request.edits * copies
    latents = (
        walk.latents.to(denoiser.device)
        .expand(-1, request.edits, -1, -1, -1)
        .repeat_interleave(copies, dim=1)
    )
    mask = here.mask.weights.repeat_interleave(copies, dim=0)
    beside = Walk(torch.cat([latents, latents], dim=1), torch.cat([torch.zeros_like(mask), mask]))
    both, away = Conditioning.cat([here.embeds.source, prompts.conditional]), prompts.unconditional
    told = PromptPair(both, None if away is None else Conditioning.cat([away, away])).repeat(copies)
    twice = replace(guidance, scale=[*guidance.scale] * 2, stops=[*(guidance.stops or [])] * 2)  # type: ignore[misc]
    sharing_steps = math.ceil(sharing.until * request.levels - 1e-9)  # their product may miss a whole number
    last = schedule.timestep(request.levels - sharing_steps + 1) if sharing_steps else float("inf")
    with (
        lock_of(denoiser.transformer),
        BorrowedNetwork(denoiser.transformer) as transformer,
        _blending(here, transformer, beside, told, hooks) as hooks,
        session.bar("decode", request.levels) as progress_bar,
    ):
        predictor = _BesideItsSource(denoiser, transformer, sharing, last, rows)
        return decode_latents(predictor, schedule, beside, told, twice, with_bar(hooks, progress_bar))[rows:]


@contextmanager
def _blending(
    here: Located, borrowed: BorrowedNetwork, beside: Walk, told: PromptPair, hooks: StepHooks
) -> Iterator[StepHooks]:
    """The hooks of a decoding beside its source, which also blend if words were named."""
    request, sharing, denoiser = here.request, here.request.options.sharing, here.session.denoiser
    assert isinstance(denoiser, TransformerDenoiser)
    if not sharing.words:
        yield hooks
        return
    latents, copies = beside.latents[0], request.options.num_images_per_prompt
    words = [tokens for side in zip(*request.blended, strict=True) for tokens in side for _ in range(copies)]
    layout = denoiser.layout(latents, told.conditional)
    height, width = (side // denoiser.patch for side in latents.shape[-2:])
    first = int(BLEND_FROM * request.levels)
    # those of the source and the edit under their prompts: the last rows, with guidance and without
    with captured_text_columns(borrowed, layout, slice(-len(words), None)) as maps:
        yield _Blend(maps, words, (height, width), sharing.threshold, first).around(hooks)
