from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from semantic_edit.attention_processors.swaps import (
    WIDEST_HEAD,
    CrossSwap,
    PromptSwaps,
    SelfSwap,
    swapped_cross_attention,
    swapped_self_attention,
)

HEADS, QUERIES, WIDTH = 2, 6, 4
# Against explicit maps in float64 on the same rounded inputs, relative to the largest value.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Case:
    """An edit at one step, with the rows [uncond source, uncond targets, source, targets]."""

    edit: PromptSwaps
    step: int
    num_steps: int
    seed: int

    @property
    def rows(self) -> dict[str, Any]:
        targets = self.edit.matrices.shape[0]
        return {
            "source": targets + 1,
            "targets": tuple(range(targets + 2, 2 * targets + 2)),
            "unconditional_source": 0,
            "unconditional_targets": tuple(range(1, targets + 1)),
        }

    def tensors(self, dtype: torch.dtype, keys: int) -> list[torch.Tensor]:
        """Query, key and value."""
        generator = torch.Generator().manual_seed(self.seed)
        batch = 2 * self.edit.matrices.shape[0] + 2
        shapes = [(batch, HEADS, count, WIDTH) for count in (QUERIES, keys, keys)]
        return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    targets, tokens = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    num_steps = draw(st.integers(1, 100))
    step = draw(st.integers(0, num_steps - 1))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)

    def per_token(choices: list[float]) -> torch.Tensor:
        picks = torch.randint(len(choices), (targets, tokens), generator=generator)
        return torch.tensor(choices, dtype=torch.float64)[picks]

    some = draw(st.sampled_from(["replace", "refine", "any"]))
    matrices = torch.rand(targets, tokens, tokens, generator=generator, dtype=torch.float64)
    if some == "refine":  # one source token for each target token
        matrices = (
            torch.eye(tokens).double()[torch.randint(tokens, (targets, tokens), generator=generator)].mT
        )
    fractions = draw(st.lists(st.integers(0, 100), min_size=3, max_size=3))
    edit = PromptSwaps(
        matrices=matrices,
        shared=per_token({"replace": [1.0], "refine": [0.0, 1.0], "any": [0.0, 0.25, 1.0]}[some]),
        factors=per_token(draw(st.sampled_from([[1.0], [0.0], [1.0, 0.0, -1.5, 2.0]]))),
        cross_until=per_token([number / 100 for number in fractions]),
        self_until=draw(st.integers(0, 100)) / 100,
        unconditional_self_until=draw(st.integers(0, 100)) / 100,
    )
    return Case(edit, step, num_steps, seed)


def plain_edit(targets: int = 1, tokens: int = 5, until: float = 0.5) -> PromptSwaps:
    """A Replace edit with only shared tokens and no weights."""
    return PromptSwaps(
        matrices=torch.eye(tokens).expand(targets, -1, -1),
        shared=torch.ones(targets, tokens),
        factors=torch.ones(targets, tokens),
        cross_until=torch.full((targets, tokens), until),
        self_until=until,
        unconditional_self_until=until,
    )


def assert_agree(actual: torch.Tensor, expected: torch.Tensor) -> None:
    error = (actual.double() - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert error < TOLERANCES[actual.dtype], f"{error:.2g} in {actual.dtype}"


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@settings(max_examples=60, deadline=None)
@given(case=cases(), masked=st.booleans())
def test_fused_cross_attention_is_that_of_the_explicit_maps(explicit, dtype, case, masked):
    tensors = case.tensors(dtype, keys=case.edit.matrices.shape[2])
    batch, tokens = tensors[0].shape[0], tensors[1].shape[2]
    mask = torch.zeros(batch, HEADS, 1, tokens, dtype=dtype)
    if masked:
        mask[torch.arange(batch), :, :, torch.arange(batch) % tokens] = -3.0
    step = explicit.Step(case.edit, case.step, case.num_steps, **case.rows)
    expected = explicit.attention(*(tensor.double() for tensor in tensors), step.cross, mask.double())
    swap = case.edit.cross_swap(case.step, case.num_steps, step.source, step.targets)
    swaps = () if swap is None else (swap,)
    assert_agree(swapped_cross_attention(*tensors, swaps, mask if masked else None), expected)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_fused_self_attention_is_that_of_the_explicit_maps(explicit, dtype, case):
    tensors = case.tensors(dtype, keys=QUERIES)
    step = explicit.Step(case.edit, case.step, case.num_steps, **case.rows)
    expected = explicit.attention(*(tensor.double() for tensor in tensors), step.self)
    swaps = case.edit.self_swaps(case.step, case.num_steps, **case.rows)
    assert_agree(swapped_self_attention(*tensors, swaps), expected)


@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_rows_outside_a_swap_keep_their_output(case):
    tensors = case.tensors(torch.float32, keys=case.edit.matrices.shape[2])
    swap = case.edit.cross_swap(0, case.num_steps, case.rows["source"], case.rows["targets"])
    plain = swapped_cross_attention(*tensors, ())
    actual = swapped_cross_attention(*tensors, () if swap is None else (swap,))
    untouched = [row for row in range(len(plain)) if row not in case.rows["targets"]]
    torch.testing.assert_close(actual[untouched], plain[untouched])


def test_scale_reaches_kept_and_borrowed_maps():
    case = Case(replace(plain_edit(), factors=torch.full((1, 5), 2.0)), 0, 10, seed=0)
    query, key, value = case.tensors(torch.float64, keys=5)
    swap = CrossSwap(2, (3,), torch.rand(1, 5, 5), torch.rand(1, 5))
    by_argument = swapped_cross_attention(query, key, value, (swap,), scale=0.25)
    by_query = swapped_cross_attention(query * 0.25 * WIDTH**0.5, key, value, (swap,))
    torch.testing.assert_close(by_argument, by_query)


def test_gradients_flow_through_every_operand():
    case = Case(plain_edit(), 0, 10, seed=0)
    tensors = [tensor.requires_grad_() for tensor in case.tensors(torch.float64, keys=5)]
    swap = CrossSwap(2, (3, 1), torch.rand(2, 5, 5), torch.tensor([[0.0] * 5, [2.0] * 5]))
    assert torch.autograd.gradcheck(
        lambda *given: swapped_cross_attention(*given, (swap,)), tensors, fast_mode=True
    )


class Fused(TorchDispatchMode):
    """Counts the rows that go through fused attention, and records what else is allocated or called."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []
        self.calls: Counter[str] = Counter()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        self.calls[name] += 1
        if "scaled_dot_product" in name:
            self.rows.append(args[0].shape[0])
        results = result if isinstance(result, tuple) else (result,)
        self.shapes |= {tuple(each.shape) for each in results if isinstance(each, torch.Tensor)}
        return result


def fused(run: Callable[[], Any]) -> Fused:
    with torch.no_grad(), Fused() as mode:
        run()
    return mode


@pytest.mark.parametrize(
    ("edit", "rows"),
    [
        (plain_edit(targets=2), [4, 2]),  # Replace: the targets' own maps are not computed at all
        (replace(plain_edit(targets=2), shared=torch.tensor([[1.0] * 5, [1, 1, 0, 0, 1]])), [5, 2]),
        (replace(plain_edit(targets=2), shared=torch.zeros(2, 5), factors=torch.full((2, 5), 2.0)), [6]),
        (replace(plain_edit(targets=2), factors=torch.zeros(2, 5)), [6]),
    ],
    ids=["replace", "one replaced, one refined", "reweighted alone", "all weights zero"],
)
def test_no_row_is_computed_that_the_result_does_not_need(edit, rows):
    case = Case(edit, 0, 10, seed=0)
    tensors = case.tensors(torch.float32, keys=5)
    swap = edit.cross_swap(0, 10, case.rows["source"], case.rows["targets"])
    assert fused(lambda: swapped_cross_attention(*tensors, (swap,))).rows == rows


@pytest.mark.parametrize(
    ("width", "targets", "rows"),
    [(WIDTH, 1, [2]), (WIDTH, 2, [2, 2]), (WIDTH, 3, [4]), (WIDEST_HEAD // 2 + 1, 2, [6])],
    ids=["a pair", "a pair and one more", "two pairs", "too wide for pairs"],
)
def test_two_rows_share_a_self_attention_map(explicit, width, targets, rows):
    case = Case(plain_edit(targets=targets), 0, 10, seed=0)
    tensors = [torch.randn(2 * targets + 2, HEADS, QUERIES, width) for _ in range(3)]
    swaps = case.edit.self_swaps(0, 10, **case.rows)
    assert fused(lambda: swapped_self_attention(*tensors, swaps)).rows == rows
    step = explicit.Step(case.edit, 0, 10, **case.rows)
    expected = explicit.attention(*(tensor.double() for tensor in tensors), step.self)
    assert_agree(swapped_self_attention(*tensors, swaps), expected)


@pytest.mark.parametrize("width", [WIDTH, WIDEST_HEAD], ids=["in pairs", "row by row"])
def test_a_source_that_is_a_target_too_lends_its_own_map(width):
    tensors = [torch.randn(3, HEADS, QUERIES, width) for _ in range(3)]
    maps = (tensors[0] @ tensors[1].mT * width**-0.5).softmax(-1)
    for swaps in ([SelfSwap(0, (1,)), SelfSwap(1, (2,))], [SelfSwap(1, (2,)), SelfSwap(0, (1,))]):
        torch.testing.assert_close(swapped_self_attention(*tensors, swaps), maps[[0, 0, 1]] @ tensors[2])


def test_rows_outside_a_self_swap_are_attended_alone():
    case = Case(replace(plain_edit(targets=2), unconditional_self_until=0.0), 0, 10, seed=0)
    tensors = case.tensors(torch.float32, keys=QUERIES)
    swaps = case.edit.self_swaps(0, 10, **case.rows)
    assert sorted(fused(lambda: swapped_self_attention(*tensors, swaps)).rows) == [1, 4]
    swapped, plain = swapped_self_attention(*tensors, swaps), swapped_self_attention(*tensors, ())
    torch.testing.assert_close(swapped[:3], plain[:3])


def test_a_target_does_not_depend_on_the_others():
    tensors = Case(plain_edit(targets=3), 0, 10, seed=0).tensors(torch.float32, keys=QUERIES)
    together = swapped_self_attention(*tensors, [SelfSwap(0, (1, 2, 3, 4))])
    for target in (1, 2, 3, 4):
        alone = swapped_self_attention(*(tensor[[0, target]] for tensor in tensors), [SelfSwap(0, (1,))])
        torch.testing.assert_close(together[[0, target]], alone)


def test_a_self_swap_takes_scale_mask_and_gradients():
    case = Case(plain_edit(), 0, 10, seed=0)
    query, key, value = case.tensors(torch.float64, keys=QUERIES)
    swaps = case.edit.self_swaps(0, 10, **case.rows)
    by_argument = swapped_self_attention(query, key, value, swaps, scale=0.25)
    by_query = swapped_self_attention(query * 0.25 * WIDTH**0.5, key, value, swaps)
    torch.testing.assert_close(by_argument, by_query)
    mask = torch.zeros(4, HEADS, 1, QUERIES, dtype=torch.float64)
    mask[2, ..., 1:] = -1e9  # of the source's own map, which both its rows have
    masked = swapped_self_attention(query, key, value, swaps, mask)
    torch.testing.assert_close(masked[2:], value[2:, :, :1].expand_as(masked[2:]))
    tensors = [tensor.requires_grad_() for tensor in (query, key, value)]
    assert torch.autograd.gradcheck(
        lambda *given: swapped_self_attention(*given, swaps), tensors, fast_mode=True
    )


def test_no_map_is_made():
    tokens = 5
    case = Case(replace(plain_edit(2, tokens), shared=torch.full((2, tokens), 0.5)), 0, 10, seed=0)
    swap = case.edit.cross_swap(0, 10, case.rows["source"], case.rows["targets"])
    swaps = case.edit.self_swaps(0, 10, **case.rows)
    cross_tensors, self_tensors = (case.tensors(torch.float32, keys=keys) for keys in (tokens, QUERIES))
    for mode in (
        fused(lambda: swapped_cross_attention(*cross_tensors, (swap,))),
        fused(lambda: swapped_self_attention(*self_tensors, swaps)),
    ):
        assert mode.rows
        assert not {shape for shape in mode.shapes if shape[-2:] in {(QUERIES, tokens), (QUERIES, QUERIES)}}
        assert not [name for name in mode.calls if "softmax" in name]


def test_swaps_in_a_layer_read_nothing_back_from_the_device():
    case = Case(replace(plain_edit(2), shared=torch.full((2, 5), 0.5)), 0, 10, seed=0)
    swap = case.edit.cross_swap(0, 10, case.rows["source"], case.rows["targets"])
    tensors = case.tensors(torch.float32, keys=5)
    mode = fused(lambda: swapped_cross_attention(*tensors, (swap,)))
    assert not {"aten._local_scalar_dense.default", "aten.nonzero.default"} & mode.calls.keys()


def test_a_tau_counts_steps_from_the_noisy_end():
    edit = plain_edit(until=0.6)
    active = [edit.cross_swap(step, 5, 0, (1,)) is not None for step in range(5)]
    assert active == [True, True, True, False, False]
    assert [len(edit.self_swaps(step, 5, 2, (3,), 0, (1,))) for step in range(5)] == [2, 2, 2, 0, 0]


@settings(deadline=None)
@given(hundredths=st.integers(0, 100), num_steps=st.integers(1, 200))
@example(hundredths=29, num_steps=100)  # 0.29 * 100 is 28.999999999999996
def test_a_tau_is_not_hurt_by_rounding(hundredths, num_steps):
    single = plain_edit(until=hundredths / 100)
    double = replace(single, cross_until=torch.full((1, 5), hundredths / 100, dtype=torch.float64))
    whole = hundredths * num_steps // 100
    for step in {max(whole - 1, 0), whole}:
        is_active = step < whole
        for edit in (single, double):
            assert (edit.cross_swap(step, num_steps, 0, (1,)) is not None) == is_active
        assert bool(single.self_swaps(step, num_steps, 0, (1,))) == is_active


def test_nothing_to_do_is_no_swap():
    assert plain_edit(until=0.0).cross_swap(0, 10, 0, (1,)) is None
    assert replace(plain_edit(), shared=torch.zeros(1, 5)).cross_swap(0, 10, 0, (1,)) is None
    assert plain_edit().self_swaps(9, 10, 0, (1,)) == ()


def test_factors_act_after_the_swaps_are_over():
    edit = replace(plain_edit(until=0.5), factors=torch.full((1, 5), 2.0))
    swap = edit.cross_swap(9, 10, 0, (1,))
    assert swap is not None
    assert torch.equal(swap.from_target, edit.factors)
    assert not swap.from_source.any()


def test_without_guidance_there_is_no_unconditional_swap():
    assert plain_edit().self_swaps(0, 10, 0, (1,)) == (SelfSwap(0, (1,)),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfSwap(1, (1,)), r"`targets` \(1,\) must name at least one row, and not its `source` 1"),
        (lambda: SelfSwap(0, ()), r"`targets` \(\) must name at least one row"),
        (lambda: SelfSwap(0, (2, 2)), r"Each of the rows \[2, 2\] can get only one map"),
        (
            lambda: CrossSwap(0, (1, 2), torch.zeros(1, 5, 5), torch.zeros(1, 5)),
            r"`from_source` \(1, 5, 5\) and `from_target` \(1, 5\) do not describe the 2 rows",
        ),
        (
            lambda: CrossSwap(0, (1,), torch.zeros(1, 5, 4), torch.zeros(1, 5)),
            r"`from_target` \(1, 5\) do not",
        ),
        (lambda: plain_edit().cross_swap(0, 10, 0, (1, 2)), r"do not describe the 2 rows"),
        (
            lambda: replace(plain_edit(), factors=torch.ones(1, 4)),
            r"`factors` is \(1, 4\) and `matrices` is \(1, 5, 5\)",
        ),
        (
            lambda: replace(plain_edit(), cross_until=torch.full((1, 5), 1.5)),
            r"`cross_until` must lie in \[0, 1\], got 1\.5 to 1\.5",
        ),
        (lambda: replace(plain_edit(), self_until=-0.1), r"`self_until` must lie in \[0, 1\], got -0\.1"),
        (lambda: replace(plain_edit(), self_until=float("nan")), r"`self_until` must lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("swaps", "message"),
    [
        (
            [CrossSwap(0, (4,), torch.ones(1, 5, 5), torch.ones(1, 5))],
            r"rows \(0, 4\) .* batch has 4 rows",
        ),
        (
            [CrossSwap(0, (1,), torch.ones(1, 5, 5), torch.ones(1, 5))] * 2,
            r"Each of the rows \[1, 1\] can get only one map",
        ),
        (
            [CrossSwap(0, (1,), torch.ones(1, 7, 6), torch.ones(1, 6))],
            r"maps 7 source tokens to 6 target tokens, but the text of this evaluation has 5",
        ),
    ],
)
def test_a_swap_that_does_not_fit_the_evaluation_is_refused(swaps, message):
    tensors = Case(plain_edit(), 0, 10, seed=0).tensors(torch.float32, keys=5)
    with pytest.raises(ValueError, match=message):
        swapped_cross_attention(*tensors, swaps)


@pytest.mark.parametrize("rows", [(0, (-1,)), (5, (1,))])
def test_a_self_swap_of_rows_that_are_not_there_is_refused(rows):
    tensors = Case(plain_edit(), 0, 10, seed=0).tensors(torch.float32, keys=QUERIES)
    with pytest.raises(ValueError, match="batch has 4 rows"):
        swapped_self_attention(*tensors, [SelfSwap(*rows)])
