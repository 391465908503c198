"""The stages of an edit with a learned picture: what it was asked for, and its decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import PIL.Image
import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import AttentionMaps, captured_cross_attention
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.layers import nearest_queries
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.swaps import ROUNDING, PromptSwaps
from semantic_edit.attention_processors.tokens import (
    PromptTokens,
    align,
    token_factors,
    tokenize_prompt,
    tokens_of,
)
from semantic_edit.disk.numbers import read_number
from semantic_edit.disk.reading import shortened
from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import classifier_free_guidance
from semantic_edit.editing.inversion import ddim_step
from semantic_edit.editing.local_blend import attended_region, blend_into_source
from semantic_edit.editing.schedule import Schedule
from semantic_edit.pipelines.progress import named_bar
from semantic_edit.pipelines.ranges import NUMBERS, plain_numbers
from semantic_edit.pipelines.stages import noise_predictor

BLEND_FROM = 0.2  # fraction of the steps before LocalBlend sets in; Prompt-to-Prompt's


@dataclass(frozen=True)
class RestyleSettings:
    """How much of the source's attention an edit keeps; the names and units are those of [`StyleDiffusionPipeline`]."""

    tau_v: float = 0.6
    tau_c: float = 0.6
    tau_s: float = 0.8
    tau_u: float = 0.5
    word_tau_c: Mapping[str, float] = field(default_factory=dict)
    edit_type: str | None = None
    reweight: Mapping[str, float] = field(default_factory=dict)
    local_blend: Sequence[str] = ()
    local_blend_threshold: float = 0.3
    self_attention_side: int | None = None

    def __post_init__(self) -> None:
        for name in ("word_tau_c", "reweight"):
            object.__setattr__(self, name, _read_words(name, getattr(self, name)))
        if not isinstance(self.local_blend, (list, tuple)) or not all(
            isinstance(word, str) for word in self.local_blend
        ):
            raise TypeError(f"`local_blend` must be a word or a list of words, got {self.local_blend!r}.")
        for name in ("tau_v", "tau_c", "tau_s", "tau_u", "local_blend_threshold", "self_attention_side"):
            object.__setattr__(self, name, *plain_numbers(**{name: getattr(self, name)}))
        if self.edit_type is not None and (
            not isinstance(self.edit_type, str) or self.edit_type not in ("replace", "refine")
        ):
            raise ValueError(
                f'`edit_type` must be "replace", "refine" or None to choose by the prompts, got {self.edit_type!r}.'
            )


def _read_words(name: str, values: Any) -> dict[str, float]:
    """A number for each word, in the range of the argument's numbers."""
    if not isinstance(values, Mapping) or not all(isinstance(word, str) for word in values):
        raise TypeError(
            f'`{name}` must be a dict from words to numbers, such as {{"apple": 0.5}}, got {shortened(values)}.'
        )
    return {word: read_number(f"{name}[{word!r}]", value, *NUMBERS[name]) for word, value in values.items()}


@dataclass(frozen=True)
class PromptRows:
    """The source prompt and the T target prompts, as tokens and as the schedule of their swaps.

    tokens: Of each row, the source's first.
    blended: For each row, the tokens whose regions LocalBlend keeps; empty rows have no such word.
    """

    tokens: tuple[PromptTokens, ...]
    swaps: PromptSwaps
    blended: tuple[tuple[int, ...], ...]

    @property
    def targets(self) -> int:
        """How many edits there are."""
        return len(self.tokens) - 1

    def to(self, device: torch.device) -> PromptRows:
        """The same with the swaps' tensors on a device."""
        names = ("matrices", "shared", "factors", "cross_until")
        moved = {name: getattr(self.swaps, name).to(device) for name in names}
        return replace(self, swaps=replace(self.swaps, **moved))


def read_prompt_rows(
    tokenizer: Any, source: str, targets: Sequence[str], settings: RestyleSettings
) -> PromptRows:
    """Align every target prompt with the source's, and find the words that are named.

    Raises:
        ValueError: If a prompt cannot be aligned, or a word is in none of the prompts that it could be in.
    """
    tokens = tuple(tokenize_prompt(tokenizer, prompt) for prompt in (source, *targets))
    alignments = [align(tokens[0], target, settings.edit_type) for target in tokens[1:]]  # type: ignore[arg-type]
    return PromptRows(
        tokens=tokens,
        swaps=PromptSwaps(
            matrices=torch.stack([alignment.matrix for alignment in alignments]),
            shared=torch.stack([alignment.shared for alignment in alignments]),
            factors=_word_factors("reweight", tokens[1:], settings.reweight, 1.0),
            cross_until=_word_factors("word_tau_c", tokens[1:], settings.word_tau_c, settings.tau_c),
            self_until=settings.tau_s,
            unconditional_self_until=settings.tau_u,
        ),
        blended=_blended_tokens(tokens, settings.local_blend),
    )


def _owners(argument: str, prompts: Sequence[PromptTokens], word: str) -> list[int]:
    """Which prompts have a word; none is an error that says why for each."""
    rows, reasons = [], []
    for row, tokens in enumerate(prompts):
        try:
            tokens_of(tokens, word)
            rows.append(row)
        except ValueError as error:
            reasons.append(str(error))
    if not rows:
        listed = " ".join(dict.fromkeys(reasons))
        raise ValueError(f"`{argument}` names {word!r}, which is in none of its prompts. {listed}")
    return rows


def _word_factors(
    argument: str, prompts: Sequence[PromptTokens], values: Mapping[str, float], default: float
) -> torch.Tensor:
    """(prompts, tokens): each word's value in those prompts that have it."""
    owners = {word: _owners(argument, prompts, word) for word in values}
    rows = []
    for row, tokens in enumerate(prompts):
        own = {word: value for word, value in values.items() if row in owners[word]}
        rows.append(token_factors(tokens, own, default))
    return torch.stack(rows)


def _blended_tokens(prompts: Sequence[PromptTokens], words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    blended: list[tuple[int, ...]] = [() for _ in prompts]
    for word in words:
        for row in _owners("local_blend", prompts, word):
            blended[row] += tokens_of(prompts[row], word)
    return tuple(blended)


@dataclass(frozen=True, eq=False)
class Restyling:
    """One call, checked and embedded; rows are the source, then the T targets.

    text_embeds, negative_embeds: (1 + T, tokens, width).
    guidance_scales: (1 + T,).
    inside: (T or 1, 1, height, width) weights of a mask that confines the edit, or `None`.
    watches_words: Whether attention maps are wanted in the end.
    """

    schedule: Schedule
    network: Any
    prompts: PromptRows
    settings: RestyleSettings
    text_embeds: torch.Tensor
    negative_embeds: torch.Tensor
    guidance_scales: torch.Tensor
    inside: torch.Tensor | None = None
    watches_words: bool = False


@dataclass(frozen=True, eq=False)
class RestyledLatents:
    """latents: (1 + T, channels, height, width), the source's reconstruction first. blend_masks: (T, 1, height, width),
    where LocalBlend let the edit through in the end, or `None`. word_maps: (1 + T, rows, columns, tokens) or `None`."""

    latents: torch.Tensor
    blend_masks: torch.Tensor | None
    word_maps: torch.Tensor | None


OnStep = Callable[[int, int, dict[str, Any]], dict[str, Any]]


def restyle(
    pipe: Any, call: Restyling, cross_attention_kwargs: dict[str, Any] | None, on_step: OnStep
) -> RestyledLatents:
    """Decode the learned picture and its edits side by side, by P2Plus.

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite values, or after which `on_step` did.

    Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.3; Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2.
    """
    network, schedule, watch = call.network, call.schedule, FiniteWatch()
    rows, steps = 1 + call.prompts.targets, schedule.num_inference_steps
    latents = network.latents[None].to(call.text_embeds.device).expand(rows, -1, -1, -1)
    text, negative, inside = call.text_embeds, call.negative_embeds, None
    scales = call.guidance_scales.view(-1, 1, 1, 1)
    height, width = latents.shape[-2:]
    side = nearest_queries(pipe.unet, height, width)
    with (
        lock_of(pipe.unet),
        BorrowedNetwork(pipe.unet) as unet,
        controlled_attention(unet) as control,
        _watched(unet, call, side) as maps,
        named_bar(pipe, "decode", steps) as progress_bar,
    ):
        predict_noise = noise_predictor(pipe, cross_attention_kwargs, unet)
        for step, level in enumerate(range(steps, 0, -1)):
            if pipe.interrupt:
                break
            timestep = schedule.timestep(level)
            control.plan = _plan(call, step, text, negative, latents)
            values = control.plan.value_embeds
            watch.see(at_step("the mapping network", step, timestep), values)  # type: ignore[arg-type]
            both = predict_noise(torch.cat([latents, latents]), timestep, torch.cat([negative, text]))
            unconditional, conditional = both.chunk(2)
            noise_pred = classifier_free_guidance(unconditional, conditional, scales)
            latents = ddim_step(latents, noise_pred, schedule, level)
            if call.settings.local_blend and step >= int(BLEND_FROM * steps):
                inside = _blend_masks(call, maps.mean(), side, (height, width))
            latents = _kept_together(latents, call.inside, inside)
            watch.see(at_step("the decoding", step, timestep), latents)
            tensors = {"latents": latents, "prompt_embeds": text, "negative_prompt_embeds": negative}
            changed = on_step(step, timestep, tensors)
            watch.see_returned(changed, step, timestep)
            latents = changed.get("latents", latents)
            text = changed.get("prompt_embeds", text)
            if changed.get("negative_prompt_embeds", negative) is None:
                scales = torch.ones_like(scales)  # guidance ends: 1 gives the conditional prediction
            else:
                negative = changed.get("negative_prompt_embeds", negative)
            if "guidance_scale" in changed:  # the edits': the source keeps the one that it was learned with
                scales = torch.cat(
                    [scales[:1], torch.full_like(scales[1:], max(1.0, changed["guidance_scale"]))]
                )
            progress_bar.update()
    watch.see("the callback of the last step", latents)  # which may have written to them
    watch.check()
    word_maps = maps.mean().unflatten(1, side) if call.watches_words and maps.totals else None
    return RestyledLatents(latents, inside, word_maps)


def _plan(
    call: Restyling, step: int, text: torch.Tensor, negative: torch.Tensor, latents: torch.Tensor
) -> AttentionPlan:
    """What attention does at a step, for rows [unconditional source, targets, conditional source, targets]."""
    settings, steps, rows = call.settings, call.schedule.num_inference_steps, 1 + call.prompts.targets
    # compared unrounded, as in the published code, but for the error of the multiplication
    learns = rows if step < settings.tau_v * steps - ROUNDING else 1
    learned = call.network.value_embeds(step, text[:learns])
    source, targets = rows, tuple(range(rows + 1, 2 * rows))
    swap = call.prompts.swaps.cross_swap(step, steps, source, targets)
    side = settings.self_attention_side
    height, width = (-(-size // 2) if side is None else side for size in latents.shape[-2:])
    return AttentionPlan(
        value_embeds=torch.cat([negative, learned, text[learns:]]),
        cross_swaps=() if swap is None else (swap,),
        self_swaps=call.prompts.swaps.self_swaps(step, steps, source, targets, 0, tuple(range(1, rows))),
        self_queries=height * width,
    )


@contextmanager
def _watched(unet: BorrowedNetwork, call: Restyling, side: tuple[int, int]) -> Iterator[AttentionMaps]:
    """The conditional rows' maps at the resolution of StyleDiffusion's attention loss, if they are wanted.

    They are each row's own, from before swaps. In the published code LocalBlend reads them after the swap, which is
    made in the very tensors that were stored.
    """
    rows = 1 + call.prompts.targets
    with ExitStack() as stack:
        maps = AttentionMaps()
        if call.settings.local_blend or call.watches_words:
            conditional = slice(rows, 2 * rows)
            maps = stack.enter_context(captured_cross_attention(unet, math.prod(side), conditional))
        yield maps


def _blend_masks(
    call: Restyling, maps: torch.Tensor, side: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Where the named words are looked at, in the source's row or the target's: (T, 1, height, width)."""
    empty = maps.new_zeros(maps.shape[1])
    words = [
        maps[row, :, list(tokens)].mean(dim=1) if tokens else empty
        for row, tokens in enumerate(call.prompts.blended)
    ]
    regions = attended_region(
        torch.stack(words).unflatten(1, side), *size, threshold=call.settings.local_blend_threshold
    )
    return torch.maximum(regions[1:], regions[:1])


def _kept_together(
    latents: torch.Tensor, inside: torch.Tensor | None, attended: torch.Tensor | None
) -> torch.Tensor:
    """The targets' latents inside the mask and the attended regions, the source's elsewhere."""
    targets = blend_into_source(blend_into_source(latents[1:], latents[:1], attended), latents[:1], inside)
    return torch.cat([latents[:1], targets])


def word_pictures(
    call: Restyling, maps: torch.Tensor, size: tuple[int, int]
) -> list[dict[str, PIL.Image.Image]]:
    """For each row a heat map of each of its words: grey pictures of `size` (width, height), the maximum white.

    A word that occurs again has one map, the mean of them all.
    """
    pictures: list[dict[str, PIL.Image.Image]] = []
    for row, tokens in enumerate(call.prompts.tokens):
        covered: dict[str, list[int]] = {}
        for word in tokens.words:
            if word.tokens:  # none beyond the last token that the model reads
                covered.setdefault(word.text, []).extend(word.tokens)
        own = {}
        for text, indices in covered.items():
            heat = maps[row, :, :, indices].mean(dim=-1)
            levels = (255 * heat / heat.max().clamp(min=1e-12)).round().byte().cpu().numpy()
            own[text] = PIL.Image.fromarray(levels).resize(size, PIL.Image.Resampling.BICUBIC)
        pictures.append(own)
    return pictures
