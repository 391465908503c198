"""What one call of DiffEdit asks for, checked as a whole before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.denoisers.denoiser import FLOW_EDIT, INVERSION, Denoiser
from semantic_edit.denoisers.identity import check_same_adapters
from semantic_edit.denoisers.prompts import Prompt, PromptInput, check_token_counts
from semantic_edit.editing.frames import Size
from semantic_edit.editing.mask_shapes import mask_to_tensor
from semantic_edit.editing.numbers import check_dense
from semantic_edit.editing.origins import origins_of
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.checks import check_generator, common_batch_size, levels_for
from semantic_edit.pipelines.focusing import focused_view
from semantic_edit.pipelines.options import EditOptions
from semantic_edit.pipelines.settling import settled_view
from semantic_edit.pipelines.stages import EditEmbeds
from semantic_edit.pipelines.upstream import trajectory_from_image_latents
from semantic_edit.pipelines.views import View, check_made_of, read_size, read_view
from semantic_edit.pipelines.words import blended_tokens


@dataclass(frozen=True)
class EditPrompts:
    """The prompts of an edit, checked; `None` for those that are not needed.

    inversion: The prompt under which the picture is encoded: DiffEdit's empty prompt.
    """

    target: Prompt
    source: Prompt | None = None
    target_negative: Prompt | None = None
    source_negative: Prompt | None = None
    inversion: Prompt | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of prompts of each kind, by the argument's name."""
        given = (self.target, self.source, self.target_negative, self.source_negative)
        return {prompt.name: prompt.batch_size for prompt in given if prompt is not None}

    def described(self, edits: int) -> list[bool]:
        """For each edit, whether its source prompt is not empty while its negative prompt is."""
        negative, source = self.target_negative, self.source
        if source is None or negative is None or not negative.is_empty:
            return [False] * edits
        texts = source.texts or ("embeddings",) * source.batch_size
        return [bool(text) for text in (texts if len(texts) == edits else texts * edits)]

    def embed(self, denoiser: Denoiser, edits: int) -> EditEmbeds:
        """Embed all prompts, each different text once.

        Args:
            denoiser: The model.
            edits: The number of edits.

        Raises:
            ValueError: If embeddings differ in their numbers of tokens.
        """
        given = (self.target, self.source, self.target_negative, self.source_negative, self.inversion)
        embeds = denoiser.embed(given, edits)
        named = zip(given[:4], embeds[:4], strict=True)
        check_token_counts(**{prompt.name: value for prompt, value in named if prompt is not None})
        return EditEmbeds(*embeds)  # type: ignore[arg-type]


@dataclass(frozen=True)
class PromptUses:
    """What a call's prompts are for, which decides which of them have an effect.

    guided: Whether there is guidance; otherwise negative prompts have no effect.
    contrasts: Whether a mask is to be found, which needs the source's prompts.
    inverts: Whether the empty prompt is needed.
    required: Whether the target's prompt is required.
    shares_negative: Whether the source uses the target's negative prompt if it has none of its own.
    """

    guided: bool
    contrasts: bool = True
    inverts: bool = False
    required: bool = True
    shares_negative: bool = True


def read_edit_prompts(denoiser: Denoiser, given: Mapping[str, PromptInput], uses: PromptUses) -> EditPrompts:
    """Check the prompts of an edit, or of its mask, and leave out those that have no effect.

    Args:
        denoiser: The model.
        given: As `read_prompt_inputs` returns them.
        uses: What they are for.

    Raises:
        ValueError, TypeError: Naming the prompt that is missing or cannot be used.
    """
    target = denoiser.read_prompt(given["target"], uses.required)
    negative = denoiser.read_prompt(given["target_negative"], required=False, unconditional=True)
    source = other = None
    if uses.contrasts:
        source = denoiser.read_prompt(given["source"], required=False)
        if given["source_negative"].is_given or not uses.shares_negative:
            other = denoiser.read_prompt(given["source_negative"], required=False, unconditional=True)
    if not uses.guided or (other is not None and other.same_as(negative)):
        other = None
    inversion = None
    if uses.inverts:
        instead = "a `trajectory` that `invert(image=..., prompt_embeds=...)` made with the empty prompt's embeddings"
        inversion = denoiser.absent_prompt(
            "the inversion's empty prompt", unconditional=True, instead=instead
        )
    return EditPrompts(target, source, negative if uses.guided else None, other, inversion)


@dataclass(frozen=True)
class EditRequest:
    """Everything that a call of a DiffEdit pipeline asks for, with the arguments checked against each other.

    edits: Number of edits in the batch; they may share one picture.
    schedule: Of the view.
    levels: Number of levels of `schedule` that are inverted and decoded.
    view: The area of the pictures that the model works on, as far as it is known before a mask is found.
    own_mask: (edits or 1, 1, any, any), or `None` to find one.
    blended: For each edit, the tokens of LocalBlend's words in the source prompt and in the prompt; () without words.
    trajectory: A given inversion, or `None`.
    size, focus: As given, if a closer view may still be found; otherwise `None` and `False`.
    """

    options: EditOptions
    schedule: Schedule
    levels: int
    edits: int
    prompts: EditPrompts
    view: View
    trajectory: Trajectory | None
    own_mask: torch.Tensor | None
    blended: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    size: Size | None = None
    focus: bool | None = False

    @property
    def preserves(self) -> bool:
        """Whether the pictures' own pixels are kept outside the masks."""
        return self.options.preset.preserve_background and self.view.has_pixels

    def seen(self, denoiser: Denoiser, view: View) -> EditRequest:
        """The same request for another view, whose size may shift the noise levels."""
        schedule = denoiser.schedule(self.options.preset.num_inference_steps, latent_size(denoiser, view))
        levels = levels_for(schedule, "inpaint_strength", self.options.inpaint_strength)
        return replace(self, view=view, schedule=schedule, levels=levels)


def read_edit_request(denoiser: Denoiser, options: EditOptions) -> EditRequest:
    """Check a call's arguments against each other and the model.

    Args:
        denoiser: The model.
        options: The arguments, each checked by itself.

    Raises:
        ValueError, TypeError: If any do not fit together, or do not fit the model.
    """
    own_mask = None if options.mask_image is None else mask_to_tensor(options.mask_image)
    size = read_size(*options.sides, denoiser.multiple)
    view = View() if options.image is None else read_view(denoiser, options.image, size)
    kept = (
        getattr(options.trajectory, "latents", None)
        if options.image_latents is None
        else options.image_latents
    )
    first_size = latent_size(denoiser, view, kept)
    schedule = denoiser.schedule(options.preset.num_inference_steps, first_size)
    levels = levels_for(schedule, "inpaint_strength", options.inpaint_strength)
    if own_mask is None:
        levels_for(schedule, "mask_encode_strength", options.mask.mask_encode_strength)
    if options.preserve_background and not view.has_pixels:
        raise ValueError(
            "`preserve_background=True` needs the picture's pixels; pass them as `image`, even with a "
            "`trajectory` or `image_latents`."
        )
    known = read_known_inversion(denoiser, options, schedule, levels, view)
    view, focus = settled_view(view, known, own_mask, origins_of(options.mask_image), size, options.focus)
    prompts = read_edit_prompts(
        denoiser,
        options.prompts,
        PromptUses(
            guided=options.usual_guidance > 1 or options.encoding == FLOW_EDIT,
            contrasts=own_mask is None or options.encoding == FLOW_EDIT or options.sharing.is_wanted,
            inverts=known is None and options.encoding == INVERSION,
        ),
    )
    counts = prompts.counts
    if view.batch_size:
        counts["image"] = view.batch_size
    if known is not None:
        counts["trajectory" if options.image_latents is None else "image_latents"] = known.batch_size
    if own_mask is not None:
        counts["mask_image"] = own_mask.shape[0]
    edits = common_batch_size(**counts)
    check_generator(options.generator, edits)
    if own_mask is not None and focus is not False:
        margin = max(0, options.mask_grow or 0) + 3 * (options.mask_feather or 0.0)
        view, focus = focused_view(denoiser, view, own_mask, focus, size, margin), False
    blended = read_blended_words(denoiser, options.sharing.words, prompts, edits)
    request = EditRequest(
        options, schedule, levels, edits, prompts, view, known, own_mask, blended, size, focus
    )
    is_resized = known is None and latent_size(denoiser, view) != first_size
    return request.seen(denoiser, view) if is_resized else request


def read_blended_words(
    denoiser: Denoiser, words: tuple[str, ...], prompts: EditPrompts, edits: int
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """For each edit, the tokens of LocalBlend's words in its source prompt and in its prompt; () without words.

    Raises:
        ValueError: If a word is in none of the prompts, an edit has none of them, or the prompts are embeddings.
    """
    if not words:
        return ()
    read = []
    for prompt in (prompts.source, prompts.target):
        if prompt is None or prompt.texts is None:
            raise ValueError("`local_blend` looks for words in the prompts; pass both prompts as text.")
        read += denoiser.tokens_read(prompt, edits)
    found = blended_tokens(read, words)
    pairs = tuple(zip(found[:edits], found[edits:], strict=True))
    if without := [edit for edit, pair in enumerate(pairs) if not any(pair)]:
        raise ValueError(
            f"`local_blend` has no word of the prompts of edit {without[0]}, which could change nowhere; add one of "
            "its words."
        )
    return pairs


def latent_size(denoiser: Denoiser, view: View, kept: Any = None) -> tuple[int, int] | None:
    """The (height, width) of the latents that a call works on, or `None` if the arguments do not tell.

    Args:
        denoiser: The model.
        view: The area of the pictures.
        kept: Latents of an inversion, which go before a view; unchecked.
    """
    if isinstance(kept, torch.Tensor) and kept.ndim >= 2:
        return tuple(kept.shape[-2:])  # type: ignore[return-value]
    if view.frames:
        width, height = view.frames[0].size
        return height // denoiser.cell, width // denoiser.cell
    held = view.originals.latents
    return None if held is None else tuple(held.shape[-2:])  # type: ignore[return-value]


def read_known_inversion(
    denoiser: Denoiser, options: EditOptions, schedule: Schedule, levels: int, view: View
) -> Trajectory | None:
    """The inversion that a call was given, in either form and checked against the call, or `None`.

    Raises:
        ValueError: If it does not fit the call, or there is neither an inversion nor a picture.
    """
    given: Any = options.trajectory
    if given is not None and options.image_latents is not None:
        raise ValueError("Got both `trajectory` and `image_latents`; pass only one of the two.")
    if given is None and options.image_latents is None:
        if not view.batch_size:
            raise ValueError("There is nothing to edit: pass an `image`, a `trajectory` or `image_latents`.")
        return None
    if given is None:
        strength = options.inpaint_strength
        given = trajectory_from_image_latents(
            options.image_latents, schedule, levels, strength, denoiser.scaling_factor
        )
    # not by class: each time a custom pipeline's file is loaded, its Trajectory is a new class
    elif not hasattr(given, "check_fits"):
        raise ValueError(
            f"`trajectory` must be a Trajectory, got {type(given).__name__}; read a file with "
            "`Trajectory.load(path)`, and pass plain latents as `image_latents`."
        )
    else:
        check_dense("trajectory", given.latents)
    _check_fits(denoiser, given, schedule, levels, view)
    return given


def _check_fits(denoiser: Denoiser, known: Trajectory, schedule: Schedule, levels: int, view: View) -> None:
    model = denoiser.known(*known.latents.shape[3:])
    shape = [denoiser.latent_channels, *known.latents.shape[3:]]
    if view.originals.latents is not None:
        shape[1:] = list(view.originals.latents.shape[2:])
    elif frames := known.frames or view.frames:  # a trajectory's own frames settle what this call works on
        shape[1:] = [side // denoiser.cell for side in reversed(frames[0].size)]
    known.check_fits(
        schedule,
        levels,
        model,
        latent_shape=shape,
        # one picture may have frames for many edits
        batch_size=view.batch_size if view.batch_size > 1 else None,
    )
    if view.has_pixels:
        check_made_of("trajectory", known.frames, view)
    check_same_adapters("trajectory", known.model_fingerprint, model.fingerprint)
