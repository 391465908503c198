"""Finding what may be small: where in a picture the words lie by which two prompts differ, before a mask is found."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.layers import nearest_queries
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import changed_tokens, tokenize_prompt
from semantic_edit.pipelines.focusing import CLOSER, closer_view, mask_region
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.stages import EditEmbeds, encode_pictures, noise_predictor
from semantic_edit.pipelines.views import View, own_size

LOOKS = 3
"""How often a view may come closer: each time shows better where to look."""

LITTLE_NOISE = 0.1
"""Noise at which a small thing is still to be seen, a fraction of the steps; at a mask's 0.5 it is gone."""

NOISES = 2

PEAK = 0.2
"""The part of a map's maximum from which it shows where to look."""

AROUND_PEAKS = 3.5
"""How many times longer than what such a map shows the surroundings are: it shows less than all of a thing."""

ChangedTokens = tuple[tuple[int, ...], tuple[int, ...]]


def searched_view(
    pipe: Any, request: EditRequest, embeds: EditEmbeds, cross_attention_kwargs: dict[str, Any] | None
) -> View:
    """The view that a call works at: closer than the whole pictures where what is to change is a small part of them.

    It is asked, with little noise, where the two predictions differ and where the words are looked at that only one of
    the prompts has: four evaluations for each edit and look. Pictures of about the model's own area are not searched.
    """
    view, focus = request.view, request.focus
    if request.own_mask is not None or focus is False:
        return view
    least = math.sqrt(math.prod(own_size(pipe)))
    if focus is None and any(least > CLOSER * math.sqrt(math.prod(frame.picture)) for frame in view.frames):
        return view
    words = [_changed_tokens(pipe, request, edit) for edit in range(request.edits)]
    for look in range(LOOKS):
        clean = encode_pictures(pipe, view.pictures, embeds.target.device).expand(request.edits, -1, -1, -1)  # type: ignore[arg-type]
        regions = []
        for edit in range(request.edits):
            source, target = (side[edit : edit + 1] for side in (embeds.source, embeds.target))  # type: ignore[index]
            seen = _whereabouts(
                pipe, request, clean[edit : edit + 1], torch.cat([source, target]), words[edit], cross_attention_kwargs
            )
            regions.append(mask_region((seen > PEAK * seen.max()).float(), view.frame(edit).box))
        asked = focus if look == 0 else None
        closer = closer_view(pipe, view, regions, asked, request.size, AROUND_PEAKS)
        if closer is view or closer.frames == view.frames:
            break
        view = closer
    return view


def _changed_tokens(pipe: Any, request: EditRequest, edit: int) -> ChangedTokens:
    """Of the source's prompt and the target's; none are known of embeddings."""
    texts = []
    for prompt in (request.prompts.source, request.prompts.target):
        if prompt is None or prompt.texts is None:
            return (), ()
        text = prompt.texts[edit if len(prompt.texts) > 1 else 0]
        texts.append(tokenize_prompt(pipe.tokenizer, pipe.maybe_convert_prompt(text, pipe.tokenizer)))
    return changed_tokens(*texts)


def _whereabouts(
    pipe: Any,
    request: EditRequest,
    clean: torch.Tensor,
    embeds: torch.Tensor,
    words: ChangedTokens,
    cross_attention_kwargs: dict[str, Any] | None,
) -> torch.Tensor:
    """Where what changes may be, (height, width), not negative.

    Args:
        clean: Latents, (1, channels, height, width).
        embeds: The source's and the target's, (2, tokens, width).
        words: Of each of the two, the tokens that the other has not.
    """
    height, width = clean.shape[-2:]
    positions = nearest_queries(pipe.unet, height, width)
    level = max(1, request.schedule.levels(LITTLE_NOISE))
    # noise of its own: the mask's is the same, whether the view was searched or not
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((NOISES, *clean.shape[1:]), generator=generator).to(clean.device)
    noised = request.schedule.add_noise(clean.expand(NOISES, -1, -1, -1), noise, level)
    with (
        lock_of(pipe.unet),
        BorrowedNetwork(pipe.unet) as unet,
        captured_cross_attention(unet, math.prod(positions)) as maps,
    ):
        predict_noise = noise_predictor(pipe, cross_attention_kwargs, unet)
        sides = embeds.repeat_interleave(NOISES, dim=0)
        source, target = predict_noise(noised.repeat(2, 1, 1, 1), request.schedule.timestep(level), sides).chunk(2)
    difference = (target - source).abs().mean((0, 1))
    side = 0 if words[0] else 1
    if not words[side]:
        return difference
    attention = maps.mean().unflatten(0, (2, NOISES))[side].mean(0)[:, list(words[side])].mean(-1)
    looked_at = F.interpolate(attention.view(1, 1, *positions), size=(height, width), mode="bilinear")
    return difference * looked_at[0, 0].to(difference)
