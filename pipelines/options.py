"""The arguments of a call of a DiffEdit pipeline, each checked by itself, with the preset's settings filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from semantic_edit.denoisers.denoiser import ENCODINGS, FLOW_EDIT, Denoiser
from semantic_edit.denoisers.prompts import PromptInput
from semantic_edit.disk.reading import shortened
from semantic_edit.pipelines.checks import check_flags, check_one_of, check_optional_flags, check_output_type
from semantic_edit.pipelines.presets import Preset, preset_of
from semantic_edit.pipelines.ranges import read_numbers
from semantic_edit.pipelines.stages import MaskSettings
from semantic_edit.pipelines.upstream import check_decoding
from semantic_edit.pipelines.words import read_blended

OF_PRESETS = tuple(field.name for field in fields(Preset))


@dataclass(frozen=True)
class Sharing:
    """What an edit takes from its source, which is decoded beside it: attention, and what is outside of words' regions.

    until: The fraction of the decoded steps, from the noisy end, in which attention is shared (Prompt-to-Prompt's
        tau_s).
    layers: Module paths of the layers that share; `None` for all.
    words: Only where these are attended to may the edit differ; () is everywhere.
    threshold: The fraction of a word's highest attention from which a position belongs to its region.
    """

    until: float = 0.0
    layers: tuple[str, ...] | None = None
    words: tuple[str, ...] = ()
    threshold: float = 0.3

    @property
    def is_wanted(self) -> bool:
        """Whether the edit needs its source beside it."""
        return self.until > 0 or bool(self.words)


@dataclass(frozen=True, eq=False)
class EditOptions:
    """The arguments of one call, under the call's names and in its units.

    prompts: By their role; see `read_prompt_inputs`.
    preset: With the call's own settings in place of the preset's.
    usual_guidance: The guidance scale, unless the preset chooses it by the kind of edit.
    mask: How a mask is found.
    encoding: How the picture is encoded, one of the denoiser's `encodings`.
    sides: `height` and `width`.
    """

    image: Any
    mask_image: Any
    trajectory: Any
    prompts: Mapping[str, PromptInput]
    preset: Preset
    usual_guidance: float
    mask: MaskSettings
    inpaint_strength: float
    num_images_per_prompt: int
    guidance_rescale: float
    generator: Any
    mask_grow: int | None
    mask_feather: float | None
    preserve_background: bool | None
    sides: tuple[Any, Any]
    focus: bool | None
    output_type: str
    encoding: str
    image_latents: Any = None
    sharing: Sharing = Sharing()

    @property
    def is_shaped(self) -> bool:
        """Whether the caller shapes the mask."""
        return self.mask_grow is not None or self.mask_feather is not None


def read_edit_options(denoiser: Denoiser, arguments: Mapping[str, Any]) -> EditOptions:
    """Check the arguments of a call of a DiffEdit pipeline, each by itself.

    Args:
        denoiser: The model.
        arguments: Of the call, by name.

    Raises:
        ValueError, TypeError: Naming the first that cannot be used.
    """
    given = read_numbers(arguments, optional=(*OF_PRESETS, "height", "width"))
    encoding = read_encoding(denoiser, given)
    check_output_type(given["output_type"])
    check_flags(return_dict=given["return_dict"])
    check_optional_flags(**{name: given[name] for name in ("mask_refine", "preserve_background", "focus")})
    check_decoding(given.get("eta", 0.0), given.get("latents"))
    check_flow_edit(encoding, given)
    preset = preset_of(given["preset"], **{name: given[name] for name in OF_PRESETS if name in given})
    taken = {field.name: given[field.name] for field in fields(EditOptions) if field.name in given}
    return EditOptions(
        **{
            **taken,
            "prompts": read_prompt_inputs(given, "prompt", "source_prompt", "negative_prompt"),
            "preset": preset,
            "usual_guidance": denoiser.usual_guidance
            if preset.guidance_scale is None
            else preset.guidance_scale,
            "mask": read_mask_settings(given, preset),
            "encoding": encoding,
            "sharing": read_sharing(denoiser, given, encoding),
            "sides": (given["height"], given["width"]),
        }
    )


def read_encoding(denoiser: Denoiser, given: Mapping[str, Any]) -> str:
    """How a call encodes its pictures.

    Args:
        denoiser: The model.
        given: The call's arguments.

    Raises:
        ValueError: If there is no such encoding, the model does not allow it, or a given inversion takes its place.
    """
    encoding = given.get("encoding")
    if encoding is None:
        return denoiser.encodings[0]
    check_one_of("encoding", encoding, ENCODINGS)
    if encoding not in denoiser.encodings:
        raise ValueError(f"`encoding={encoding!r}` {denoiser.why_not(encoding)}.")
    if given["trajectory"] is not None or given.get("image_latents") is not None:
        raise ValueError(
            f"`encoding={encoding!r}` does not go with a `trajectory` or `image_latents`, which have encoded the "
            "picture already; pass one of the two."
        )
    return encoding


def check_flow_edit(encoding: str, given: Mapping[str, Any]) -> None:
    """Raise a ValueError if FlowEdit is given settings of guidance that it does not have.

    Args:
        encoding: How the call encodes its pictures.
        given: The call's arguments.
    """
    without_effect = {"guidance_stop": (None, 1.0), "guidance_rescale": (0.0,)}
    named = [name for name, values in without_effect.items() if given[name] not in values]
    if encoding == FLOW_EDIT and named:
        raise ValueError(
            f'`{named[0]}` does not go with `encoding="{FLOW_EDIT}"`, which guides both prompts alike at every step; '
            "leave it out, or choose another encoding."
        )


def read_sharing(denoiser: Denoiser, given: Mapping[str, Any], encoding: str) -> Sharing:
    """What a call's edits take from their sources; in families without the arguments, nothing.

    Args:
        denoiser: The model.
        given: The call's arguments.
        encoding: How the pictures are encoded.

    Raises:
        ValueError, TypeError: If a layer is no attention layer of the transformer, `local_blend` holds no words, or the
            encoding has no source to share.
    """
    layers = given.get("shared_layers")
    sharing = Sharing(
        until=given.get("tau_s", 0.0),
        words=read_blended(given.get("local_blend")),
        threshold=given.get("local_blend_threshold", Sharing.threshold),
    )
    if sharing.is_wanted and encoding == FLOW_EDIT:
        name = "tau_s" if sharing.until > 0 else "local_blend"
        raise ValueError(
            f'`{name}` decodes the edit beside the encoded image, and `encoding="flowedit"` encodes none; leave one of '
            "the two out."
        )
    if layers is None:
        return sharing
    known = denoiser.attention_layers()
    chosen = (layers,) if isinstance(layers, str) else layers
    if not isinstance(chosen, (list, tuple)) or not chosen:
        raise ValueError(
            f"`shared_layers` must be a list of at least one attention layer of the transformer, got "
            f"{shortened(layers)}. Leave it out to share in all of them."
        )
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(
            f"`shared_layers` names {unknown[0]!r}, which is no attention layer of the transformer. It has "
            f"{known[0]!r} to {known[-1]!r}; leave it out to share in all of them."
        )
    return replace(sharing, layers=tuple(chosen))


def read_mask_settings(given: Mapping[str, Any], preset: Preset) -> MaskSettings:
    """How a call finds a mask.

    Args:
        given: The call's arguments.
        preset: With the call's own settings in place of the preset's.
    """
    named = {field.name: given[field.name] for field in fields(MaskSettings)}
    return MaskSettings(**{**named, "num_maps_per_mask": preset.num_maps_per_mask})


def read_prompt_inputs(
    given: Mapping[str, Any], target: str, source: str, negative: str
) -> dict[str, PromptInput]:
    """A call's prompts by their role: "target", "source", "target_negative" and "source_negative".

    Args:
        given: The call's arguments.
        target, source, negative: The names of the arguments that hold these prompts.
    """
    # "" may be the default, and embeddings may be given instead
    is_default = isinstance(given.get(source), str) and not given[source]
    without = {source: None} if is_default and given.get(f"{source}_embeds") is not None else {}
    return {
        "target": PromptInput.of(given, target),
        "source": PromptInput.of({**given, **without}, source),
        "target_negative": PromptInput.of(given, negative),
        "source_negative": PromptInput.of(given, "source_negative_prompt"),
    }
