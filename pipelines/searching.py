"""Finding what may be small: where in a picture the words lie by which two prompts differ, before a mask is found."""

from __future__ import annotations

import math
from typing import Any

import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.layers import nearest_queries
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.tokens import changed_tokens, tokenize_prompt
from semantic_edit.editing.finite import check_finite
from semantic_edit.editing.mask_shapes import grow_mask
from semantic_edit.pipelines.focusing import CLOSER, closer_view, mask_region, unless_large
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.stages import EditEmbeds, encode_pictures, noise_predictor
from semantic_edit.pipelines.views import View, own_size

LOOKS = 3
"""How often a view may come closer: each time shows better where to look."""

LITTLE_NOISE = 0.05
"""Noise at which a small thing is still to be seen, a fraction of the steps; at a mask's 0.5 it is gone."""

NOISES = 2

PEAK, FOOT = 0.4, 0.15
"""Parts of a map's maximum: what reaches the first shows where to look, as far around it as the second reaches."""

AROUND_PEAKS = 3.5
"""How many times longer than what such a map shows the surroundings are: it shows less than all of a thing."""


def searched_view(
    pipe: Any, request: EditRequest, embeds: EditEmbeds, cross_attention_kwargs: dict[str, Any] | None
) -> tuple[View, torch.Tensor | None]:
    """The view that a call works at: closer than the whole pictures where what is to change is a small part of them.

    The words by which the prompts differ tell: where they are looked at in the picture with little noise, two
    evaluations for each edit and look. Pictures of about the model's own area are not searched, nor without such words.

    Returns:
        The view, and its pictures' latents, (pictures, channels, height, width), if they were looked at.
    """
    view, focus = request.view, request.focus
    if request.own_mask is not None or focus is False:
        return view, None
    least = math.sqrt(math.prod(own_size(pipe)))
    if focus is None and any(least > CLOSER * math.sqrt(math.prod(frame.picture)) for frame in view.frames):
        return view, None
    told = [_telling_words(pipe, request, embeds, edit) for edit in range(request.edits)]
    if not all(words for _, words in told):
        if focus:
            raise ValueError(
                "`focus=True` finds the part to work at by the words that only one of the two prompts has, and here "
                "there are none. Pass both prompts as text, or a `mask_image`."
            )
        return view, None
    looked_at: dict[View, torch.Tensor] = {}
    for look in range(LOOKS):
        looked_at[view] = encode_pictures(pipe, view.pictures, embeds.target.device)
        clean = looked_at[view].expand(request.edits, -1, -1, -1)
        regions = []
        for edit, (side, words) in enumerate(told):
            map_of_words = _looked_at(
                pipe, request, clean[edit : edit + 1], side, words, cross_attention_kwargs
            )
            regions.append(mask_region(_peaks(map_of_words), view.frame(edit).box))
        asked = focus if look == 0 else None
        closer = closer_view(pipe, view, regions, asked, request.size, AROUND_PEAKS)
        if closer.frames == view.frames:
            break
        view = closer
    if focus and all(frame.is_whole for frame in view.frames):
        raise ValueError(
            "`focus=True` found no part of the picture where the words lie by which the prompts differ. Draw a "
            "`mask_image` around what is to change, or leave out `focus`."
        )
    view = unless_large(view, request.view, focus)
    return view, looked_at.get(view)


def _telling_words(
    pipe: Any, request: EditRequest, embeds: EditEmbeds, edit: int
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """A prompt's embeddings, (1, tokens, width), and its tokens that the other prompt has not.

    The source's, or the target's if it only adds words; none are known of prompts that are embeddings.
    """
    sides = ((request.prompts.source, embeds.source), (request.prompts.target, embeds.target))
    texts = []
    for prompt, _ in sides:
        if prompt is None or prompt.texts is None:
            return embeds.target, ()
        text = prompt.texts[edit if len(prompt.texts) > 1 else 0]
        texts.append(tokenize_prompt(pipe.tokenizer, pipe.maybe_convert_prompt(text, pipe.tokenizer)))
    changed = changed_tokens(*texts)
    side = 0 if changed[0] else 1
    return sides[side][1][edit : edit + 1], changed[side]  # type: ignore[index]


def _looked_at(
    pipe: Any,
    request: EditRequest,
    clean: torch.Tensor,
    embeds: torch.Tensor,
    words: tuple[int, ...],
    cross_attention_kwargs: dict[str, Any] | None,
) -> torch.Tensor:
    """How much some words are looked at from each place, (rows, columns).

    Args:
        clean: Latents, (1, channels, height, width).
        embeds: (1, tokens, width).
        words: Tokens.
    """
    side = nearest_queries(pipe.unet, *clean.shape[-2:])
    level = max(1, request.schedule.levels(LITTLE_NOISE))
    # noise of its own: the mask's is the same, whether the picture was searched or not
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((NOISES, *clean.shape[1:]), generator=generator).to(clean.device)
    with (
        lock_of(pipe.unet),
        BorrowedNetwork(pipe.unet) as unet,
        captured_cross_attention(unet, math.prod(side)) as maps,
    ):
        predict_noise = noise_predictor(pipe, cross_attention_kwargs, unet)
        noised = request.schedule.add_noise(clean.expand(NOISES, -1, -1, -1), noise, level)
        timestep = request.schedule.timestep(level)
        predicted = predict_noise(noised, timestep, embeds.expand(NOISES, -1, -1))
    check_finite(f"the search's predictions (timestep {timestep})", predicted)
    return maps.mean().mean(0)[:, list(words)].mean(-1).unflatten(0, side)


def _peaks(values: torch.Tensor) -> torch.Tensor:
    """Where the peaks of a map, (rows, columns), stand, down to their feet: 1.0 there, else 0.0."""
    most = values.max()
    feet = (values > FOOT * most).float()[None, None]
    reached = (values >= PEAK * most).float()[None, None]
    while not torch.equal(wider := grow_mask(reached, 1) * feet, reached):
        reached = wider
    return reached[0, 0]
