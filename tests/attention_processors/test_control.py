from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    CustomDiffusionAttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    SlicedAttnProcessor,
)
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.control import (
    AttentionControl,
    AttentionPlan,
    ControlledAttnProcessor,
    controlled_attention,
)
from semantic_edit.attention_processors.install import installed
from semantic_edit.attention_processors.swaps import CrossSwap, PromptSwaps, SelfSwap

TOKENS = 5
FINE, COARSE = 8 * 12, 4 * 6  # the queries of the UNet's two resolutions for `_inputs`
# [uncond source, uncond target, uncond target, source, target, target]
ROWS: dict[str, Any] = {
    "source": 3,
    "targets": (4, 5),
    "unconditional_source": 0,
    "unconditional_targets": (1, 2),
}
# Of the whole UNet against explicit maps in float64, relative to the largest value of the output.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 5e-6, torch.float16: 6e-3, torch.bfloat16: 4e-2}


def _inputs(
    unet: UNet2DConditionModel, batch: int = 6, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(batch, 4, 8, 12, generator=generator)
    text = torch.randn(batch, TOKENS, unet.config.cross_attention_dim, generator=generator)
    return latents.to(dtype), 10, text.to(dtype)


def _edit(seed: int = 0, **changes: Any) -> PromptSwaps:
    """One target by Replace, one by Refine, with weights and word-wise schedules."""
    generator = torch.Generator().manual_seed(seed)

    def any_of(*choices: float) -> torch.Tensor:
        picks = torch.randint(len(choices), (2, TOKENS), generator=generator)
        return torch.tensor(choices, dtype=torch.float64)[picks]

    shared = any_of(0, 1)
    shared[0] = 1
    edit = PromptSwaps(
        matrices=torch.rand(2, TOKENS, TOKENS, generator=generator, dtype=torch.float64),
        shared=shared,
        factors=any_of(1, 1, 2, -1),
        cross_until=any_of(0.3, 0.6, 1),
        self_until=0.4,
        unconditional_self_until=0.7,
    )
    return replace(edit, **changes)


def _plan(edit: PromptSwaps, step: int, num_steps: int, **options: Any) -> AttentionPlan:
    swap = edit.cross_swap(step, num_steps, ROWS["source"], ROWS["targets"])
    return AttentionPlan(
        cross_swaps=() if swap is None else (swap,),
        self_swaps=edit.self_swaps(step, num_steps, **ROWS),
        **options,
    )


def _controlled(unet: UNet2DConditionModel, plan: AttentionPlan | None, *inputs: Any) -> torch.Tensor:
    with BorrowedNetwork(unet) as borrowed:
        return _under(plan, borrowed, *inputs)


def _under(plan: AttentionPlan | None, borrowed: BorrowedNetwork, *inputs: Any) -> torch.Tensor:
    with controlled_attention(borrowed) as control:
        control.plan = plan
        return borrowed(*inputs).sample


def _layer(attn: Attention, plan: AttentionPlan) -> Callable[..., torch.Tensor]:
    """A single layer under a plan."""
    borrowed = BorrowedNetwork(attn)
    attn.set_processor(ControlledAttnProcessor(borrowed, attn.processor, AttentionControl(plan)))
    return borrowed


def _raise_boom() -> None:
    raise RuntimeError("boom")


@torch.no_grad()
@pytest.mark.parametrize("plan", [None, AttentionPlan()], ids=["no plan", "empty plan"])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_the_prediction_is_the_same_to_the_bit(make_unet, dtype, plan):
    unet = make_unet().to(dtype)
    inputs = _inputs(unet, dtype=dtype)
    unet.set_attn_processor(AttnProcessor2_0())
    assert torch.equal(_controlled(unet, plan, *inputs), unet(*inputs).sample)


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {"only_cross_attention": True},
        {
            "down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "CrossAttnUpBlock2D"),
            "attention_head_dim": 8,
        },
        {"use_linear_projection": True, "upcast_attention": True, "attention_head_dim": (2, 4)},
        {"transformer_layers_per_block": 2, "cross_attention_dim": 24},
    ],
    ids=["text in attn1, as the 2.x upscaler", "attention on pictures", "2.1", "deep"],
)
def test_so_it_is_in_unets_of_other_kinds(make_unet, settings):
    unet = make_unet(**settings)
    inputs = _inputs(unet)
    assert torch.equal(_controlled(unet, AttentionPlan(), *inputs), unet(*inputs).sample)


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {"cross_attention_norm": "layer_norm", "cross_attention_dim": 6},
        {
            "cross_attention_norm": "group_norm",
            "cross_attention_dim": 6,
            "cross_attention_norm_num_groups": 2,
        },
        {"qk_norm": "layer_norm"},
        {"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 1.5},
        {"spatial_norm_dim": 3, "query_dim": 32},
        {"scale_qk": False},
    ],
    ids=str,
)
def test_so_it_is_in_layers_of_every_kind(settings):
    torch.manual_seed(0)
    attn = Attention(**{"query_dim": 8, "heads": 2, "dim_head": 4, **settings}).eval()
    is_picture = {"norm_num_groups", "spatial_norm_dim"} & settings.keys()
    width = settings.get("query_dim", 8)
    states = torch.randn(2, width, 3, 5) if is_picture else torch.randn(2, 7, width)
    options = {"temb": torch.randn(2, 3, 3, 5)} if "spatial_norm_dim" in settings else {}
    if "cross_attention_dim" in settings:
        options["encoder_hidden_states"] = torch.randn(2, 5, 6)
    expected = attn(states, **options)
    tolerance = 0 if attn.scale_qk else 1e-6  # without it diffusers takes its unfused processor
    actual = _layer(attn, AttentionPlan())(states, **options)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@torch.no_grad()
def test_masks_are_honoured(unet):
    inputs = _inputs(unet)
    mask = torch.ones(6, TOKENS)
    mask[2:, 3:] = 0
    expected = unet(*inputs, encoder_attention_mask=mask).sample
    assert not torch.equal(expected, unet(*inputs).sample)
    with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
        control.plan = AttentionPlan()
        assert torch.equal(borrowed(*inputs, encoder_attention_mask=mask).sample, expected)


@torch.no_grad()
def test_lora_stays_at_work(make_unet):
    unet = make_unet()
    inputs = _inputs(unet)
    plain = unet(*inputs).sample
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    expected = unet(*inputs).sample
    assert not torch.equal(expected, plain)
    assert torch.equal(_controlled(unet, AttentionPlan(), *inputs), expected)


@torch.no_grad()
@pytest.mark.parametrize("choice", ["plain", "sliced", "fused"])
def test_diffusers_other_ways_to_compute_the_same_are_taken_over(make_unet, choice):
    unet = make_unet()
    inputs = _inputs(unet)
    if choice == "plain":
        unet.set_default_attn_processor()
    elif choice == "sliced":
        unet.set_attn_processor(SlicedAttnProcessor(1))
    else:
        unet.fuse_qkv_projections()
    before = dict(unet.attn_processors)
    expected = unet(*inputs).sample
    torch.testing.assert_close(_controlled(unet, AttentionPlan(), *inputs), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(_controlled(unet, None, *inputs), expected)
    assert unet.attn_processors == before


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("step", "self_queries"), [(0, COARSE), (3, None), (5, COARSE), (8, None)])
def test_a_whole_unet_agrees_with_explicit_maps(make_unet, explicit, dtype, step, self_queries):
    edit, unet = _edit(seed=step), make_unet().to(dtype)
    latents, timestep, text = _inputs(unet, dtype=dtype)
    plan = _plan(edit, step, 10, self_queries=self_queries, value_embeds=text.roll(1, 1))
    actual = _controlled(unet, plan, latents, timestep, text)
    processor = explicit.AttnProcessor(
        explicit.Step(edit, step, 10, **ROWS), self_queries, text.roll(1, 1).double()
    )
    unet.double()
    with BorrowedNetwork(unet) as borrowed, installed(borrowed, lambda layer, present: processor):
        expected = borrowed(latents.double(), timestep, text.double()).sample
    plain = unet(latents.double(), timestep, text.double()).sample
    error, effect = ((other - expected).abs().max() / expected.abs().max() for other in (actual, plain))
    assert error < TOLERANCES[dtype], f"{error:.2g}"
    assert effect > 1e-3


@torch.no_grad()
def test_self_swaps_stay_out_of_layers_of_more_queries(unet):
    inputs = _inputs(unet)
    swaps = (SelfSwap(0, (1,)),)
    outputs = [
        _controlled(unet, AttentionPlan(self_swaps=swaps, self_queries=queries), *inputs)
        for queries in (COARSE - 1, COARSE, FINE, None)
    ]
    assert torch.equal(outputs[0], unet(*inputs).sample)
    assert not torch.equal(outputs[1], outputs[0])
    assert not torch.equal(outputs[2], outputs[1])
    assert torch.equal(outputs[3], outputs[2])


@torch.no_grad()
def test_rows_of_the_source_are_not_changed_by_an_edit_of_others(unet):
    inputs = _inputs(unet)
    edited = _controlled(unet, _plan(_edit(), 0, 10), *inputs)
    sources = [ROWS["source"], ROWS["unconditional_source"]]
    torch.testing.assert_close(edited[sources], unet(*inputs).sample[sources])


@torch.no_grad()
def test_layers_that_attend_to_text_alone_take_cross_swaps(make_unet):
    unet = make_unet(only_cross_attention=True)
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    outputs: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda layer, args, output: outputs.append(output))
    nothing = CrossSwap(0, (1,), torch.zeros(1, TOKENS, TOKENS), torch.zeros(1, TOKENS))
    _controlled(unet, AttentionPlan(cross_swaps=(nothing,)), *_inputs(unet))
    hook.remove()
    (output,) = outputs
    assert torch.equal(output[1], layer.to_out[0].bias.expand_as(output[1]))
    assert not torch.equal(output[0], layer.to_out[0].bias.expand_as(output[0]))


@torch.no_grad()
def test_no_map_is_made(unet):
    class Shapes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.last_two: set[tuple[int, ...]] = set()
            self.names: set[str] = set()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            self.names.add(str(function))
            results = result if isinstance(result, tuple) else (result,)
            self.last_two |= {tuple(each.shape[-2:]) for each in results if isinstance(each, torch.Tensor)}
            return result

    maps = {(queries, keys) for queries in (FINE, COARSE) for keys in (queries, TOKENS)}
    plan = _plan(_edit(), 0, 10, value_embeds=_inputs(unet)[2])
    with Shapes() as seen:
        _controlled(unet, plan, *_inputs(unet))
    assert not maps & seen.last_two
    assert not [name for name in seen.names if "softmax" in name]
    with (
        Shapes() as seen,
        BorrowedNetwork(unet) as borrowed,
        installed(borrowed, lambda layer, present: AttnProcessor()),
    ):
        borrowed(*_inputs(unet))
    assert maps & seen.last_two  # the net catches maps where they are made


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_the_text_itself_as_values_changes_no_bit(make_unet, dtype):
    unet = make_unet().to(dtype)
    inputs = _inputs(unet, dtype=dtype)
    plan = AttentionPlan(value_embeds=inputs[2].clone())
    assert torch.equal(_controlled(unet, plan, *inputs), unet(*inputs).sample)


@torch.no_grad()
def test_values_get_what_was_given_and_keys_the_text(unet):
    latents, timestep, text = _inputs(unet)
    learned = text.flip(0) + 1
    seen: dict[str, list[torch.Tensor]] = {"to_k": [], "to_v": []}

    def keep(kind: str) -> Callable[..., None]:
        return lambda layer, args: seen[kind].append(args[0])

    hooks = [
        module.register_forward_pre_hook(keep(name[-4:]))
        for name, module in unet.named_modules()
        if name.endswith((".attn2.to_k", ".attn2.to_v"))
    ]
    _controlled(unet, AttentionPlan(value_embeds=learned), latents, timestep, text)
    for hook in hooks:
        hook.remove()
    assert len(seen["to_k"]) == len(seen["to_v"]) == len(unet.attn_processors) // 2
    assert all(torch.equal(given, text) for given in seen["to_k"])
    assert all(torch.equal(given, learned) for given in seen["to_v"])


@torch.no_grad()
def test_values_are_normed_as_the_text_is():
    torch.manual_seed(0)
    attn = Attention(8, cross_attention_dim=6, heads=2, dim_head=4, cross_attention_norm="layer_norm")
    states, text = torch.randn(2, 7, 8), torch.randn(2, 5, 6)
    expected = attn(states, encoder_hidden_states=text)
    layer = _layer(attn, AttentionPlan(value_embeds=3 * text))  # the norm takes the 3 away
    torch.testing.assert_close(layer(states, encoder_hidden_states=text), expected, rtol=1e-3, atol=1e-4)


def test_gradients_are_right():
    torch.manual_seed(0)
    attn = Attention(query_dim=4, cross_attention_dim=3, heads=2, dim_head=2).double()
    states, text = torch.randn(3, 5, 4).double(), torch.randn(3, 2, 3).double()
    swap = CrossSwap(0, (1, 2), torch.rand(2, 2, 2), torch.tensor([[0.0, 0.0], [0.0, 2.0]]))

    def output(value_embeds: torch.Tensor, states: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return _layer(attn, AttentionPlan(value_embeds, (swap,)))(states, encoder_hidden_states=text)

    given = [tensor.requires_grad_() for tensor in (torch.randn(3, 2, 3).double(), states, text)]
    assert torch.autograd.gradcheck(output, given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_learned_values_stay_in_single_under_a_half_precision_unet(make_unet, dtype):
    unet = make_unet().to(dtype).requires_grad_(False)
    latents, timestep, text = _inputs(unet, dtype=dtype)
    learned = text.float().requires_grad_()
    _controlled(unet, AttentionPlan(learned), latents, timestep, text).float().square().sum().backward()
    assert learned.grad is not None
    assert learned.grad.dtype == torch.float32
    assert learned.grad.abs().max() > 0


def test_gradients_survive_checkpointing(make_unet):
    gradients = []
    for checkpointing in (False, True):
        unet = make_unet().requires_grad_(False)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        latents, timestep, text = _inputs(unet)
        learned = text.flip(0).requires_grad_()
        with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
            plan = control.plan = _plan(_edit(), 0, 10, value_embeds=learned, kept_queries=FINE)
            loss = borrowed(latents, timestep, text).sample.square().sum()
            loss = loss + sum(one.square().sum() for one in plan.maps)
            gradients.append(torch.autograd.grad(loss, learned)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_the_very_objects_come_back(unet):
    before = dict(unet.attn_processors)
    for _ in range(2):
        with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed):
            assert all(
                type(processor) is ControlledAttnProcessor for processor in unet.attn_processors.values()
            )
        assert all(unet.attn_processors[name] is processor for name, processor in before.items())


def test_they_come_back_after_an_error(unet):
    before = dict(unet.attn_processors)
    with (
        pytest.raises(RuntimeError, match="boom"),
        BorrowedNetwork(unet) as borrowed,
        controlled_attention(borrowed),
    ):
        _raise_boom()
    assert unet.attn_processors == before


@torch.no_grad()
def test_who_borrows_it_within_the_block_has_it_as_it_was(unet):
    before, inputs = dict(unet.attn_processors), _inputs(unet)
    plain = unet(*inputs).sample
    with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as outer:
        outer.plan = _plan(_edit(), 0, 10)
        edited = borrowed(*inputs).sample
        with BorrowedNetwork(unet) as inner, controlled_attention(inner):
            assert torch.equal(inner(*inputs).sample, plain)
        with pytest.raises(RuntimeError, match="boom"), BorrowedNetwork(unet), controlled_attention(borrowed):
            _raise_boom()
        assert torch.equal(borrowed(*inputs).sample, edited)
    assert unet.attn_processors == before


@torch.no_grad()
def test_the_plan_may_change_from_evaluation_to_evaluation(unet):
    inputs = _inputs(unet)
    with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
        plain = borrowed(*inputs).sample
        control.plan = _plan(_edit(), 0, 10)
        assert not torch.equal(borrowed(*inputs).sample, plain)
        control.plan = None
        assert torch.equal(borrowed(*inputs).sample, plain)


def test_two_threads_with_unets_of_their_own_do_not_meet(make_unet):
    unets = [make_unet(seed=seed) for seed in range(2)]
    before = [dict(unet.attn_processors) for unet in unets]
    plans = [_plan(_edit(seed), 0, 10) for seed in range(2)]
    with torch.no_grad():
        expected = [_controlled(unet, plan, *_inputs(unet)) for unet, plan in zip(unets, plans, strict=True)]
    both_inside = threading.Barrier(2, timeout=20)

    @torch.no_grad()
    def use(unet: UNet2DConditionModel, plan: AttentionPlan) -> list[torch.Tensor]:
        with BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
            control.plan = plan
            both_inside.wait()
            outputs = [borrowed(*_inputs(unet)).sample for _ in range(3)]
            both_inside.wait()
        return outputs

    with ThreadPoolExecutor(2) as pool:
        for outputs, sample in zip(pool.map(use, unets, plans), expected, strict=True):
            assert all(torch.equal(output, sample) for output in outputs)
    assert [dict(unet.attn_processors) for unet in unets] == before


class _UsersAttnProcessor(AttnProcessor2_0):
    """Looks like a plain attention processor, but could do anything."""


@pytest.mark.parametrize(
    "processor",
    [
        _UsersAttnProcessor(),
        IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=32, num_tokens=(2,)),
        CustomDiffusionAttnProcessor2_0(hidden_size=16, cross_attention_dim=32),
    ],
    ids=lambda processor: type(processor).__name__,
)
def test_processors_that_do_more_are_refused_before_anything_changes(make_unet, processor):
    unet = make_unet()
    unet.mid_block.attentions[0].transformer_blocks[0].attn2.set_processor(processor)
    before = dict(unet.attn_processors)
    message = (
        rf"mid_block\.attentions\.0\.transformer_blocks\.0\.attn2 has a {type(processor).__name__}, .*"
        r"unload_ip_adapter.*set_attn_processor\(AttnProcessor2_0\(\)\)"
    )
    with (
        pytest.raises(ValueError, match=message),
        BorrowedNetwork(unet) as borrowed,
        controlled_attention(borrowed),
    ):
        pass
    assert unet.attn_processors == before


@torch.no_grad()
@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            AttentionPlan(value_embeds=torch.zeros(2, TOKENS, 32)),
            r"`value_embeds` are \(2, 5, 32\) and the text of this evaluation is \(6, 5, 32\)",
        ),
        (
            AttentionPlan(value_embeds=torch.zeros(6, TOKENS, 24)),
            r"`value_embeds` are \(6, 5, 24\) and the text of this evaluation is \(6, 5, 32\)",
        ),
        (
            AttentionPlan(value_embeds=torch.zeros(6, TOKENS + 1, 32)),
            r"`value_embeds` are \(6, 6, 32\) and the text",
        ),
        (
            AttentionPlan(cross_swaps=(CrossSwap(0, (6,), torch.ones(1, 5, 5), torch.ones(1, 5)),)),
            r"rows \(0, 6\) .* this evaluation's batch has 6 rows",
        ),
        (AttentionPlan(self_swaps=(SelfSwap(6, (1,)),)), r"rows \(6, 1\) .* batch has 6 rows"),
        (
            AttentionPlan(cross_swaps=(CrossSwap(0, (1,), torch.ones(1, 7, 7), torch.ones(1, 7)),)),
            r"maps 7 source tokens to 7 target tokens, but the text of this evaluation has 5",
        ),
    ],
)
def test_a_plan_that_does_not_fit_names_both_sides(unet, plan, message):
    before = dict(unet.attn_processors)
    with pytest.raises(ValueError, match=message):
        _controlled(unet, plan, *_inputs(unet))
    assert unet.attn_processors == before


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_kept_maps_are_the_softmax_of_each_layers_own_queries_and_keys(make_unet, explicit_maps, dtype):
    unet = make_unet().to(dtype)
    inputs, plan = _inputs(unet, dtype=dtype), AttentionPlan(kept_queries=FINE)
    with explicit_maps(unet, FINE) as expected:
        plain = _controlled(unet, AttentionPlan(), *inputs)
    kept = _controlled(unet, plan, *inputs)
    tolerance = TOLERANCES[dtype] * plain.abs().max()
    assert (kept - plain).abs().max() <= tolerance
    assert len(plan.maps) == len(expected) > 1
    for ours, theirs in zip(plan.maps, expected.values(), strict=True):
        assert ours.dtype == theirs.dtype == torch.promote_types(dtype, torch.float32)
        assert (ours - theirs).abs().max() <= TOLERANCES[dtype]


@torch.no_grad()
def test_no_maps_are_kept_unasked(make_unet):
    unet, plan = make_unet(), AttentionPlan()
    _controlled(unet, plan, *_inputs(unet))
    assert plan.maps == []


@torch.no_grad()
def test_kept_maps_are_from_before_swaps_and_change_none(make_unet):
    unet = make_unet().double()
    inputs = _inputs(unet, dtype=torch.float64)
    plan = _plan(_edit(), 0, 10)
    keeping = _plan(_edit(), 0, 10, kept_queries=FINE)
    assert torch.equal(_controlled(unet, plan, *inputs), _controlled(unet, keeping, *inputs))
    first = keeping.maps[0]
    torch.testing.assert_close(first.sum(dim=-1), torch.ones_like(first[..., 0]))
    assert not torch.equal(first[ROWS["source"]], first[ROWS["targets"][0]])


def test_gradients_flow_through_kept_maps_and_what_they_give(make_unet, explicit_maps):
    unet = make_unet().double().requires_grad_(False)
    latents, timestep, text = _inputs(unet, dtype=torch.float64)
    text.requires_grad_()

    def gradient(kept_queries: int | None) -> torch.Tensor:
        plan = AttentionPlan(kept_queries=kept_queries)
        with explicit_maps(unet, FINE) as explicit:
            output = _controlled(unet, plan, latents, timestep, text)
        maps = list(explicit.values()) if kept_queries is None else plan.maps
        loss = output.square().mean() + sum(one.square().sum() for one in maps)
        return torch.autograd.grad(loss, text)[0]

    torch.testing.assert_close(gradient(FINE), gradient(None), rtol=1e-9, atol=1e-12)


def test_gradients_of_kept_maps_are_right(make_unet):
    unet = make_unet(block_out_channels=(4, 8), attention_head_dim=2).double().requires_grad_(False)
    latents, timestep, text = _inputs(unet, batch=1, dtype=torch.float64)

    def kept_map(value_embeds: torch.Tensor) -> torch.Tensor:
        plan = AttentionPlan(value_embeds, kept_queries=COARSE)
        _controlled(unet, plan, latents, timestep, text)
        (kept,) = plan.maps
        return kept

    assert torch.autograd.gradcheck(kept_map, text.clone().requires_grad_(), fast_mode=True)
