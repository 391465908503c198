"""What users do with diffusers' pipelines works with this one, too."""

import copy
import inspect
import threading

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, PNDMScheduler
from peft import LoraConfig

pytestmark = pytest.mark.families("sd", "sdxl")

TARGET = "a green pear on grass"


@pytest.fixture
def edit(picture):
    """An edit with its own mask, as pixels."""
    mask = np.zeros((6, 8))
    mask[:, 4:] = 1

    def run(pipe, **changes):
        options = {"prompt": TARGET, "mask_image": mask, "num_inference_steps": 4, "output_type": "np"}
        return pipe(picture, **{**options, **changes}).images

    return run


@pytest.fixture
def lora_pipe(make_pipe, make_unet, family, pipe):
    """A pipeline with its own LoRA layers in the UNet and the text encoders."""
    unet, encoders = make_unet(), {name: copy.deepcopy(getattr(pipe, name)) for name in family.encoders}
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    for encoder in encoders.values():
        encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    return make_pipe(unet=unet, **encoders)


def lora_scales(pipe):
    models = [one for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    return [dict(part.scaling) for model in models for part in model.modules() if hasattr(part, "lora_A")]


def test_lora_scale(lora_pipe, edit):
    before = lora_scales(lora_pipe)
    assert len(before) > 4
    images = [edit(lora_pipe, cross_attention_kwargs={"scale": scale}) for scale in (0.0, 0.5, 1.0)]
    assert np.abs(images[0] - images[1]).max() > 1e-5
    assert np.abs(images[1] - images[2]).max() > 1e-5
    np.testing.assert_allclose(images[2], edit(lora_pipe), atol=1e-6)
    assert lora_scales(lora_pipe) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["callback", "unet", "text_encoder"])
def test_components_come_back_after_an_error(lora_pipe, edit, monkeypatch, error, where):
    freed = []
    monkeypatch.setattr(lora_pipe, "maybe_free_model_hooks", lambda: freed.append(True))

    def fail(*args, **kwargs):
        raise error("boom")

    changes = {"cross_attention_kwargs": {"scale": 0.5}}
    if where == "callback":
        changes["callback_on_step_end"] = fail
    else:
        monkeypatch.setattr(getattr(lora_pipe, where), "forward", fail)
    before = lora_scales(lora_pipe)
    with pytest.raises(error, match="boom"):
        edit(lora_pipe, **changes)
    assert lora_scales(lora_pipe) == before
    assert freed == [True]


def test_textual_inversion(make_pipe, family, pipe, edit):
    names = [*family.encoders, *(name.replace("text_encoder", "tokenizer") for name in family.encoders)]
    pipe = make_pipe(**{name: copy.deepcopy(getattr(pipe, name)) for name in names})
    for name in family.encoders:
        encoder = getattr(pipe, name)
        vectors = 3 * torch.randn(2, encoder.config.hidden_size)
        tokenizer = getattr(pipe, name.replace("text_encoder", "tokenizer"))
        pipe.load_textual_inversion(
            {"<cube>": vectors}, token="<cube>", text_encoder=encoder, tokenizer=tokenizer
        )
    assert np.abs(edit(pipe, prompt="a <cube> on grass") - edit(pipe, prompt="a on grass")).max() > 1e-6
    shown = edit(pipe, prompt="a <cube> on grass")
    embeds = family.encoded(pipe, "a <cube> on grass")
    np.testing.assert_allclose(edit(pipe, prompt=None, **embeds), shown, atol=1e-4)


def test_clip_skip_and_guidance_rescale(pipe, edit):
    usual = edit(pipe)
    assert np.abs(edit(pipe, clip_skip=1) - usual).max() > 1e-6
    assert np.abs(edit(pipe, guidance_rescale=0.7) - usual).max() > 1e-6


@pytest.mark.families("sd", slow=["sdxl"])
def test_attention_slicing_changes_nothing(make_pipe, make_unet, edit):
    pipe = make_pipe(unet=make_unet())
    usual = edit(pipe)
    pipe.enable_attention_slicing(1)
    np.testing.assert_allclose(edit(pipe), usual, atol=1e-4)
    pipe.disable_attention_slicing()


@pytest.mark.families("sd")
def test_vae_slicing_and_tiling(make_pipe, vae, edit):
    pipe = make_pipe(vae=copy.deepcopy(vae))
    usual = edit(pipe)
    pipe.vae.enable_slicing()
    np.testing.assert_allclose(edit(pipe), usual, atol=1e-4)


def test_callbacks_see_and_change_each_step(pipe, edit):
    seen = []

    def look(pipeline, step, timestep, tensors):
        assert pipeline is pipe
        seen.append((step, int(timestep), sorted(tensors)))
        return tensors

    names = list(pipe._callback_tensor_inputs)
    watched = edit(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names)
    np.testing.assert_array_equal(watched, edit(pipe))
    assert [step for step, *_ in seen] == [0, 1, 2]
    assert [timestep for _, timestep, _ in seen] == [501, 251, 1]
    assert seen[0][2] == sorted(names)

    unguided = edit(
        pipe,
        guidance_scale=1.0,
        callback_on_step_end=lambda *given: given[3],  # in which the negative ones are `None`
        callback_on_step_end_tensor_inputs=names,
    )
    np.testing.assert_array_equal(unguided, edit(pipe, guidance_scale=1.0))

    def blank(pipeline, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    assert not edit(pipe, callback_on_step_end=blank, output_type="latent").any()


@pytest.mark.families("sd", slow=["sdxl"])
def test_interrupting_stops_decoding(pipe, edit):
    steps = []

    def stop(pipeline, step, timestep, tensors):
        steps.append(step)
        pipeline._interrupt = step == 1
        return {}

    edit(pipe, callback_on_step_end=stop)
    assert steps == [0, 1]
    assert pipe.interrupt
    steps.clear()
    edit(pipe, callback_on_step_end=lambda *_: steps.append(0))
    assert len(steps) == 3  # the next call starts afresh


def test_from_pipe_both_ways(family, pipe, edit):
    text_to_image = family.plain.from_pipe(pipe, **family.silent)
    assert text_to_image.unet is pipe.unet
    back = family.diffedit.from_pipe(text_to_image)
    back.set_progress_bar_config(disable=True)
    np.testing.assert_array_equal(edit(back), edit(pipe))


@pytest.mark.families("sd", slow=["sdxl"])
def test_saving_and_loading(family, pipe, edit, tmp_path):
    pipe.save_pretrained(tmp_path)
    text_to_image = family.plain.from_pretrained(tmp_path)
    for loaded in (
        family.diffedit(**text_to_image.components, **family.silent),
        family.diffedit.from_pretrained(tmp_path),
    ):
        loaded.set_progress_bar_config(disable=True)
        np.testing.assert_allclose(edit(loaded), edit(pipe), atol=1e-4)
        assert {name: loaded.config[name] for name in family.silent} == family.silent


@pytest.mark.families("sd", slow=["sdxl"])
def test_loading_as_a_custom_pipeline(family, pipe, edit, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path, custom_pipeline=inspect.getfile(family.diffedit), trust_remote_code=True
    )
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded).__name__ == family.diffedit.__name__
    np.testing.assert_allclose(edit(loaded), edit(pipe), atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
@pytest.mark.parametrize("scheduler_class", [PNDMScheduler, EulerDiscreteScheduler])
def test_the_checkpoints_own_sampler_will_do(make_pipe, pipe, edit, scheduler_class):
    """Stable Diffusion comes with PNDM, SDXL with Euler; only the training schedule is used."""
    other = make_pipe(scheduler=scheduler_class.from_config(pipe.scheduler.config))
    np.testing.assert_allclose(edit(other), edit(pipe), atol=1e-4)


@pytest.mark.families("sd")
def test_two_threads_share_a_pipeline(pipe, edit):
    expected = {steps: edit(pipe, num_inference_steps=steps) for steps in (4, 6)}
    found = {}

    def work(steps):
        found[steps] = edit(pipe, num_inference_steps=steps)

    threads = [threading.Thread(target=work, args=(steps,)) for steps in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for steps, images in expected.items():
        np.testing.assert_allclose(found[steps], images, atol=1e-6)


class Checker(torch.nn.Module):
    """Flags given images, like diffusers' safety checker."""

    def __init__(self, flags):
        super().__init__()
        self.flags = flags
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, images, clip_input):
        assert clip_input.shape[0] == images.shape[0] == len(self.flags)
        return images, self.flags


class Extractor:
    def __call__(self, images, return_tensors):
        pixels = np.stack([np.asarray(image, dtype=np.float32) / 255 for image in images])
        return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2))


class Batch:
    def __init__(self, pixel_values):
        self.pixel_values = pixel_values

    def to(self, device):
        return self


@pytest.mark.families("sd")
def test_the_safety_checker_sees_and_blackens(pipe, picture, make_pipe):
    checked = make_pipe()
    checked.safety_checker, checked.feature_extractor = Checker([False, True]), Extractor()
    mask = np.eye(8)[:6]
    options = {"prompt": [TARGET, "a mug"], "mask_image": mask, "num_inference_steps": 2}
    result = checked(picture, preserve_background=True, **options)
    assert result.nsfw_content_detected == [False, True]
    assert np.asarray(result.images[0]).any()
    assert not np.asarray(result.images[1]).any()
    usual = pipe(picture, preserve_background=True, **options).images[0]
    assert np.array_equal(np.asarray(result.images[0]), np.asarray(usual))


def test_offload_order_names_every_model(pipe):
    order = pipe.model_cpu_offload_seq.split("->")
    models = [name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)]
    assert set(models) <= set(order)


def test_model_offload_hooks(make_pipe, edit, pipe):
    """accelerate's hooks, with the CPU as both devices: every model is called through its hook."""
    from accelerate import cpu_offload_with_hook

    models = {name: one for name, one in pipe.components.items() if isinstance(one, torch.nn.Module)}
    parts = {name: copy.deepcopy(one) for name, one in models.items()}
    offloaded = make_pipe(**parts)
    hook = None
    for name in offloaded.model_cpu_offload_seq.split("->"):
        if name in parts:
            _, hook = cpu_offload_with_hook(parts[name], "cpu", prev_module_hook=hook)
    np.testing.assert_allclose(edit(offloaded), edit(pipe), atol=1e-4)


@pytest.mark.gpu
def test_model_cpu_offload_on_a_gpu(make_pipe, edit, pipe):
    modules = {name: one for name, one in pipe.components.items() if isinstance(one, torch.nn.Module)}
    offloaded = make_pipe(**copy.deepcopy(modules))
    offloaded.enable_model_cpu_offload()
    np.testing.assert_allclose(edit(offloaded), edit(pipe), atol=1e-2)
    assert offloaded.unet.device.type == "cpu"


@pytest.mark.families("sd")
@pytest.mark.slow
def test_a_compiled_unet(make_pipe, make_unet, edit, pipe, picture):
    """Compiled once, for all timesteps and both batch sizes; the backend is not ours to test."""
    compiled = make_pipe(unet=make_unet())
    trajectory = compiled.invert(image=picture, num_inference_steps=4).trajectory
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled.unet = torch.compile(compiled.unet, backend=backend)
    expected = edit(pipe)
    np.testing.assert_allclose(edit(compiled), expected, atol=1e-4)
    seen = len(graphs)
    edit(compiled, num_inference_steps=7)
    assert len(graphs) == seen
    # and known to be the same model
    np.testing.assert_allclose(edit(compiled, trajectory=trajectory), expected, atol=1e-4)
