from __future__ import annotations

import copy
import itertools
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from semantic_edit.attention_processors.borrowing import (
    BorrowedNetwork,
    StandIn,
    frozen,
    recomputed_blocks,
)
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.attention_processors.control import AttentionPlan, controlled_attention
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.prefix import remembered_prefix


@pytest.fixture
def unet(make_unet: Callable[..., UNet2DConditionModel]) -> UNet2DConditionModel:
    """Not the shared one, because the tests change it."""
    return make_unet()


@pytest.fixture
def inputs(unet: UNet2DConditionModel) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(2, 5, unet.config.cross_attention_dim, generator=generator)
    return torch.randn(2, 4, 8, 8, generator=generator), 7, text


class EverythingIn:
    """A UNet with everything that this package puts into one, and the expected results of other callers."""

    def __init__(self, unet: UNet2DConditionModel, inputs: tuple[Any, ...]) -> None:
        self.unet, self.inputs = unet, inputs
        with torch.no_grad():
            self.usual = unet(*inputs).sample

    def run(self, within: Callable[[BorrowedNetwork], Any]) -> Any:
        with (
            lock_of(self.unet),
            BorrowedNetwork(self.unet) as borrowed,
            frozen(borrowed),
            recomputed_blocks(borrowed),
            controlled_attention(borrowed) as control,
            captured_cross_attention(borrowed, 64) as self.maps,
            remembered_prefix(borrowed) as prefix,
        ):
            control.plan = AttentionPlan(value_embeds=self.inputs[2].flip(1) + 1)
            prefix.begin(self.inputs[0])
            return within(borrowed)

    @torch.no_grad()
    def answers_others(self) -> bool:
        """As if nothing had been put into it."""
        return torch.equal(self.unet(*self.inputs).sample, self.usual)


@pytest.fixture
def everything(unet: UNet2DConditionModel, inputs: tuple[Any, ...]) -> EverythingIn:
    return EverythingIn(unet, inputs)


def state_of(unet: UNet2DConditionModel) -> list[Any]:
    names = (
        "forward",
        "processor",
        "_compiled_call_impl",
        "gradient_checkpointing",
        "_gradient_checkpointing_func",
    )
    own = [[id(vars(module).get(name)) for name in names] for module in unet.modules()]
    hooks = [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in unet.modules()]
    return [own, hooks, [parameter.requires_grad for parameter in unet.parameters()]]


@torch.no_grad()
def test_what_is_in_it_acts_for_the_borrower_alone(everything):
    """Not for callers of the network itself, before, between and after evaluations."""

    def within(borrowed: BorrowedNetwork) -> None:
        for number in (1, 2):
            assert everything.answers_others()
            assert not torch.equal(borrowed(*everything.inputs).sample, everything.usual)
            assert set(everything.maps.evaluations.values()) == {number}
        assert everything.answers_others()
        assert set(everything.maps.evaluations.values()) == {2}

    everything.run(within)
    assert everything.answers_others()


@torch.no_grad()
@pytest.mark.parametrize(
    "where", ["conv_in", "mid_block.attentions.0.transformer_blocks.0.attn2", "conv_out"]
)
def test_nor_for_another_thread_in_the_middle_of_an_evaluation(everything, where):
    expected = everything.run(lambda borrowed: borrowed(*everything.inputs).sample)
    answers = []

    def meanwhile(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as pool:
                answers.append(pool.submit(everything.answers_others).result())

    handle = everything.unet.get_submodule(where).register_forward_pre_hook(meanwhile)
    actual = everything.run(lambda borrowed: borrowed(*everything.inputs).sample)
    handle.remove()
    assert answers == [True]
    assert torch.equal(actual, expected)
    assert set(everything.maps.evaluations.values()) == {1}


@torch.no_grad()
def test_an_evaluation_that_fails_leaves_others_answered(everything):
    def within(borrowed: BorrowedNetwork) -> None:
        with pytest.raises(TypeError):
            borrowed(*everything.inputs, unknown=1)
        assert everything.answers_others()

    everything.run(within)


@torch.no_grad()
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
def test_copies_that_are_made_meanwhile_are_of_the_network_as_it_was(everything, copied):
    names = list(everything.unet.state_dict())
    double, seen = everything.run(
        lambda borrowed: (copied(everything.unet), list(everything.unet.state_dict()))
    )
    assert seen == names == list(double.state_dict())
    for parameter in double.parameters():
        parameter.add_(0.01)  # it shares nothing with the original
    assert everything.answers_others()
    for parameter, original in zip(double.parameters(), everything.unet.parameters(), strict=True):
        parameter.copy_(original)
    assert torch.equal(double(*everything.inputs).sample, everything.usual)


def test_gradients_of_others_are_theirs_meanwhile(everything):
    """Also for blocks that are recomputed after the borrowing has ended."""
    everything.unet.enable_gradient_checkpointing()
    everything.unet.requires_grad_(False)
    latents, timestep, text = everything.inputs

    def slope() -> torch.Tensor:
        given = text.clone().requires_grad_()
        return torch.autograd.grad(everything.unet(latents, timestep, given).sample.sum(), given)[0]

    expected = slope()
    assert torch.equal(everything.run(lambda borrowed: slope()), expected)
    given = text.clone().requires_grad_()
    within = everything.run(lambda borrowed: everything.unet(latents, timestep, given).sample)
    assert torch.equal(torch.autograd.grad(within.sum(), given)[0], expected)


def test_recomputing_blocks_takes_the_same_steps_and_keeps_no_maps_twice(everything):
    """Also in one of autograd's own threads, as in a backward pass on a GPU."""
    latents, timestep, text = everything.inputs

    def slope(checkpointing: bool) -> torch.Tensor:
        with (
            BorrowedNetwork(everything.unet) as borrowed,
            frozen(borrowed),
            recomputed_blocks(borrowed) if checkpointing else borrowed.changes(),
            controlled_attention(borrowed) as control,
            captured_cross_attention(borrowed, 64) as maps,
        ):
            values = text.flip(1).requires_grad_()
            plan = control.plan = AttentionPlan(values, kept_queries=64)
            sample = borrowed(latents, timestep, text).sample
            kept = len(plan.maps)
            loss = sample.square().sum() + sum(one.square().sum() for one in plan.maps)
            with ThreadPoolExecutor(1) as pool:
                (slope,) = pool.submit(torch.autograd.grad, loss, values).result()
            assert len(plan.maps) == kept > 0
            assert set(maps.evaluations.values()) == {1}
        return slope

    assert torch.equal(slope(True), slope(False))


def test_processors_that_others_set_meanwhile_are_theirs_and_the_result_is_refused(everything):
    other = AttnProcessor()
    with pytest.raises(
        RuntimeError, match=r"processor of down_blocks\..* was replaced from outside .* pipeline"
    ):
        everything.run(lambda borrowed: everything.unet.set_attn_processor(other))
    assert set(everything.unet.attn_processors.values()) == {other}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_was_there_comes_back_in_whichever_order_blocks_end(unet, order):
    """The inner ones win if they last longer."""
    before = state_of(unet)
    blocks = [BorrowedNetwork(unet) for _ in order]
    for block in blocks:
        block.__enter__()
        for name, module in unet.named_modules():
            block.replace(module, "forward", StandIn(block, module.forward))
            if name.endswith("attn1"):
                block.replace(module, "processor", StandIn(block, module.processor))
    for ended, which in enumerate(order, 1):
        blocks[which].__exit__()
        left = [blocks[one] for one in sorted(order[ended:])]
        if left:
            assert unet.forward.borrowed is left[-1]
    assert state_of(unet) == before


class Interrupting:
    """Raises KeyboardInterrupt where CPython looks for signals: at a function's start and behind a call of C's.

    Only in functions of this package and in contextlib's; in the others nothing changes yet, or any more.
    """

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event in ("call", "c_return") and ("attention_processors" in file or "contextlib" in file):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    def during(self, run: Callable[[], Any]) -> None:
        sys.setprofile(self)
        try:
            run()
        finally:
            sys.setprofile(None)


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # an interrupt of a generator that is thrown away
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_nothing_is_left_wherever_an_interrupt_cuts_it_off(make_unet, inputs, every):
    """From before the block until behind it; and nobody waits for the lock for ever."""
    small = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = make_unet(**small, block_out_channels=(8,), mid_block_type=None)
    everything, before, place = EverythingIn(unet, inputs), state_of(unet), 1
    lock: Any = lock_of(unet)
    with ThreadPoolExecutor(1) as pool:
        while True:
            interrupting = Interrupting(place)
            try:
                interrupting.during(lambda: everything.run(lambda borrowed: None))
            except KeyboardInterrupt as interrupt:
                caught = interrupt  # noqa: F841 # what its traceback refers to is not collected yet
            if interrupting.left > 0:
                break
            assert state_of(unet) == before, f"interrupted at {place}"
            assert pool.submit(lock.acquire, blocking=False).result(), f"interrupted at {place}"
            pool.submit(lock.release).result()
            place += every
    assert place > 500
    assert everything.answers_others()
