"""What users do with diffusers' pipelines works with these: LoRAs, textual inversions, offloading and callbacks."""

import copy
import inspect
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch.testing import assert_close

from semantic_edit.attention_processors.locks import lock_of
from tests.conftest import make_picture
from tests.flow.conftest import FLOWS, of_flows
from tests.flow.flux import FLUX_DEV
from tests.flow.qwen import QWEN
from tests.flow.sd3 import SD3

SHARING = [one for one in FLOWS if "tau_s" in inspect.signature(one.edit.__call__).parameters]
LORA_ENCODERS = {"text_encoder": "text_encoder_lora_layers", "text_encoder_2": "text_encoder_2_lora_layers"}


def attention_argument(pipe):
    taken = inspect.signature(pipe.__call__).parameters
    return "attention_kwargs" if "attention_kwargs" in taken else "joint_attention_kwargs"


def scaled(pipe, scale):
    return {attention_argument(pipe): {"scale": scale}}


def write_lora(own, kind, folder):
    """A LoRA of all models that its family's files may have layers for; returns their names."""
    layers = {"transformer_lora_layers": adapted(own.transformer, ["to_q", "to_k", "to_v", "to_out.0"])}
    for name, argument in LORA_ENCODERS.items():
        if argument in inspect.signature(kind.save_lora_weights).parameters:
            layers[argument] = adapted(getattr(own, name), ["q_proj", "v_proj"])
    kind.save_lora_weights(folder, **layers)
    return {argument.removesuffix("_lora_layers") for argument in layers}


def adapted(module, targets):
    """Weights of a LoRA of a module, which stays as it is."""
    module = copy.deepcopy(module)
    module.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    return get_peft_model_state_dict(module)


@pytest.fixture
def lora_pipe(family, own, copied, tmp_path):
    pipe = copied()
    names = write_lora(own, family.edit, tmp_path)
    assert (tmp_path / "pytorch_lora_weights.safetensors").is_file()
    pipe.load_lora_weights(tmp_path)
    assert pipe.get_list_adapters().keys() == names
    return pipe


def lora_scales(pipe):
    models = [one for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    return [dict(part.scaling) for model in models for part in model.modules() if hasattr(part, "lora_A")]


@of_flows(FLUX_DEV, QWEN)
def test_a_lora_from_a_file_acts_by_its_scale_until_it_is_unloaded(pipe, lora_pipe, edit):
    plain, before = edit(pipe), lora_scales(lora_pipe)
    none, half, full = (edit(lora_pipe, **scaled(lora_pipe, scale)) for scale in (0.0, 0.5, 1.0))
    assert torch.equal(none, plain)
    assert (half - plain).abs().max() > 1e-3
    assert (full - half).abs().max() > 1e-3
    assert torch.equal(full, edit(lora_pipe))
    assert lora_scales(lora_pipe) == before
    lora_pipe.unload_lora_weights()
    assert torch.equal(edit(lora_pipe), plain)


@of_flows(SD3)
def test_an_inversion_is_of_the_model_with_its_lora(lora_pipe, edit, family, picture):
    told = {"height": picture.height, "width": picture.width, "num_inference_steps": 4, **family.called}
    trajectory = lora_pipe.invert("", picture, **told).trajectory
    edit(lora_pipe, trajectory=trajectory)
    lora_pipe.disable_lora()
    with pytest.raises(
        ValueError, match=r"`trajectory` was made with a LoRA, but none is active in this call"
    ):
        edit(lora_pipe, trajectory=trajectory)


def state_of(pipe):
    """Everything that a call may change for a while."""
    modules = {name: one for name, one in pipe.components.items() if isinstance(one, torch.nn.Module)}
    parts = [(f"{name}.{path}", part) for name, one in modules.items() for path, part in one.named_modules()]
    return {
        "own attributes": {name: {key for key in vars(part) if key[0] != "_"} for name, part in parts},
        "forwards": {name: vars(part).get("forward") for name, part in parts},
        "hooks": {name: (*part._forward_hooks, *part._forward_pre_hooks) for name, part in parts},
        "processors": {name: getattr(part, "processor", None) for name, part in parts},
        "types": {name: {(one.dtype, one.device.type) for one in part.parameters()} for name, part in parts},
        "scheduler": [(key, id(value)) for key, value in vars(pipe.scheduler).items()],
        "config": json.dumps(dict(pipe.scheduler.config), default=str),
        "lora": lora_scales(pipe),
    }


def last_layer(pipe):
    """The linear layer that gives the transformer's velocities."""
    final = getattr(pipe.transformer, "all_final_layer", None)
    return pipe.transformer.proj_out if final is None else final["2-1"].linear


def fail_in(part, error, monkeypatch, first=0):
    """Let a module's evaluations fail, from a given one on."""
    usual, calls = part.forward, []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) > first:
            raise error("boom")
        return usual(*args, **kwargs)

    monkeypatch.setattr(part, "forward", fail)


def is_free(lock):
    """Whether another thread could take it."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(lambda: lock.acquire(blocking=False) and lock.release() is None).result()


ENDS = [
    (error, where)
    for error in (KeyboardInterrupt, RuntimeError)
    for where in ("transformer", "callback", "text_encoder", "vae", "sharing", "words")
]


@of_flows(SD3)
@pytest.mark.parametrize(
    ("error", "where"), [ENDS[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in ENDS[1:])]
)
def test_components_stay_as_they_were_however_a_call_ends(family, lora_pipe, edit, monkeypatch, error, where):
    if where == "sharing" and family not in SHARING:
        pytest.skip("it shares no attention")
    usual, freed, changes = edit(lora_pipe), [], scaled(lora_pipe, 0.5)
    monkeypatch.setattr(lora_pipe, "maybe_free_model_hooks", lambda: freed.append(True))
    before = state_of(lora_pipe)

    def explain(pipe, **changes):
        width, height = family.size
        told = {"height": height, "width": width, "num_inference_steps": 4, **family.called, **changes}
        return pipe.explain(make_picture(1, width, height), "a red apple", **told)

    def fail(*_):
        raise error("boom")

    call = explain if where == "words" else edit
    changes |= {"callback": {"callback_on_step_end": fail}, "sharing": {"tau_s": 1.0}}.get(where, {})
    with monkeypatch.context() as spoiled:
        if where == "vae":
            fail_in(lora_pipe.vae.encoder, error, spoiled)
        elif where == "text_encoder":
            fail_in(lora_pipe.text_encoder, error, spoiled)
        elif where != "callback":
            fail_in(last_layer(lora_pipe), error, spoiled, first=0 if where == "words" else 2)
        with pytest.raises(error, match="boom"):
            call(lora_pipe, **changes)
    assert state_of(lora_pipe) == before
    assert freed == [True]
    assert is_free(lock_of(lora_pipe.transformer))
    assert torch.equal(edit(lora_pipe), usual)


@of_flows(QWEN)
def test_callbacks_see_and_change_each_step(family, pipe, edit):
    seen, names = [], list(pipe._callback_tensor_inputs)

    def look(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        seen.append((step, float(timestep), sorted(tensors)))
        return tensors

    guided = {**family.guidance, "negative_prompt": "a mug"}
    watched = edit(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names, **guided)
    assert torch.equal(watched, edit(pipe, **guided))
    assert [step for step, *_ in seen] == list(range(len(seen)))
    assert [time for _, time, _ in seen] == sorted((time for _, time, _ in seen), reverse=True)
    assert seen[0][2] == sorted(names)

    def blank(pipeline, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == len(seen) - 1 else {}

    assert not edit(pipe, callback_on_step_end=blank).any()


@of_flows(FLUX_DEV)
def test_interrupting_stops_decoding(pipe, edit):
    steps = []

    def stop(pipeline, step, timestep, tensors):
        steps.append(step)
        pipeline._interrupt = True
        return {}

    edit(pipe, callback_on_step_end=stop)
    assert steps == [0]
    assert pipe.interrupt
    steps.clear()
    edit(pipe, callback_on_step_end=lambda *_: steps.append(0))
    assert len(steps) > 1  # the next call starts afresh


@pytest.mark.parametrize("family", [FLUX_DEV], indirect=True, ids=str)
def test_a_textual_inversion_in_each_encoder_of_flux(copied, edit):
    pipe = copied()
    plain = edit(pipe)
    for encoder, tokenizer in ((pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2)):
        before = edit(pipe, prompt="a <cube> on grass")
        vectors = 3 * torch.randn(2, encoder.config.hidden_size)
        pipe.load_textual_inversion(
            {"<cube>": vectors}, token="<cube>", text_encoder=encoder, tokenizer=tokenizer
        )
        shown = edit(pipe, prompt="a <cube> on grass")
        assert (shown - before).abs().max() > 1e-4
    embeds, pooled, _ = pipe.encode_prompt("a <cube> on grass", max_sequence_length=12)
    given = {"prompt": None, "prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    assert_close(edit(pipe, **given), shown, rtol=0, atol=1e-5)
    assert_close(edit(pipe), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", [one for one in FLOWS if one is not FLUX_DEV], indirect=True, ids=str)
def test_other_families_have_no_textual_inversions(pipe, own):
    assert not hasattr(own, "load_textual_inversion")
    with pytest.raises(NotImplementedError, match=r"takes no textual inversions.* none for .*LoRA"):
        pipe.load_textual_inversion("cat.safetensors")


@of_flows()
def test_adapters_of_images_are_refused(pipe):
    with pytest.raises(
        NotImplementedError, match="takes no IP-Adapter, because its image would condition the model"
    ):
        pipe.load_ip_adapter("somewhere")


def test_models_are_offloaded_in_the_order_of_their_use(pipe, own):
    assert pipe.model_cpu_offload_seq == own.model_cpu_offload_seq
    order = pipe.model_cpu_offload_seq.split("->")
    models = [name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)]
    assert set(models) <= set(order)
    assert order[-2:] == ["transformer", "vae"]


@of_flows(SD3)
@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_offload_hooks(pipe, copied, edit, kind):
    """accelerate's hooks, with the CPU as both devices: every model is called through its hook."""
    from accelerate import cpu_offload, cpu_offload_with_hook

    offloaded, hook, loaded = copied(), None, []
    for name in offloaded.model_cpu_offload_seq.split("->"):
        module = getattr(offloaded, name, None)
        if module is None:
            continue
        if kind == "sequential":
            # which buffers go with it is diffusers' rule
            cpu_offload(module, torch.device("cpu"), offload_buffers=len(module._parameters) > 0)
            assert {one.device.type for one in module.parameters()} == {"meta"}
        else:
            _, hook = cpu_offload_with_hook(module, "cpu", prev_module_hook=hook)
        module._hf_hook.pre_forward = noted(loaded, name, module._hf_hook.pre_forward)
    assert torch.equal(edit(offloaded, output_type="pt"), edit(pipe, output_type="pt"))
    if kind == "model":
        assert set(loaded) == {name for name, one in offloaded.components.items() if hasattr(one, "_hf_hook")}


def noted(seen, name, usual):
    def note(*args, **kwargs):
        seen.append(name)
        return usual(*args, **kwargs)

    return note


@pytest.mark.gpu
@of_flows()
@pytest.mark.parametrize("offload", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_offloading_on_a_gpu(pipe, copied, edit, offload):
    offloaded = copied()
    getattr(offloaded, offload)()
    assert_close(edit(offloaded).cpu(), edit(pipe), rtol=0, atol=1e-2)
    assert offloaded.transformer.device.type != "cuda"
