"""When an evaluation is recorded, replayed, or run as usual; the graphs themselves are tested in tests/gpu."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.capture import captured_cross_attention
from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines import graphs
from semantic_edit.pipelines.graphs import cuda_graphs

pytestmark = pytest.mark.families("sd", "sdxl")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"


@pytest.fixture
def recorded(monkeypatch) -> list[tuple[Any, ...]]:
    """The shapes that were recorded; a replay recomputes from the recording's own tensors, as a graph would."""
    seen = []

    def record(forward: Callable[..., Any], inputs: Mapping[str, torch.Tensor], options: Mapping[str, Any]):
        held = {name: value.clone() for name, value in inputs.items()}
        outputs = forward(**held, **options)
        seen.append(tuple(held["sample"].shape))

        def replay() -> None:
            outputs[0].copy_(forward(**held, **options)[0])

        return graphs._Recording(held, outputs, replay)

    monkeypatch.setattr(graphs, "recorded", record)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    return seen


@pytest.fixture
def edit(picture):
    def run(pipe, **options):
        given = {"num_inference_steps": 5, "num_maps_per_mask": 3, "output_type": "latent", **options}
        generator = torch.Generator().manual_seed(0)
        return pipe(picture, TARGET, SOURCE, generator=generator, **given).images

    return run


@pytest.fixture
def own_pipe(make_pipe, pipe):
    models = {name: one for name, one in pipe.components.items() if isinstance(one, torch.nn.Module)}
    return make_pipe(**{name: copy.deepcopy(one) for name, one in models.items()})


def test_each_shape_is_recorded_once_and_edits_keep_their_bits(own_pipe, edit, recorded):
    """Six samples find the mask, one is inverted, two are decoded."""
    expected = edit(own_pipe)
    with cuda_graphs(own_pipe.unet):
        for _ in range(2):
            assert torch.equal(edit(own_pipe), expected)
        with torch.inference_mode():
            assert torch.equal(edit(own_pipe), expected)
    assert recorded == [(6, 4, 6, 8), (1, 4, 6, 8), (2, 4, 6, 8)]
    assert "forward" not in vars(own_pipe.unet)


@pytest.mark.families("sd")
def test_what_is_returned_is_not_overwritten_by_the_next_evaluation(own_pipe, recorded):
    latents, text, time = torch.randn(2, 1, 4, 6, 8), torch.randn(1, 16, 32), torch.tensor(7)
    with torch.no_grad(), cuda_graphs(own_pipe.unet):
        first, second = (own_pipe.unet(one, time, text, return_dict=False)[0] for one in latents)
        assert len(recorded) == 1
    expected = own_pipe.unet(latents[0], time, text).sample
    assert torch.equal(first, expected)
    assert not torch.equal(second, expected)


@pytest.mark.families("sd")
def test_a_change_of_the_model_is_seen(own_pipe, edit, recorded):
    unet = own_pipe.unet
    changes = [
        lambda: unet.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6),
        unet.disable_freeu,
        unet.train,
        lambda: unet.to(memory_format=torch.channels_last),
        lambda: setattr(unet, "conv_out", torch.nn.Conv2d(8, 4, 3, padding=1)),
    ]
    with cuda_graphs(unet):
        edit(own_pipe)
        for change in changes:
            recorded.clear()
            change()
            edit(own_pipe)
            assert len(recorded) == 3


@pytest.mark.families("sd")
def test_arguments_are_part_of_what_is_recorded(own_pipe, recorded):
    given = torch.randn(1, 4, 6, 8), torch.tensor(7), torch.randn(1, 16, 32)
    unet = own_pipe.unet
    with torch.no_grad(), cuda_graphs(unet):
        for options in ({}, {"cross_attention_kwargs": {"scale": 0.5}}, {"cross_attention_kwargs": None}):
            unet(*given, return_dict=False, **options)
        with torch.autocast("cpu", torch.bfloat16):
            unet(*given, return_dict=False)
        assert len(recorded) == 4


@pytest.mark.families("sd")
@pytest.mark.parametrize("kind", ["gradients", "tensors", "numbers", "dataclass", "hook", "own forward"])
def test_what_cannot_be_replayed_is_computed(own_pipe, recorded, kind):
    unet, options = own_pipe.unet, {"return_dict": kind == "dataclass"}
    latents, time, text = torch.randn(1, 4, 6, 8), torch.tensor(7), torch.randn(1, 16, 32)
    expected = unet(latents, time, text, return_dict=False)[0]
    if kind == "tensors":
        options["encoder_attention_mask"] = torch.ones(1, 16, dtype=torch.bool)
    if kind == "hook":
        unet.mid_block.register_forward_hook(lambda *_: None)
    if kind == "own forward":
        add_hook_to_module(unet.mid_block, ModelHook())
    with torch.set_grad_enabled(kind == "gradients"), cuda_graphs(unet):
        result = unet(latents, 7 if kind == "numbers" else time, text, **options)
        torch.testing.assert_close(result[0], expected, rtol=0, atol=1e-5)
        assert not recorded
        assert result[0].requires_grad == (kind == "gradients")


@pytest.mark.families("sd")
def test_work_on_attention_is_computed(make_style_pipe, make_unet, learned, edit, picture, recorded):
    pipe = make_style_pipe(unet=make_unet())
    options = {"local_blend": "pear", "output_type": "latent"}
    expected = pipe(TARGET, learned, **options).images
    with cuda_graphs(pipe.unet):
        assert torch.equal(pipe(TARGET, learned, **options).images, expected)
        with (
            torch.no_grad(),
            BorrowedNetwork(pipe.unet) as unet,
            captured_cross_attention(unet, 48) as maps,
        ):
            unet(torch.randn(1, 4, 6, 8), torch.tensor(7), torch.randn(1, 16, 32), return_dict=False)
        assert maps.totals
    assert not recorded


@pytest.mark.families("sd")
def test_without_a_gpu_all_is_computed(own_pipe, edit):
    expected = edit(own_pipe)
    with cuda_graphs(own_pipe.unet):
        assert torch.equal(edit(own_pipe), expected)


@pytest.mark.families("sd")
def test_the_forward_comes_back_after_an_error(own_pipe):
    own = own_pipe.unet.forward
    vars(own_pipe.unet)["forward"] = own
    with cuda_graphs(own_pipe.unet):
        assert own_pipe.unet.forward is not own
    with pytest.raises(RuntimeError, match="boom"), cuda_graphs(own_pipe.unet):
        raise RuntimeError("boom")
    assert vars(own_pipe.unet)["forward"] is own


@pytest.mark.families("sd")
def test_a_block_within_a_block_changes_nothing(own_pipe, edit, recorded):
    expected = edit(own_pipe)
    with cuda_graphs(own_pipe.unet):
        with cuda_graphs(own_pipe.unet):
            edit(own_pipe)
        assert torch.equal(edit(own_pipe), expected)
    assert len(recorded) == 3
    assert "forward" not in vars(own_pipe.unet)


@pytest.mark.families("sd")
def test_wrapped_and_offloaded_models_are_refused(make_unet):
    compiled = torch.compile(make_unet(), backend="eager")
    with pytest.raises(ValueError, match=r"`unet` is wrapped by `torch\.compile`"), cuda_graphs(compiled):
        pass
    offloaded = add_hook_to_module(make_unet(), ModelHook())
    with pytest.raises(ValueError, match=r"`unet` is offloaded"), cuda_graphs(offloaded):
        pass


@pytest.mark.families("sd", slow=["sdxl"])
def test_learning_replays_its_evaluations(make_style_pipe, make_unet, pictures, monkeypatch):
    """One graph for each number of images that are still being learned; outputs are overwritten, as a graph's are."""
    made = []

    def graph(run: Callable[..., Any], *inputs: torch.Tensor) -> Callable[..., Any]:
        made.append(len(inputs[0]))
        held: list[torch.Tensor] = []

        def replay(*inputs: torch.Tensor) -> Any:
            outputs = run(*inputs)
            for old in held:
                old.fill_(torch.nan)
            held[:] = [one.detach() for one in outputs]
            return outputs

        return replay

    monkeypatch.setattr("semantic_edit.pipelines.learning.differentiable_graph", graph)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    pipe = make_style_pipe(unet=make_unet())
    settings = LearningSettings(inner_steps=2, stop_below=0.02, converged_below=100.0, combine=True)

    def learn():
        return pipe.learn_mapping(pictures[:2], SOURCE, 3, settings=settings)

    expected = learn()
    assert not made
    with cuda_graphs(pipe.unet):
        found = learn()
    assert made[0] == 2
    assert len(set(made)) == len(made)
    for one, other in zip(found, expected, strict=True):
        assert one.report.backward_evaluations == other.report.backward_evaluations
        assert one.report.latent_errors == pytest.approx(other.report.latent_errors, rel=1e-3)
