"""What one edit was asked for, checked as a whole before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from semantic_edit.editing.frames import Size
from semantic_edit.editing.mask_shapes import MaskInput, mask_to_tensor
from semantic_edit.editing.numbers import check_dense
from semantic_edit.editing.origins import origins_of
from semantic_edit.editing.schedule import Schedule, schedule_from_scheduler
from semantic_edit.editing.trajectory import Trajectory
from semantic_edit.pipelines.checks import (
    check_generator,
    check_model,
    levels_for,
)
from semantic_edit.pipelines.conditioning import (
    Prompt,
    check_token_counts,
    common_batch_size,
    encode_prompts,
    read_prompt,
)
from semantic_edit.pipelines.focusing import check_focus, focused_view
from semantic_edit.pipelines.identity import model_fingerprint
from semantic_edit.pipelines.pictures import PictureInput, Pictures, read_pictures
from semantic_edit.pipelines.settling import settled_view
from semantic_edit.pipelines.stages import EditEmbeds, MaskSettings, trajectory_from_image_latents
from semantic_edit.pipelines.views import View, check_made_of, read_size, read_view

TextAndEmbeds = tuple[str | list[str] | None, torch.Tensor | None]


@dataclass(frozen=True)
class EditPrompts:
    """The prompts of an edit, checked; `None` where they are not needed.

    inversion: What the picture is encoded with: DiffEdit's empty prompt.
    """

    target: Prompt
    source: Prompt | None
    target_negative: Prompt | None
    source_negative: Prompt | None
    inversion: Prompt | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each, by its argument's name."""
        given = (self.target, self.source, self.target_negative, self.source_negative)
        return {prompt.name: prompt.batch_size for prompt in given if prompt is not None}

    def described(self, edits: int) -> list[bool]:
        """For each edit, whether the source prompt says something and a negative prompt nothing."""
        negative, source = self.target_negative, self.source
        if source is None or negative is None or negative.texts != ("",):
            return [False] * edits
        texts = source.texts or ("embeddings",) * source.batch_size
        return [bool(text) for text in (texts if len(texts) == edits else texts * edits)]

    def encode(
        self, pipe: Any, edits: int, cross_attention_kwargs: dict[str, Any] | None, clip_skip: int | None
    ) -> EditEmbeds:
        """Embed all of them, each different text once."""
        given = (self.target, self.source, self.target_negative, self.source_negative, self.inversion)
        embeds = encode_prompts(pipe, given, edits, cross_attention_kwargs, clip_skip)
        named = zip(given[:4], embeds[:4], strict=True)
        check_token_counts(**{prompt.name: value for prompt, value in named if prompt is not None})
        return EditEmbeds(*embeds)  # type: ignore[arg-type]


def read_edit_prompts(
    pipe: Any,
    target: TextAndEmbeds,
    source: TextAndEmbeds | None,
    target_negative: TextAndEmbeds,
    source_negative: TextAndEmbeds,
    guided: bool,
    names: tuple[str, str, str] = ("prompt", "negative_prompt", "source_prompt"),
    inverts: bool = False,
) -> EditPrompts:
    """Check the prompts of an edit, or of its mask, and leave out those that change nothing.

    Args:
        source: `None` where no mask is to be found.
        source_negative: Without text and embeddings, the target's.
        guided: Whether there is guidance, without which negative prompts are not used.
        names: The names of the caller's arguments, for error messages.
        inverts: Whether the empty prompt is needed.
    """
    width = pipe.unet.config.cross_attention_dim
    width = width if isinstance(width, int) else None
    target_prompt = read_prompt(names[0], *target, width=width)
    negative = read_prompt(names[1], *target_negative, width=width, default="", unconditional=True)
    source_prompt = other = None
    if source is not None:
        source_prompt = read_prompt(names[2], *source, width=width, default="")
        if any(given is not None for given in source_negative):
            other = read_prompt("source_negative_prompt", *source_negative, width=width, unconditional=True)
    if not guided:
        negative_prompt, other = None, None
    else:
        negative_prompt = negative
    if other is not None and other.same_as(negative):
        other = None
    empty = None
    if inverts:
        instead = "a `trajectory` that `invert(image=..., prompt_embeds=...)` made with the empty prompt's embeddings"
        empty = Prompt("the inversion's empty prompt", ("",), unconditional=True, instead=instead)
    return EditPrompts(target_prompt, source_prompt, negative_prompt, other, empty)


@dataclass(frozen=True)
class EditRequest:
    """Everything that a call of [`DiffEditPipeline`] was asked for, apart from callbacks and output.

    edits: How many edits the batch holds; one picture may serve several.
    levels: How many levels of `schedule` are inverted and decoded.
    view: What the model works at of the pictures, as far as that is known before a mask is found.
    own_mask: (edits or 1, 1, any, any), or `None` to find one.
    trajectory: A given inversion, or `None`.
    size, focus: As they were given, where a closer view may yet be found, else `None` and `False`.
    """

    schedule: Schedule
    levels: int
    edits: int
    prompts: EditPrompts
    view: View
    trajectory: Trajectory | None
    own_mask: torch.Tensor | None
    size: Size | None = None
    focus: bool | None = False


def read_edit_request(
    pipe: Any,
    image: PictureInput | None,
    mask_image: MaskInput | None,
    image_latents: Any,
    trajectory: Trajectory | None,
    prompts: tuple[TextAndEmbeds, TextAndEmbeds, TextAndEmbeds, TextAndEmbeds],
    num_inference_steps: int,
    inpaint_strength: float,
    guidance_scale: float,
    generator: torch.Generator | list[torch.Generator] | None,
    settings: MaskSettings,
    mask_grow: int | None,
    mask_feather: float | None,
    preserve_background: bool,
    sides: tuple[Any, Any],
    focus: bool | None,
) -> EditRequest:
    """Check a call's arguments, and against each other.

    Args:
        prompts: Target, source and the two negatives.
        sides: `height` and `width`.

    Raises:
        ValueError, TypeError: If anything does not fit.
    """
    check_model(pipe)
    schedule = schedule_from_scheduler(pipe.scheduler, num_inference_steps)
    levels = levels_for(schedule, "inpaint_strength", inpaint_strength)
    own_mask = None if mask_image is None else mask_to_tensor(mask_image)
    if own_mask is None:
        levels_for(schedule, "mask_encode_strength", settings.mask_encode_strength)
    check_focus(focus)
    size = read_size(*sides, pipe.vae_scale_factor)
    view = View() if image is None else read_view(pipe, image, size)
    if preserve_background and not view.has_pixels:
        raise ValueError(
            "`preserve_background=True` needs the picture's pixels; pass them as `image`, beside a "
            "`trajectory` or `image_latents` too."
        )
    known = read_known_inversion(pipe, trajectory, image_latents, schedule, levels, inpaint_strength, view)
    view, focus = settled_view(view, known, own_mask, origins_of(mask_image), size, focus)
    target, source, target_negative, source_negative = prompts
    edit_prompts = read_edit_prompts(
        pipe,
        target,
        source if own_mask is None else None,
        target_negative,
        source_negative,
        guided=guidance_scale > 1,
        inverts=known is None,
    )
    counts = edit_prompts.counts
    if view.batch_size:
        counts["image"] = view.batch_size
    if known is not None:
        counts["trajectory" if image_latents is None else "image_latents"] = known.batch_size
    if own_mask is not None:
        counts["mask_image"] = own_mask.shape[0]
    edits = common_batch_size(**counts)
    check_generator(generator, edits)
    if own_mask is not None and focus is not False:
        margin = max(0, mask_grow or 0) + 3 * (mask_feather or 0.0)
        view, focus = focused_view(pipe, view, own_mask, focus, size, margin), False
    return EditRequest(schedule, levels, edits, edit_prompts, view, known, own_mask, size, focus)


def read_edit_pictures(pipe: Any, image: PictureInput | None) -> Pictures:
    """Read the pictures as this pipeline's VAE can take them."""
    if image is None:
        raise ValueError("`image` is missing; pass the picture that is to be edited.")
    return read_pictures(image, pipe.vae_scale_factor, pipe.vae.config.latent_channels)


def read_known_inversion(
    pipe: Any,
    trajectory: Trajectory | None,
    image_latents: Any,
    schedule: Schedule,
    levels: int,
    strength: float,
    view: View,
) -> Trajectory | None:
    """The inversion that a call was given in either form, or `None`, checked against the call."""
    if trajectory is not None and image_latents is not None:
        raise ValueError("Got both `trajectory` and `image_latents`; pass only one of the two.")
    if trajectory is None and image_latents is None:
        if not view.batch_size:
            raise ValueError("There is nothing to edit: pass an `image`, a `trajectory` or `image_latents`.")
        return None
    scaling_factor = pipe.vae.config.scaling_factor
    if trajectory is None:
        known = trajectory_from_image_latents(image_latents, schedule, levels, strength, scaling_factor)
    # not by class: a custom pipeline's Trajectory is another class each time that its file is loaded
    elif not hasattr(trajectory, "check_fits"):
        raise ValueError(
            f"`trajectory` must be a Trajectory, got {type(trajectory).__name__}; read a file with "
            "`Trajectory.load(path)`, and pass plain latents as `image_latents`."
        )
    else:
        known = trajectory
        check_dense("trajectory", known.latents)
    shape = [pipe.vae.config.latent_channels, *known.latents.shape[3:]]
    if view.originals.latents is not None:
        shape[1:] = list(view.originals.latents.shape[2:])
    elif frames := known.frames or view.frames:  # its own are what this call works at
        shape[1:] = [side // pipe.vae_scale_factor for side in reversed(frames[0].size)]
    known.check_fits(
        schedule,
        levels,
        latent_shape=shape,
        batch_size=view.batch_size
        if view.batch_size > 1
        else None,  # one picture may have many edits' frames
        model=model_fingerprint(pipe.unet),
        scaling_factor=scaling_factor,
    )
    if view.has_pixels:
        check_made_of("trajectory", known.frames, view)
    return known
