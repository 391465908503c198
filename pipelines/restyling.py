"""Prompt-to-Prompt and P2Plus: decode a picture and its edits side by side, with the picture's attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import AttentionMaps, captured_cross_attention
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.swaps import ROUNDING
from semantic_edit.denoisers.unet import UNetDenoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import PromptPair
from semantic_edit.editing.inversion import StepHooks, ddim_step
from semantic_edit.editing.local_blend import BLEND_FROM, blend_into_source, word_regions
from semantic_edit.pipelines.stages import Session
from semantic_edit.pipelines.words import PromptRows, RestyleSettings

ValueEmbeds = Callable[[int, torch.Tensor], torch.Tensor]
"""`values(step, prompt_embeds)`: what attention computes its values from at a step, instead of these prompts."""


@dataclass(frozen=True, eq=False)
class Restyling:
    """One call, checked and embedded; rows are the source followed by the T targets.

    latents: The source at the noisiest level, (channels, height, width).
    given, negative: The prompt and the negative prompt of each row; 1 + T each.
    guidance_scales: (1 + T,).
    walk: The source's inversion, (levels + 1, channels, height, width), level 0 first, on which the source is put back
        after each step; `None` leaves the source where guidance leads it.
    values: What was learned of the source; `None` for Prompt-to-Prompt, which learns no values.
    negative_at: For null-text inversion: the unconditional embedding of all rows at each step, in place of `negative`.
    inside: (T or 1, 1, height, width), weights of a mask that confines the edit, or `None`.
    watches_words: Whether to return attention maps.
    """

    latents: torch.Tensor
    prompts: PromptRows
    settings: RestyleSettings
    given: Conditioning
    negative: Conditioning
    guidance_scales: torch.Tensor
    walk: torch.Tensor | None = None
    values: ValueEmbeds | None = None
    negative_at: Callable[[int], Conditioning] | None = None
    inside: torch.Tensor | None = None
    watches_words: bool = False


@dataclass(frozen=True, eq=False)
class RestyledLatents:
    """The outcome of `restyle`.

    latents: (1 + T, channels, height, width), the source's reconstruction first.
    blend_masks: (T, 1, height, width), where LocalBlend let the last step's edit through, or `None`.
    word_maps: (1 + T, rows, columns, tokens), or `None`.
    """

    latents: torch.Tensor
    blend_masks: torch.Tensor | None
    word_maps: torch.Tensor | None


def restyle(
    session: Session[UNetDenoiser], call: Restyling, hooks: StepHooks | None = None
) -> RestyledLatents:
    """Decode a picture and its edits side by side, by P2Plus.

    Args:
        session: Of the call.
        call: What to decode.
        hooks: Called around the steps.

    Raises:
        FloatingPointError: Naming the first step in which values became NaN or infinite, or after which a hook returned
            such values.

    Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.3; Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2; the source put
    back, Direct Inversion, arXiv:2310.01506, Alg. 1.
    """
    denoiser, hooks, watch = session.denoiser, hooks or StepHooks(), FiniteWatch()
    schedule = session.schedule
    targets, steps = call.prompts.targets, schedule.num_inference_steps
    rows, everyone = 1 + targets, _evaluation_order(targets).to(call.given.device)
    latents = call.latents[None].to(call.given.device).expand(rows, -1, -1, -1)
    pair, inside = PromptPair(call.given, call.negative), None
    scales = call.guidance_scales.view(-1, 1, 1, 1)
    height, width = latents.shape[-2:]
    side = denoiser.attention_size(height, width)
    with (
        lock_of(denoiser.unet),
        BorrowedNetwork(denoiser.unet) as unet,
        controlled_attention(unet) as control,
        _watched(unet, call, side) as maps,
        session.bar("decode", steps) as progress_bar,
    ):
        predictor = denoiser.through(unet)
        for step, level in enumerate(range(steps, 0, -1)):
            if hooks.should_stop is not None and hooks.should_stop():
                break
            timestep = schedule.timestep(level)
            if call.negative_at is not None:
                pair = PromptPair(pair.conditional, call.negative_at(step).expand(rows))
            plan, order = _planned(call, step, steps, pair, everyone)
            control.plan = plan
            if plan.value_embeds is not None:
                watch.see(at_step("the mapping network", step, timestep), plan.value_embeds)
            both = Conditioning.cat([pair.unconditional, pair.conditional])  # type: ignore[list-item]
            predicted = predictor.predict(torch.cat([latents, latents])[order], timestep, both.rows(order))
            away, towards, source = predicted.tensor_split((targets, 2 * targets))
            if call.walk is None:
                away, towards = torch.cat([source[1:], away]), torch.cat([source[:1], towards])
                latents = ddim_step(latents, denoiser.guide(away, towards, scales), schedule, level)
            else:
                edited = ddim_step(latents[1:], denoiser.guide(away, towards, scales[1:]), schedule, level)
                latents = torch.cat([call.walk[level - 1][None].to(edited), edited])
            if call.settings.local_blend and step >= int(BLEND_FROM * steps):
                inside = _blend_masks(call, _source_first(maps), side, (height, width))
            latents = _kept_together(latents, call.inside, inside)
            watch.see(at_step("the decoding", step, timestep), latents)
            if hooks.after is not None:
                changed = hooks.after(step, timestep, {"latents": latents, **pair.tensors()})
                watch.see_returned(changed, step, timestep)
                latents = changed.get("latents", latents)
                now = pair.changed(changed)
                if now.unconditional is None:
                    scales = torch.ones_like(scales)  # guidance ends: 1 gives the conditional prediction
                pair = PromptPair(now.conditional, now.unconditional or pair.unconditional)
                if (
                    "guidance_scale" in changed
                ):  # of the edits only: the source keeps the scale that it was learned with
                    others = torch.full_like(scales[1:], max(1.0, changed["guidance_scale"]))
                    scales = torch.cat([scales[:1], others])
            progress_bar.update()
    watch.see("the callback of the last step", latents)  # it may have written to them
    watch.check()
    word_maps = _source_first(maps).unflatten(1, side) if call.watches_words and maps.totals else None
    return RestyledLatents(latents, inside, word_maps)


def _evaluation_order(targets: int) -> torch.Tensor:
    """The order in which rows are evaluated, (2 * (1 + T),): the unconditional targets, the conditional targets, the
    source and the unconditional source; as indices into the unconditional and the conditional rows, source first."""
    rows = 1 + targets
    return torch.tensor([*range(1, rows), *range(rows + 1, 2 * rows), rows, 0])


def _planned(
    call: Restyling, step: int, steps: int, pair: PromptPair, order: torch.Tensor
) -> tuple[AttentionPlan, torch.Tensor]:
    """The attention plan of a step, and the rows that it evaluates.

    Where the source is put back on its inversion, they end with the last that an edit's attention is taken from.

    Args:
        call: What to decode.
        step: 0-based index, 0 the noisiest.
        steps: Number of steps.
        pair: The prompts of all rows at this step.
        order: Of all rows; see `_evaluation_order`.
    """
    settings, targets = call.settings, call.prompts.targets
    source = 2 * targets
    conditional, unconditional = tuple(range(targets, source)), tuple(range(targets))
    swap = call.prompts.swaps.cross_swap(step, steps, source, conditional)
    side = settings.self_attention_side
    height, width = (-(-size // 2) if side is None else side for size in call.latents.shape[-2:])
    self_swaps = call.prompts.swaps.self_swaps(step, steps, source, conditional, source + 1, unconditional)
    cross_swaps = () if swap is None else (swap,)
    if call.walk is not None:
        read = {one.source for one in (*cross_swaps, *self_swaps)}
        read |= {source} if settings.local_blend or call.watches_words else set()
        order = order[: 1 + max(read, default=source - 1)]
    values = _value_embeds(call, step, steps, pair)
    plan = AttentionPlan(
        value_embeds=None if values is None else values[order],
        cross_swaps=cross_swaps,
        self_swaps=self_swaps,
        self_queries=height * width,
    )
    return plan, order


def _value_embeds(call: Restyling, step: int, steps: int, pair: PromptPair) -> torch.Tensor | None:
    """What attention computes the values of all rows from at a step, (2 * (1 + T), tokens, width), the unconditional
    ones first."""
    if call.values is None or pair.unconditional is None:
        return None
    text = pair.conditional.prompt_embeds
    # compared unrounded, as in the published code, apart from the rounding error of the multiplication
    learns = len(text) if step < call.settings.tau_v * steps - ROUNDING else 1
    learned = call.values(step, text[:learns])
    return torch.cat([pair.unconditional.prompt_embeds, learned, text[learns:]])


@contextmanager
def _watched(unet: BorrowedNetwork, call: Restyling, side: tuple[int, int]) -> Iterator[AttentionMaps]:
    """The conditional rows' maps at the resolution of StyleDiffusion's attention loss, if they are wanted.

    They are each row's own maps before swaps. In the published code LocalBlend reads them after the swap, which is made
    in place in the stored tensors.
    """
    rows = 1 + call.prompts.targets
    with ExitStack() as stack:
        maps = AttentionMaps()
        if call.settings.local_blend or call.watches_words:
            conditional = slice(rows - 1, 2 * rows - 1)  # see `_evaluation_order`
            maps = stack.enter_context(captured_cross_attention(unet, math.prod(side), conditional))
        yield maps


def _source_first(maps: AttentionMaps) -> torch.Tensor:
    """The means of the collected maps, in which the source comes last, with the source first."""
    return maps.mean().roll(1, dims=0)


def _blend_masks(
    call: Restyling, maps: torch.Tensor, side: tuple[int, int], size: tuple[int, int]
) -> torch.Tensor:
    """Where the named words are attended to, in the source's row or the target's: (T, 1, height, width)."""
    threshold = call.settings.local_blend_threshold
    regions = word_regions(maps.unflatten(1, side), call.prompts.blended, size, threshold)
    return torch.maximum(regions[1:], regions[:1])


def _kept_together(
    latents: torch.Tensor, inside: torch.Tensor | None, attended: torch.Tensor | None
) -> torch.Tensor:
    """The targets' latents inside the mask and the attended regions, the source's elsewhere."""
    targets = blend_into_source(blend_into_source(latents[1:], latents[:1], attended), latents[:1], inside)
    return torch.cat([latents[:1], targets])
