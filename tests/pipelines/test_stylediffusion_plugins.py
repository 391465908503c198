"""What users do with diffusers' pipelines works with this one, too."""

import copy
import inspect

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, PNDMScheduler
from diffusers.models.attention_processor import SlicedAttnProcessor
from peft import LoraConfig, OFTConfig

from semantic_edit.denoisers.identity import model_fingerprint
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork

pytestmark = pytest.mark.families("sd", "sdxl")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
ONE_UPDATE = LearningSettings(inner_steps=1, stop_below=0.0, converged_below=100.0)


@pytest.fixture
def edit(learned):
    """An edit of the shared learned picture, as pixels."""

    def run(pipe, prompt=TARGET, network=learned, **options):
        return pipe(prompt, network, **{"output_type": "np", **options}).images

    return run


@pytest.fixture
def learn(picture):
    def run(pipe, steps=1, settings=ONE_UPDATE, **options):
        return pipe.learn_mapping(picture, SOURCE, steps, settings=settings, **options)

    return run


@pytest.fixture
def lora_pipe(make_style_pipe, make_unet, family, style_pipe):
    """A pipeline with its own LoRA layers in the UNet and the text encoders."""
    unet, encoders = make_unet(), {name: copy.deepcopy(getattr(style_pipe, name)) for name in family.encoders}
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    for encoder in encoders.values():
        encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    return make_style_pipe(unet=unet, **encoders)


def state_of(pipe):
    """The state that a call must not change: processors, hooks, gradient flags and LoRA scales."""
    models = [one for one in pipe.components.values() if isinstance(one, torch.nn.Module)]
    parts = [part for model in models for part in model.modules()]
    return (
        dict(pipe.unet.attn_processors),
        [len(module._forward_pre_hooks) for module in pipe.unet.modules()],
        [parameter.requires_grad for parameter in pipe.unet.parameters()],
        [dict(part.scaling) for part in parts if hasattr(part, "lora_A")],
    )


def test_lora_scale(family, lora_pipe, learn, edit):
    before = state_of(lora_pipe)
    assert any(before[2])
    assert len(before[3]) > 4
    networks = [learn(lora_pipe, cross_attention_kwargs={"scale": scale}) for scale in (0.0, 1.0)]
    assert not torch.equal(networks[0].walk, networks[1].walk)
    assert torch.equal(networks[1].walk, learn(lora_pipe).walk)
    scaled = edit(lora_pipe, network=networks[1], cross_attention_kwargs={"scale": 1.0})
    np.testing.assert_allclose(scaled, edit(lora_pipe, network=networks[1]), atol=1e-6)
    scaled = edit(lora_pipe, network=networks[0], cross_attention_kwargs={"scale": 0.0})
    adapted = [getattr(lora_pipe, name) for name in ("unet", *family.encoders)]
    for model in adapted:
        model.disable_adapters()
    np.testing.assert_allclose(scaled, edit(lora_pipe, network=networks[0]), atol=1e-6)
    for model in adapted:
        model.enable_adapters()
    assert state_of(lora_pipe) == before


@pytest.mark.families("sd")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["callback", "unet", "text_encoder"])
def test_components_come_back_after_an_edits_error(lora_pipe, learn, monkeypatch, error, where):
    network, freed = learn(lora_pipe, cross_attention_kwargs={"scale": 0.5}), []
    monkeypatch.setattr(lora_pipe, "maybe_free_model_hooks", lambda: freed.append(True))

    def fail(*args, **kwargs):
        raise error("boom")

    options = {"cross_attention_kwargs": {"scale": 0.5}, "local_blend": "apple"}
    if where == "callback":
        options["callback_on_step_end"] = fail
    else:
        monkeypatch.setattr(getattr(lora_pipe, where), "forward", fail)
    before = state_of(lora_pipe)
    with pytest.raises(error, match="boom"):
        lora_pipe(TARGET, network, **options)
    assert state_of(lora_pipe) == before
    assert freed == [True]


@pytest.mark.families("sd")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("evaluations", [0, 2, 5])
def test_components_come_back_after_an_error_while_learning(
    lora_pipe, learn, monkeypatch, error, evaluations
):
    """In the inversion, the unconditional prediction and an update."""
    freed, seen = [], []
    monkeypatch.setattr(lora_pipe, "maybe_free_model_hooks", lambda: freed.append(True))
    forward = lora_pipe.unet.forward

    def fail(*args, **kwargs):
        if len(seen) == evaluations:
            raise error("boom")
        seen.append(True)
        return forward(*args, **kwargs)

    before = state_of(lora_pipe)
    monkeypatch.setattr(lora_pipe.unet, "forward", fail)
    with pytest.raises(error, match="boom"):
        learn(lora_pipe, steps=2, cross_attention_kwargs={"scale": 0.5})
    assert state_of(lora_pipe) == before
    assert freed == [True]


def test_textual_inversion(make_style_pipe, tokenizer, text_encoder, learned):
    """Of the first encoder, because words are split by its tokenizer."""
    own = {"tokenizer": copy.deepcopy(tokenizer), "text_encoder": copy.deepcopy(text_encoder)}
    pipe = make_style_pipe(**own)
    torch.manual_seed(0)
    pipe.load_textual_inversion({"<cube>": 3 * torch.randn(2, 32)}, token="<cube>", **own)
    options = {"output_type": "latent", "output_attention_maps": True, "reweight": {"cube": 2.0}}
    result = pipe("a red <cube> on grass", learned, **options)
    words = list(result.attention_maps[1])
    assert {"a", "red", "cube", "on", "grass"} <= set(words)
    usual = pipe("a red cube on grass", learned, **options)
    assert not torch.equal(result.images, usual.images)
    torch.testing.assert_close(result.reconstruction, usual.reconstruction, rtol=0, atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
def test_attention_slicing_changes_nothing(make_style_pipe, make_unet, learned, edit, picture):
    pipe = make_style_pipe(unet=make_unet())
    usual = edit(pipe)
    pipe.enable_attention_slicing(1)
    np.testing.assert_allclose(edit(pipe), usual, atol=1e-4)
    sliced = pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE)
    assert {type(one) for one in pipe.unet.attn_processors.values()} == {SlicedAttnProcessor}
    pipe.disable_attention_slicing()
    usual = pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE)
    assert all(map(torch.equal, sliced.state_dict().values(), usual.state_dict().values()))


@pytest.mark.families("sd")
def test_vae_slicing(make_style_pipe, vae, edit):
    pipe = make_style_pipe(vae=copy.deepcopy(vae))
    prompts = [TARGET, "a mug"]
    usual = edit(pipe, prompts)
    pipe.vae.enable_slicing()
    np.testing.assert_allclose(edit(pipe, prompts), usual, atol=1e-4)


def test_callbacks_see_and_change_each_step(family, style_pipe, learned, edit):
    seen = []

    def look(pipeline, step, timestep, tensors):
        assert pipeline is style_pipe
        seen.append((step, int(timestep), {name: tuple(one.shape) for name, one in tensors.items()}))
        return tensors

    names = list(style_pipe._callback_tensor_inputs)
    watched = edit(style_pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names)
    np.testing.assert_array_equal(watched, edit(style_pipe))
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    assert [timestep for _, timestep, _ in seen] == [751, 501, 251, 1]
    embeds = family.encoded(style_pipe, [SOURCE, TARGET])
    text = {name: tuple(one.shape) for name, one in embeds.items()}
    negative = {f"negative_{name}": shape for name, shape in text.items()}
    assert seen[0][2] == {"latents": (2, 4, 6, 8), **text, **negative}

    def blank(pipeline, step, timestep, tensors):
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 3 else {}

    result = style_pipe(TARGET, learned, callback_on_step_end=blank, output_type="latent")
    assert not result.images.any()
    assert not result.reconstruction.any()


def test_changed_embeddings_are_used_from_then_on(style_pipe, learned):
    """If a callback sets another prompt's embeddings after the first step, the rest of the edit follows that prompt."""
    free = {"tau_v": 0.0, "tau_c": 0.0, "tau_s": 0.0, "tau_u": 0.0, "output_type": "latent"}
    names = list(style_pipe._callback_tensor_inputs)
    kept = {}

    def keep(pipeline, step, timestep, tensors):
        kept.setdefault(step, {name: one.clone() for name, one in tensors.items()})

    mug = style_pipe(
        "a mug",
        learned,
        negative_prompt="the table",
        callback_on_step_end=keep,
        callback_on_step_end_tensor_inputs=names,
        **free,
    ).images
    pear = style_pipe(
        TARGET, learned, callback_on_step_end=lambda p, step, *_: kept[step] if step == 0 else {}, **free
    )
    torch.testing.assert_close(pear.images, mug, rtol=0, atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
def test_a_callback_may_end_guidance(style_pipe, learned):
    """After that, the edit continues as with a guidance scale of 1."""
    options = {"tau_v": 0.0, "output_type": "latent"}
    reached = {}

    def keep(pipeline, step, timestep, tensors):
        reached[step] = tensors["latents"]
        return {"negative_prompt_embeds": None} if step == 1 else {}

    ended = style_pipe(TARGET, learned, callback_on_step_end=keep, **options)
    at_the_same_place = style_pipe(
        TARGET,
        learned,
        guidance_scale=1.0,
        callback_on_step_end=lambda p, step, *_: {"latents": reached[1]} if step == 1 else {},
        **options,
    )
    guided = style_pipe(TARGET, learned, **options)
    torch.testing.assert_close(ended.images, at_the_same_place.images, rtol=0, atol=1e-4)
    assert not torch.equal(ended.images, guided.images)


@pytest.mark.families("sd", slow=["sdxl"])
def test_interrupting_stops_decoding(style_pipe, learned, edit):
    steps = []

    def stop(pipeline, step, timestep, tensors):
        steps.append(step)
        pipeline._interrupt = step == 1
        return {}

    edit(style_pipe, callback_on_step_end=stop, output_attention_maps=True)
    assert steps == [0, 1]
    assert style_pipe.interrupt
    steps.clear()
    edit(style_pipe, callback_on_step_end=lambda *_: steps.append(0))
    assert len(steps) == 4  # the next call starts afresh


def test_from_pipe_to_and_from_the_others(
    family, style_pipe, make_pipe, image_encoder, feature_extractor, edit
):
    expected = edit(style_pipe)
    for other in (family.diffedit, family.plain):
        changed = other.from_pipe(style_pipe, **family.silent)
        assert changed.unet is style_pipe.unet
        back = family.stylediffusion.from_pipe(changed)
        assert back.image_encoder is image_encoder
        back.set_progress_bar_config(disable=True)
        np.testing.assert_array_equal(edit(back), expected)
    without = make_pipe()
    vision = {"image_encoder": image_encoder, "feature_extractor": feature_extractor}
    assert family.stylediffusion.from_pipe(without, **vision).feature_extractor is feature_extractor


def test_a_diffedit_mask_confines_a_restyling(style_pipe, make_pipe, learned, picture):
    options = {"num_inference_steps": 2, "num_maps_per_mask": 2, "preset": "paper"}
    found = make_pipe()(picture, TARGET, SOURCE, **options).pixel_mask
    result = style_pipe(TARGET, learned, mask_image=found, image=picture, preserve_background=True)
    outside = found[0, 0].numpy() == 0
    assert outside.any()
    assert np.array_equal(np.asarray(result.images[0])[outside], np.asarray(picture)[outside])


def test_a_mask_is_found_as_diffedit_finds_it(style_pipe, make_pipe, learned, picture, counted):
    """From the picture, and as well from what was learned of it, apart from what the VAE does to its edges."""
    seed = torch.Generator().manual_seed(0)
    found = make_pipe().locate(picture, SOURCE, TARGET, num_inference_steps=4, generator=seed)
    started = counted.samples
    result = style_pipe([TARGET, TARGET], learned, mask_image="auto", image=picture, preserve_background=True)
    assert counted.samples - started == 2 * 10 + 4 * 2 * 2 + 3 + 2
    assert (
        result.pixel_mask - found.pixel_mask
    ).abs().mean() < 1e-3  # a pixel at the threshold may go either way
    outside = result.pixel_mask[0, 0].numpy() == 0
    assert outside.any()
    assert not outside.all()
    for image in result.images:
        assert np.array_equal(np.asarray(image)[outside], np.asarray(picture)[outside])
    without = style_pipe(TARGET, learned, mask_image="auto", output_type="latent")
    assert (without.pixel_mask - found.pixel_mask).abs().mean() < 0.05
    small = style_pipe(TARGET, learned, mask_image="auto", mask_threshold=0.9, output_type="latent")
    room = torch.nn.functional.max_pool2d(small.pixel_mask, 9, 1, 4)
    nowhere = (torch.nn.functional.max_pool2d(room, 8) == 0).expand_as(small.images)
    assert nowhere.any()
    assert torch.equal(small.images[nowhere], small.reconstruction[nowhere])
    other = torch.Generator().manual_seed(1)
    for option in ({"generator": other}, {"mask_threshold": 0.8}, {"mask_grow": 4}):
        changed = style_pipe(TARGET, learned, mask_image="auto", output_type="latent", **option)
        assert not torch.equal(changed.pixel_mask, without.pixel_mask)


def test_a_found_mask_needs_the_picture(style_pipe, learned, picture, monkeypatch, counted):
    monkeypatch.setattr(MappingNetwork, "walk", None)
    monkeypatch.setattr(MappingNetwork, "noisiest", learned.trajectory[-1])
    with pytest.raises(ValueError, match="format version 1 does not hold; pass the picture as `image`"):
        style_pipe(TARGET, learned, mask_image="auto")
    assert counted.samples == 0
    assert style_pipe(TARGET, learned, mask_image="auto", image=picture).pixel_mask is not None


@pytest.mark.families("sd", slow=["sdxl"])
def test_saving_and_loading(family, style_pipe, edit, learn, tmp_path):
    style_pipe.save_pretrained(tmp_path)
    loaded = family.stylediffusion.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    np.testing.assert_allclose(edit(loaded), edit(style_pipe), atol=1e-4)
    assert {name: loaded.config[name] for name in family.silent} == family.silent
    network = learn(loaded)
    assert network.config.base_model == str(tmp_path)
    np.testing.assert_allclose(edit(style_pipe, network=network), edit(loaded, network=network), atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
def test_loading_as_a_custom_pipeline(family, style_pipe, edit, tmp_path):
    style_pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(
        tmp_path, custom_pipeline=inspect.getfile(family.stylediffusion), trust_remote_code=True
    )
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded).__name__ == family.stylediffusion.__name__
    np.testing.assert_allclose(edit(loaded), edit(style_pipe), atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
@pytest.mark.parametrize("scheduler_class", [PNDMScheduler, EulerDiscreteScheduler])
def test_the_checkpoints_own_sampler_will_do(make_style_pipe, style_pipe, edit, scheduler_class):
    """Stable Diffusion comes with PNDM, SDXL with Euler; only the training schedule is used."""
    other = make_style_pipe(scheduler=scheduler_class.from_config(style_pipe.scheduler.config))
    np.testing.assert_allclose(edit(other), edit(style_pipe), atol=1e-4)


class Checker(torch.nn.Module):
    """Flags given images, batch by batch, like diffusers' safety checker."""

    def __init__(self, *flags):
        super().__init__()
        self.flags = list(flags)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, images, clip_input):
        assert clip_input.shape[0] == images.shape[0] == len(self.flags[0])
        return images, self.flags.pop(0)


@pytest.mark.families("sd")
def test_the_safety_checker_sees_edits_and_reconstruction(make_style_pipe, learned):
    checked = make_style_pipe()
    checked.safety_checker = Checker([False, True], [True])
    result = checked([TARGET, "a mug"], learned)
    assert result.nsfw_content_detected == [False, True]
    assert np.asarray(result.images[0]).any()
    assert not np.asarray(result.images[1]).any()
    assert not np.asarray(result.reconstruction[0]).any()


def test_offload_order_names_every_model(style_pipe):
    order = style_pipe.model_cpu_offload_seq.split("->")
    models = [name for name, part in style_pipe.components.items() if isinstance(part, torch.nn.Module)]
    assert set(models) == set(order)


@pytest.fixture
def own_parts(style_pipe):
    """Not the shared models, because the tests add hooks."""
    models = {name: one for name, one in style_pipe.components.items() if isinstance(one, torch.nn.Module)}
    return {name: copy.deepcopy(one) for name, one in models.items()}


def test_model_offload_hooks(make_style_pipe, own_parts, style_pipe, edit, learn):
    """accelerate's hooks, with the CPU as both devices: every model is called through its hook."""
    from accelerate import cpu_offload_with_hook

    offloaded = make_style_pipe(**own_parts)
    hook = None
    for name in offloaded.model_cpu_offload_seq.split("->"):
        _, hook = cpu_offload_with_hook(own_parts[name], "cpu", prev_module_hook=hook)
    ours, theirs = learn(offloaded), learn(style_pipe)
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    np.testing.assert_allclose(edit(offloaded), edit(style_pipe), atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
def test_sequential_offload_hooks(make_style_pipe, own_parts, style_pipe, edit, learn):
    """accelerate's hooks, which replace the parameters of every layer twice per evaluation."""
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_submodules

    asked = {name for name, one in own_parts["unet"].named_parameters() if one.requires_grad}
    assert asked
    for model in own_parts.values():
        cpu_offload(model, torch.device("cpu"), offload_buffers=True)
    offloaded = make_style_pipe(**own_parts)
    ours, theirs = learn(offloaded), learn(style_pipe)
    learned_same = {"conv_in_weight", "conv_out_bias"} & ours.state_dict().keys()
    assert learned_same
    assert all(torch.equal(ours.state_dict()[name], theirs.state_dict()[name]) for name in learned_same)
    np.testing.assert_allclose(edit(offloaded), edit(style_pipe), atol=1e-4)
    remove_hook_from_submodules(own_parts["unet"])
    assert {name for name, one in own_parts["unet"].named_parameters() if one.requires_grad} == asked


def test_learning_refuses_group_offload_before_any_work(make_style_pipe, own_parts, learn):
    from diffusers.hooks import HookRegistry, ModelHook

    registry = HookRegistry.check_if_exists_or_initialize(own_parts["unet"].mid_block)
    registry.register_hook(ModelHook(), "group_offloading")
    with pytest.raises(ValueError, match="`unet` is group offloaded"):
        learn(make_style_pipe(**own_parts))


@pytest.mark.families("sd", slow=["sdxl"])
def test_a_unet_that_gives_its_width_block_by_block(
    family, make_style_pipe, make_unet, style_pipe, edit, learn
):
    pipe = make_style_pipe(unet=make_unet(cross_attention_dim=(family.text_width,) * 2))
    network = learn(pipe)
    np.testing.assert_allclose(
        edit(pipe, network=network), edit(style_pipe, network=learn(style_pipe)), atol=1e-4
    )


@pytest.mark.families("sd")
def test_the_same_model_has_the_same_fingerprint(make_unet):
    unet, other = make_unet(), make_unet(seed=1)
    own = model_fingerprint(unet)
    assert len(own) == 16
    assert own != model_fingerprint(other)
    assert model_fingerprint(make_unet().half()) == own
    unet.fuse_qkv_projections()
    assert model_fingerprint(unet) == own
    unet.unfuse_qkv_projections()
    assert model_fingerprint(unet) == own
    assert model_fingerprint(unet.bfloat16()) == ""


@pytest.mark.families("sd")
def test_adapters_without_a_scale(make_style_pipe, make_unet, edit, learn, style_pipe):
    unet = make_unet()
    unet.add_adapter(OFTConfig(r=2, oft_block_size=0, target_modules=["to_v"], init_weights=False))
    pipe = make_style_pipe(unet=unet)
    adapted = edit(pipe, network=learn(pipe))
    assert np.isfinite(adapted).all()
    assert not np.allclose(adapted, edit(style_pipe), atol=1e-3)


@pytest.mark.gpu
def test_model_cpu_offload_on_a_gpu(make_style_pipe, own_parts, style_pipe, learned, edit, learn):
    offloaded = make_style_pipe(**own_parts)
    offloaded.enable_model_cpu_offload()
    np.testing.assert_allclose(edit(offloaded), edit(style_pipe), atol=1e-2)
    assert learned.device.type == "cpu"  # the caller's network is not moved
    network = learn(offloaded)
    assert network.device.type == "cuda"
    np.testing.assert_allclose(
        edit(offloaded, network=network), edit(style_pipe, network=learn(style_pipe)), atol=1e-2
    )
    assert {own_parts[name].device.type for name in own_parts} == {"cpu"}


@pytest.mark.families("sd")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wrapped", "in place", "by blocks"])
def test_a_compiled_unet(make_style_pipe, make_unet, style_pipe, edit, learn, kind):
    """It runs uncompiled during the call, and compiled again afterwards."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    unet = make_unet()
    if kind == "by blocks":
        unet.compile_repeated_blocks(backend=backend)
    elif kind == "in place":
        unet.compile(backend=backend)
    compiled = make_style_pipe(unet=unet)
    if kind == "wrapped":
        compiled.unet = torch.compile(unet, backend=backend)
    options = {"local_blend": "apple", "local_blend_threshold": 0.97}
    np.testing.assert_allclose(edit(compiled, **options), edit(style_pipe, **options), atol=1e-4)
    ours, theirs = learn(compiled), learn(style_pipe)
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert not graphs
    with torch.no_grad():
        compiled.unet(torch.zeros(1, 4, 6, 8), 1, torch.zeros(1, 16, 32))
    assert graphs
