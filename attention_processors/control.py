"""Control a UNet's attention during an evaluation: Prompt-to-Prompt's swaps and StyleDiffusion's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    FusedAttnProcessor2_0,
    SlicedAttnProcessor,
    XFormersAttnProcessor,
)

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, StandIn
from semantic_edit.attention_processors.install import AttentionProcessor, installed
from semantic_edit.attention_processors.layers import (
    attention_maps,
    normed_text,
    positions,
    prepared_mask,
    queries_and_keys,
    split_heads,
)
from semantic_edit.attention_processors.swaps import (
    CrossSwap,
    SelfSwap,
    swapped_cross_attention,
    swapped_self_attention,
)


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """What attention does in one evaluation of the UNet.

    value_embeds: (batch, tokens, width), for all rows: what every cross attention computes its values from instead of
        the text; keys are still computed from the text. Gradients flow into it. It may have a higher precision than the
        UNet.
    cross_swaps: Edits of the cross-attention maps, in every layer.
    self_swaps: Edits of the self-attention maps.
    self_queries: Self-attention maps are edited only in layers with at most this many queries; `None` means in all.
    kept_queries: Cross-attention layers with this many queries leave their maps in `maps`; `None` means that none do.
    maps: Filled by the evaluation, layer by layer: (batch, heads, queries, tokens) in float32 or better, from each
        row's own queries and keys, before swaps. Gradients flow through them. For sums without gradients, see
        [`captured_cross_attention`].

    Source: StyleDiffusion, arXiv:2303.15649, for the values; Prompt-to-Prompt, arXiv:2208.01626, for the swaps.
    """

    value_embeds: torch.Tensor | None = None
    cross_swaps: tuple[CrossSwap, ...] = ()
    self_swaps: tuple[SelfSwap, ...] = ()
    self_queries: int | None = None
    kept_queries: int | None = None
    maps: list[torch.Tensor] = field(default_factory=list, init=False, repr=False)

    def self_swaps_among(self, queries: int) -> tuple[SelfSwap, ...]:
        """The edits of the self-attention maps of a layer with this many queries."""
        return self.self_swaps if self.self_queries is None or queries <= self.self_queries else ()


@dataclass
class AttentionControl:
    """Holds the plan for the borrower's next evaluation; `None` leaves attention as it is.

    Under gradient checkpointing the backward pass runs layers again: keep the plan in place until that is done.
    """

    plan: AttentionPlan | None = None


@contextmanager
def controlled_attention(borrowed: BorrowedNetwork) -> Iterator[AttentionControl]:
    """Control a borrowed UNet's attention during the block by the plan that is set on the yielded control.

    Under a plan all layers compute fused attention, whichever of diffusers' processors they had. After the block they
    have the same processor objects again. LoRA keeps working, because it is part of the projections.

    Yields:
        The control, without a plan.

    Raises:
        ValueError: Before anything changes, if a layer's processor does more than attention; while the UNet runs, if
            the plan does not fit the evaluation.
        RuntimeError: See [`installed`].
    """
    _refuse_foreign_processors(borrowed.network.attn_processors)
    control = AttentionControl()
    with installed(borrowed, lambda layer, present: ControlledAttnProcessor(borrowed, present, control)):
        yield control


class ControlledAttnProcessor(StandIn):
    """Fused attention that follows a control's plan; with an empty plan it equals `AttnProcessor2_0`, bit for bit."""

    def __init__(
        self, borrowed: BorrowedNetwork, usual: AttentionProcessor, control: AttentionControl
    ) -> None:
        super().__init__(borrowed, usual)
        self.control = control

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, queries, channels) or (batch, channels, height, width), in and out."""
        plan = self.control.plan
        if plan is None or not self.borrowed.acts:
            more = {} if temb is None else {"temb": temb}  # not all of diffusers' processors take it
            return self.usual(attn, hidden_states, encoder_hidden_states, attention_mask, **more)
        queries_from = positions(attn, hidden_states, temb)
        if encoder_hidden_states is None:
            keys_from = values_from = queries_from
        else:
            keys_from = values_from = normed_text(attn, encoder_hidden_states)
            if plan.value_embeds is not None:
                values_from = normed_text(attn, _fitting_embeds(plan.value_embeds, encoder_hidden_states))
        query, key = queries_and_keys(attn, queries_from, keys_from)
        value = split_heads(attn, attn.to_v(values_from))
        mask = prepared_mask(attn, attention_mask, keys_from)
        is_cross = encoder_hidden_states is not None
        is_kept = is_cross and query.shape[2] == plan.kept_queries
        maps = attention_maps(attn, query, key, mask) if is_kept else None
        if maps is not None and not self.borrowed.recomputes:
            plan.maps.append(maps)
        scale = None if attn.scale_qk else attn.scale
        cross_swaps = plan.cross_swaps if is_cross else ()
        self_swaps = () if is_cross else plan.self_swaps_among(query.shape[2])
        if cross_swaps:
            output = swapped_cross_attention(query, key, value, cross_swaps, mask, scale)
        elif self_swaps:
            output = swapped_self_attention(query, key, value, self_swaps, mask, scale)
        elif maps is not None:
            output = maps.to(value.dtype) @ value  # cheaper than another, fused call
        else:
            output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        return _projected_back(attn, output, hidden_states)


def _fitting_embeds(value_embeds: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    if value_embeds.shape != text.shape:
        raise ValueError(
            f"The plan's `value_embeds` are {tuple(value_embeds.shape)} and the text of this evaluation is "
            f"{tuple(text.shape)}, (batch, tokens, width). Pass one row for every row of the batch; where nothing was "
            "learned, that is the text itself."
        )
    return value_embeds.to(text)


def _projected_back(attn: Attention, output: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
    """The heads' outputs, projected and brought back to the shape of the layer's input `hidden_states`."""
    to_out, dropout = attn.to_out
    output = dropout(to_out(output.transpose(1, 2).flatten(2)))
    if hidden_states.ndim == 4:
        output = output.transpose(-1, -2).reshape(hidden_states.shape)
    if attn.residual_connection:
        output = output + hidden_states
    return output / attn.rescale_output_factor


# These compute softmax(query key) value and nothing else, only in different orders.
_PLAIN_PROCESSORS = (
    AttnProcessor,
    AttnProcessor2_0,
    FusedAttnProcessor2_0,
    SlicedAttnProcessor,
    XFormersAttnProcessor,
)


def _refuse_foreign_processors(processors: Mapping[str, AttentionProcessor]) -> None:
    for name, processor in processors.items():
        # a stand-in acts only for its borrower; its class differs between copies of a custom pipeline's file
        if type(processor) not in _PLAIN_PROCESSORS and not hasattr(processor, "borrowed"):
            raise ValueError(
                f"The layer {name.removesuffix('.processor')} has a {type(processor).__name__}, whose effect would be "
                "lost during an edit of attention. Remove it first: with `pipe.unload_ip_adapter()` if it belongs to "
                "an IP-Adapter, else with `unet.set_attn_processor(AttnProcessor2_0())` for plain attention in all "
                "layers."
            )
