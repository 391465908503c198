"""Half precision: edits are close to float32's, evaluations are the pipelines' own, and overflow is named."""

import pytest
import torch

from tests.flow.conftest import of_flows
from tests.flow.qwen import QWEN
from tests.flow.sd3 import SD3
from tests.flow.test_laws import check_received
from tests.flow.test_plugins import last_layer

HALVES = [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
WHAT_TO_DO = "run the model in float32 or bfloat16, or its VAE alone in float32"


def narrowed(pipe, dtype, **others):
    """A pipeline with its models in half precision, apart from those with a type of their own."""
    for name, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            torch.nn.Module.to(module, others.get(name, dtype))
    return pipe


@of_flows(SD3, QWEN)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    "kept", [{"vae": torch.float32}, pytest.param({}, marks=pytest.mark.slow)], ids=["VAE", "none"]
)
def test_an_edit_is_close_to_that_in_float32(pipe, copied, edit, dtype, kept):
    usual, narrow = edit(pipe, output_type="pt"), narrowed(copied(), dtype, **kept)
    found = edit(narrow, output_type="pt")
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert (found - usual).abs().mean() < 0.02
    types = {name: one.dtype for name, one in narrow.components.items() if isinstance(one, torch.nn.Module)}
    assert types == {name: kept.get(name, dtype) for name in types}


@of_flows()
def test_a_transformer_in_half_precision_receives_what_its_own_pipeline_gives_it(family, copied, latents):
    pipe = narrowed(copied(), torch.bfloat16)
    check_received(family, family.make(**pipe.components), pipe, latents)


LAYERS = {
    "the VAE's encoder": lambda pipe: pipe.vae.encoder.conv_out,
    "the VAE's decoder": lambda pipe: pipe.vae.decoder.conv_out,
    "the embeddings of `prompt`": lambda pipe: pipe.text_encoder.get_input_embeddings(),
    r"the mask's predictions": last_layer,
    r"the inversion at step 0": last_layer,
    r"the decoding at step 1": last_layer,
}
EVALUATIONS = {"the inversion at step 0": 1, "the decoding at step 1": 4}
"""Of the transformer, before what is to go wrong: one for the mask, two for the inversion and one for a step."""


@of_flows(QWEN)
@pytest.mark.parametrize("stage", LAYERS)
def test_what_is_not_finite_is_named(copied, edit, stage):
    pipe = copied()
    calls = []

    def spoil(module, inputs, output):
        calls.append(1)
        return output if len(calls) <= EVALUATIONS.get(stage, 0) else torch.full_like(output, float("nan"))

    LAYERS[stage](pipe).register_forward_hook(spoil)
    with pytest.raises(FloatingPointError, match=f"came from {stage}.* {WHAT_TO_DO}"):
        edit(pipe, mask_image=None, num_maps_per_mask=1, focus=False, inpaint_strength=1.0, output_type="pt")


@of_flows(SD3)
def test_an_overflow_in_float16_is_named(copied, edit):
    pipe = narrowed(copied(), torch.float16)
    torch.nn.init.uniform_(last_layer(pipe).weight, 0, 6e4, torch.Generator().manual_seed(0))
    with pytest.raises(FloatingPointError, match=rf"came from the inversion at step \d.* {WHAT_TO_DO}"):
        edit(pipe)
