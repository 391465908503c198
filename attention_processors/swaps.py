"""Prompt-to-Prompt's edits of attention maps as pure functions that never store a map.

An edited map is linear in the original maps, so its effect is plain attention over changed values: (A M) V = A (M V).
Fused attention computes that with memory linear in the number of queries.

Source: Prompt-to-Prompt, arXiv:2208.01626, Sec. 3.2; for the unconditional rows StyleDiffusion, arXiv:2303.15649.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

# A fraction that stands for a whole number of steps must count as that number: 0.29 * 100 is 28.999999999999996.
ROUNDING = 1e-4
# The widest heads for which fused kernels are fast on every device; on GPUs some stop at 128 and all at 256.
WIDEST_HEAD = 128


@dataclass(frozen=True, eq=False)
class CrossSwap:
    """Target rows' cross-attention maps become A_source @ from_source + A_target * from_target.

    source: Row of the evaluation's batch whose map is used, as it is before any swap.
    targets: Rows that are edited.
    from_source: (targets, source tokens, target tokens).
    from_target: (targets, target tokens), factors on the columns of the target's own map.
    lends, keeps: For each target, whether its map takes anything from the source, and whether it keeps anything of its
        own. They are computed once, when the swap is created: on a GPU that has to wait, and so no layer has to.

    Raises:
        ValueError: If shapes or rows disagree.
    """

    source: int
    targets: tuple[int, ...]
    from_source: torch.Tensor
    from_target: torch.Tensor
    lends: tuple[bool, ...] = field(init=False, repr=False)
    keeps: tuple[bool, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_distinct((self,))
        shape = tuple(self.from_source.shape)
        if len(shape) != 3 or shape[0] != len(self.targets) or tuple(self.from_target.shape) != shape[::2]:
            raise ValueError(
                f"`from_source` {shape} and `from_target` {tuple(self.from_target.shape)} do not describe the "
                f"{len(self.targets)} rows in `targets`. Pass (targets, source tokens, target tokens) and "
                "(targets, target tokens)."
            )
        lends = self.from_source.flatten(1).any(dim=1)
        # a row that receives nothing is still computed, as zeros
        keeps = self.from_target.any(dim=1) | ~lends
        object.__setattr__(self, "lends", tuple(lends.tolist()))
        object.__setattr__(self, "keeps", tuple(keeps.tolist()))


@dataclass(frozen=True)
class SelfSwap:
    """Target rows' self-attention maps become that of the row `source`, as it is before any swap.

    Raises:
        ValueError: If `targets` is empty, repeats a row or contains `source`.
    """

    source: int
    targets: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_distinct((self,))


def swapped_cross_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    swaps: Sequence[CrossSwap],
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of all rows, with the target rows' maps edited.

    It takes one fused call for what rows keep of their own maps, and one for what they take from others.

    Args:
        query: (batch, heads, queries, head width).
        key, value: (batch, heads, tokens, head width).
        swaps: The edits; no row may be the target of two.
        mask: Added to the scores, (batch, heads, 1 or queries, tokens).
        scale: Factor on the scores; by default one over the square root of the head width.

    Returns:
        (batch, heads, queries, head width); gradients flow.

    Raises:
        ValueError: If a row lies outside the batch or is the target of two swaps, or if the numbers of tokens differ.
    """
    _check_fits(swaps, query.shape[0])
    values, keepers, loans = list(value), list(range(query.shape[0])), []
    for swap in swaps:
        _check_tokens(swap, key.shape[2])
        from_source, from_target = swap.from_source.to(value), swap.from_target.to(value)
        for index, target in enumerate(swap.targets):
            if swap.lends[index]:
                loans.append((swap.source, target, from_source[index] @ value[target]))
            if swap.keeps[index]:
                values[target] = from_target[index, :, None] * value[target]
            else:
                keepers.remove(target)
    kept = _attend(query, key, torch.stack([values[row] for row in keepers]), keepers, mask, scale)
    outputs = dict(zip(keepers, kept, strict=True))
    if loans:
        sources, borrowers, mixed = zip(*loans, strict=True)
        lent = _attend(query, key, torch.stack(mixed), sources, mask, scale)
        for row, borrowed in zip(borrowers, lent, strict=True):
            outputs[row] = outputs[row] + borrowed if row in outputs else borrowed
    return torch.stack([outputs[row] for row in range(query.shape[0])])


def swapped_self_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    swaps: Sequence[SelfSwap],
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of all rows, where each target row uses its source's map with its own values.

    The values of two rows that share a map are put side by side in a fused call with heads of twice the width, so that
    the map is computed once for both. Rows that are left over, and all rows if heads would become too wide for fused
    kernels, get a map each.

    Arguments, result and errors are those of [`swapped_cross_attention`], with positions in place of tokens.
    """
    _check_fits(swaps, query.shape[0])
    source_of = {target: swap.source for swap in swaps for target in swap.targets}
    sharing: dict[int, list[int]] = {}  # by the row whose map they use
    for row in range(query.shape[0]):
        sharing.setdefault(source_of.get(row, row), []).append(row)
    width = 2 if 2 * value.shape[-1] <= WIDEST_HEAD else 1
    parts = [
        (owner, tuple(rows[first : first + width]))
        for owner, rows in sharing.items()
        for first in range(0, len(rows), width)
    ]
    order: list[int] = []
    outputs: list[torch.Tensor] = []
    for size in {len(rows) for _, rows in parts}:
        alike = [part for part in parts if len(part[1]) == size]
        members = [row for _, rows in alike for row in rows]
        side_by_side = _chosen(value, members).unflatten(0, (-1, size)).movedim(1, -2).flatten(-2)
        attended = _attend(query, key, side_by_side, [owner for owner, _ in alike], mask, scale)
        order += members
        outputs.append(attended.unflatten(-1, (size, -1)).movedim(-2, 1).flatten(0, 1))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return _chosen(joined, [order.index(row) for row in range(query.shape[0])])


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    values: torch.Tensor,
    rows: Sequence[int],
    mask: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    """The maps of `rows` applied to `values`, (rows, heads, tokens, head width or wider)."""
    width = query.shape[-1]
    missing = values.shape[-1] - width

    def widened(tensor: torch.Tensor) -> torch.Tensor:
        # fused kernels want a single width; zeros add nothing to the scores, and padding by nothing would still copy
        return F.pad(tensor, (0, missing)) if missing else tensor

    return F.scaled_dot_product_attention(
        widened(_chosen(query, rows)),
        widened(_chosen(key, rows)),
        values,
        attn_mask=None if mask is None else _chosen(mask, rows),
        scale=width**-0.5 if scale is None else scale,
    )


def _chosen(tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Some rows of a tensor, without a copy if they are evenly spaced.

    An index tensor would have to be moved to the GPU in every layer, which means waiting for the GPU.
    """
    step = rows[1] - rows[0] if len(rows) > 1 else 1
    if step > 0 and list(rows) == list(range(rows[0], rows[-1] + 1, step)):
        return tensor[rows[0] : rows[-1] + 1 : step]
    return torch.stack([tensor[row] for row in rows])


@dataclass(frozen=True, eq=False)
class PromptSwaps:
    """Which maps are swapped at which step, for an edit with one source row and T target rows.

    Steps are counted from the noisy end. At a step before a token's `cross_until`, the token's column of the target's
    cross-attention map is that of A_source @ matrices if the token is shared, and the target's own if it is new; in
    either case it is multiplied by `factors`. Replace shares all tokens, Refine those that both prompts have; Reweight
    sets factors and combines with either. Nothing is renormalised.

    matrices: (T, source tokens, target tokens).
    shared: (T, target tokens), 1 where a token takes the source's column, 0 where it keeps its own.
    factors: (T, target tokens), applied at every step as in the paper; the published code drops them after
        `cross_until`.
    cross_until: (T, target tokens), fractions of the steps in [0, 1], token by token (tau_c).
    self_until: Fraction of the steps at which conditional rows use the source's self-attention map (tau_s).
    unconditional_self_until: The same for the unconditional rows (StyleDiffusion's tau_u).

    A swap with fraction tau is active while step < int(tau * num_steps). For cross attention the published code counts
    int(tau * (num_steps + 1)) steps instead: one more for .6 of 6 or .65 of 10, the same for tenths of 30 or 50.
    Keep the tensors on the UNet's device to save copies.

    Raises:
        ValueError: If shapes disagree or a fraction lies outside [0, 1].
    """

    matrices: torch.Tensor
    shared: torch.Tensor
    factors: torch.Tensor
    cross_until: torch.Tensor
    self_until: float
    unconditional_self_until: float

    def __post_init__(self) -> None:
        shape = tuple(self.matrices.shape)
        for name in ("shared", "factors", "cross_until"):
            given = tuple(getattr(self, name).shape)
            if len(shape) != 3 or given != shape[::2]:
                raise ValueError(
                    f"`{name}` is {given} and `matrices` is {shape}. Pass (targets, target tokens) and (targets, "
                    "source tokens, target tokens)."
                )
        for name in ("cross_until", "self_until", "unconditional_self_until"):
            low, high = torch.aminmax(torch.as_tensor(getattr(self, name)))
            if not (low >= 0 and high <= 1):
                raise ValueError(
                    f"`{name}` must lie in [0, 1], got {low:g} to {high:g}. It is the fraction of the steps, from the "
                    "noisy end, at which the source's maps are used."
                )

    def cross_swap(
        self, step: int, num_steps: int, source: int, targets: tuple[int, ...]
    ) -> CrossSwap | None:
        """The edit of the cross-attention maps at a step; `None` if they stay as they are.

        Args:
            step: 0-based index, 0 the noisiest.
            num_steps: Number of steps.
            source, targets: The rows of the evaluation's batch that hold the source prompt and the T target prompts.

        Raises:
            ValueError: If `targets` are not T rows.
        """
        active = step < (self.cross_until * num_steps + ROUNDING).floor()
        borrowed = self.shared.to(self.matrices) * active
        if not (borrowed.any() or (self.factors != 1).any()):
            return None
        return CrossSwap(
            source,
            targets,
            from_source=self.matrices * (borrowed * self.factors)[:, None],
            from_target=(1 - borrowed) * self.factors,
        )

    def self_swaps(
        self,
        step: int,
        num_steps: int,
        source: int,
        targets: tuple[int, ...],
        unconditional_source: int | None = None,
        unconditional_targets: tuple[int, ...] = (),
    ) -> tuple[SelfSwap, ...]:
        """The edits of the self-attention maps at a step; empty if they stay as they are.

        Args:
            step: 0-based index, 0 the noisiest.
            num_steps: Number of steps.
            source, targets: The conditional rows of the evaluation's batch.
            unconditional_source, unconditional_targets: The unconditional rows; `None` and () without guidance.

        Raises:
            ValueError: If there are no targets, or they contain the source.
        """
        swaps = []
        if step < int(self.self_until * num_steps + ROUNDING):
            swaps.append(SelfSwap(source, targets))
        if unconditional_source is not None and step < int(
            self.unconditional_self_until * num_steps + ROUNDING
        ):
            swaps.append(SelfSwap(unconditional_source, unconditional_targets))
        return tuple(swaps)


def _check_distinct(swaps: Sequence[CrossSwap | SelfSwap]) -> None:
    targets = [target for swap in swaps for target in swap.targets]
    for swap in swaps:
        if swap.source in swap.targets or not swap.targets:
            raise ValueError(
                f"A swap's `targets` {swap.targets} must name at least one row, and not its `source` {swap.source}."
            )
    if len(set(targets)) < len(targets):
        raise ValueError(f"Each of the rows {targets} can get only one map: name no target twice.")


def _check_fits(swaps: Sequence[CrossSwap | SelfSwap], batch: int) -> None:
    _check_distinct(swaps)
    for swap in swaps:
        rows = (swap.source, *swap.targets)
        if not all(0 <= row < batch for row in rows):
            raise ValueError(
                f"A swap names the rows {rows} (source, then targets), but this evaluation's batch has {batch} rows. "
                "Rows are counted from 0 over the whole batch, including the unconditional ones."
            )


def _check_tokens(swap: CrossSwap, tokens: int) -> None:
    if tuple(swap.from_source.shape[1:]) != (tokens, tokens):
        raise ValueError(
            f"A swap maps {swap.from_source.shape[1]} source tokens to {swap.from_source.shape[2]} target tokens, "
            f"but the text of this evaluation has {tokens}. Build its matrices for the padded length of the prompts."
        )
