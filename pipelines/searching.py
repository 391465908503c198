"""Before a mask is found, search the picture for what may be small: the words by which two prompts differ."""

from __future__ import annotations

import math

import torch

from semantic_edit.attention_processors.tokens import changed_tokens
from semantic_edit.denoisers.denoiser import Denoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.mask_shapes import grow_mask
from semantic_edit.pipelines.focusing import CLOSER, closer_view, mask_region, unless_large
from semantic_edit.pipelines.request import EditRequest
from semantic_edit.pipelines.stages import EditEmbeds, Session, encode_images
from semantic_edit.pipelines.views import View

LOOKS = 3
"""How many times a view may zoom in: each time shows better where to look next."""

LITTLE_NOISE = 0.05
"""Noise level at which a small object is still visible, as a fraction of the steps; at a mask's 0.5 it is lost."""

LOOKS_OF_NOISE = 2

PEAK, FOOT = 0.4, 0.15
"""Fractions of a map's maximum: peaks reach the first, and the region around them extends as far as the second."""

AROUND_PEAKS = 3.5
"""How many times longer than such a map's region its surroundings are: the map shows only part of an object."""

Telling = tuple[Conditioning, tuple[int, ...]]
"""A prompt, and those of its tokens that the other prompt of the edit lacks."""


def searched_view(
    session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds
) -> tuple[View, torch.Tensor | None]:
    """The view that a call works on: closer than the whole pictures if what is to change is a small part of them.

    It is found by the words that differ between the prompts: where these are attended to in the picture with a little
    noise, at two evaluations for each edit and each look. With automatic focus, pictures of about the model's native
    area are not searched, nor are edits without such words.

    Returns:
        The view, and the latents of its pictures, (pictures, channels, height, width), if they were already encoded.

    Raises:
        ValueError: If `focus` is `True` and there is nothing to search for, or nothing was found.
    """
    view, focus = request.view, request.focus
    if request.own_mask is not None or focus is False:
        return view, None
    least = math.sqrt(math.prod(session.denoiser.own_size))
    if focus is None and any(least > CLOSER * math.sqrt(math.prod(frame.image)) for frame in view.frames):
        return view, None
    told = _telling_words(session, request, embeds)
    if not all(words for _, words in told):
        if focus:
            raise ValueError(
                "`focus=True` finds the part to work at by the words that only one of the two prompts has, and here "
                "there are none. Pass both prompts as text, or a `mask_image`."
            )
        return view, None
    looked_at: dict[View, torch.Tensor] = {}
    for look in range(LOOKS):
        looked_at[view] = encode_images(session.denoiser, view.images)
        clean = looked_at[view].expand(request.edits, -1, -1, -1)
        regions = []
        for edit, telling in enumerate(told):
            map_of_words = _looked_at(session, clean[edit : edit + 1], telling)
            regions.append(mask_region(_peaks(map_of_words), view.frame(edit).box))
        asked = focus if look == 0 else None
        closer = closer_view(session.denoiser, view, regions, asked, request.size, AROUND_PEAKS)
        if closer.frames == view.frames:
            break
        view = closer
    if focus and all(frame.is_whole for frame in view.frames):
        raise ValueError(
            "`focus=True` found no part of the picture that shows the words by which the prompts differ. Draw a "
            "`mask_image` around what is to change, or leave out `focus`."
        )
    view = unless_large(view, request.view, focus)
    return view, looked_at.get(view)


def _telling_words(session: Session[Denoiser], request: EditRequest, embeds: EditEmbeds) -> list[Telling]:
    """For each edit, the words that tell its prompts apart: the source's, or the target's if that only adds words.

    If a prompt is given as embeddings, its words are not known, and there are none.
    """
    texts = []
    for prompt in (request.prompts.source, request.prompts.target):
        if prompt is None or prompt.texts is None:
            return [(embeds.target, ())] * request.edits
        texts.append(session.denoiser.tokens_read(prompt, request.edits))
    told = []
    for edit, sides in enumerate(zip(*texts, strict=True)):
        changed = changed_tokens(*sides)
        given, words = (embeds.source, changed[0]) if changed[0] else (embeds.target, changed[1])
        told.append((given.rows(slice(edit, edit + 1)), words))  # type: ignore[union-attr]
    return told


def _looked_at(session: Session[Denoiser], clean: torch.Tensor, telling: Telling) -> torch.Tensor:
    """How strongly each position attends to some words, (rows, columns); `clean` is a batch of one."""
    given, words = telling
    level = max(1, session.schedule.levels(LITTLE_NOISE))
    # a separate generator, so that the mask's noise does not depend on whether the picture was searched
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((LOOKS_OF_NOISE, *clean.shape[1:]), generator=generator).to(clean.device)
    noised = session.schedule.add_noise(clean.expand(LOOKS_OF_NOISE, -1, -1, -1), noise, level)
    timestep = session.schedule.timestep(level)
    maps = session.denoiser.attention_maps(noised, timestep, given.expand(LOOKS_OF_NOISE))
    return maps[..., list(words)].mean(-1).mean(0)


def _peaks(values: torch.Tensor) -> torch.Tensor:
    """The regions around the peaks of a map, (rows, columns), down to their feet: 1.0 there, 0.0 elsewhere."""
    most = values.max()
    feet = (values > FOOT * most).float()[None, None]
    reached = (values >= PEAK * most).float()[None, None]
    while not torch.equal(wider := grow_mask(reached, 1) * feet, reached):
        reached = wider
    return reached[0, 0]
