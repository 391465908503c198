"""Both pipelines accept what scripts for diffusers' own pipelines do, or refuse it in one sentence."""

import inspect
import json
import threading

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMInverseScheduler,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepInverseScheduler,
    StableDiffusionPipeline,
)

from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
)

pytestmark = pytest.mark.families("sd", "sdxl")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"


@pytest.fixture
def restyle(learned):
    def run(pipe, **changes):
        return pipe(
            **{"prompt": TARGET, "mapping_network": learned, "output_type": "latent", **changes}
        ).images

    return run


@pytest.mark.families("sd")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(pipe, style_pipe, edit, restyle, picture, dtype):
    plain = pipe.invert(image=picture, num_inference_steps=5).trajectory
    with torch.autocast("cpu", dtype=dtype):
        trajectory = pipe.invert(image=picture, num_inference_steps=5).trajectory
        inside = edit(pipe, trajectory=plain)
        network = style_pipe.learn_mapping(picture, SOURCE, 2)
        restyled = restyle(style_pipe)
    assert trajectory.model_fingerprint == plain.model_fingerprint
    assert torch.isfinite(trajectory.latents).all()
    assert all(torch.isfinite(one).all() for one in (inside, restyled, *network.parameters()))
    usual = edit(pipe)
    for other in (inside, edit(pipe, trajectory=trajectory)):
        assert (other - usual).abs().mean() < 0.1 * usual.std()
    usual = restyle(style_pipe)
    assert (restyled - usual).abs().mean() < 0.25 * usual.std()


@pytest.mark.families("sd")
def test_a_tiny_autoencoder(make_pipe, make_style_pipe, picture, edit, restyle):
    torch.manual_seed(0)
    sizes = {"encoder_block_out_channels": (4,) * 4, "decoder_block_out_channels": (4,) * 4}
    vae = AutoencoderTiny(**sizes, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4).eval()
    pipe = make_pipe(vae=vae)
    trajectory = pipe.invert(image=picture, num_inference_steps=2).trajectory
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(trajectory.latents[0], vae.encode(pixels).latents)
    assert edit(pipe, output_type="np").shape == (1, 48, 64, 3)
    styled = make_style_pipe(vae=vae)
    network = styled.learn_mapping(picture, SOURCE, 2)
    assert restyle(styled, mapping_network=network, output_type="np").shape == (1, 48, 64, 3)


@pytest.mark.parametrize("kind", ["pipe", "style_pipe"])
def test_what_is_saved_loads_plainly(request, family, tmp_path, kind):
    """As diffusers' own pipeline, under whose name they are saved, and as either of our classes."""
    pipe = request.getfixturevalue(kind)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == family.plain.__name__
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert type(DiffusionPipeline.from_pretrained(tmp_path)) is family.plain
    for own in (family.diffedit, family.stylediffusion):
        assert type(own.from_pretrained(tmp_path)) is own
        custom = DiffusionPipeline.from_pretrained(
            tmp_path, custom_pipeline=inspect.getfile(own), trust_remote_code=True
        )
        assert type(custom).__name__ == own.__name__
        custom.save_pretrained(tmp_path / own.__name__)
        assert type(DiffusionPipeline.from_pretrained(tmp_path / own.__name__)) is family.plain


def settings_of(pipe):
    names = (
        "num_timesteps",
        "guidance_scale",
        "guidance_rescale",
        "do_classifier_free_guidance",
        "clip_skip",
    )
    return {name: getattr(pipe, name) for name in (*names, "cross_attention_kwargs", "interrupt")}


def test_a_callback_reads_the_settings_of_its_call(family, pipe, style_pipe, edit, restyle):
    seen = []

    def look(pipeline, step, timestep, tensors):
        seen.append(settings_of(pipeline))
        if len(seen) == 1:  # a call within a call, of another pipeline and of the same one
            restyle(style_pipe, guidance_scale=2.0, callback_on_step_end=look)
            edit(pipeline, num_inference_steps=2, callback_on_step_end=look)
        seen.append(settings_of(pipeline))
        return {}

    told = {"clip_skip": 1, "cross_attention_kwargs": {"scale": 0.5}, "guidance_rescale": 0.25}
    edit(pipe, guidance_scale=1.0, callback_on_step_end=look, **told)
    own = {
        "num_timesteps": 4,
        "guidance_scale": 1.0,
        "do_classifier_free_guidance": False,
        "interrupt": False,
        **told,
    }
    assert seen[0] == seen[-1] == own
    usual = {**own, "clip_skip": None, "cross_attention_kwargs": None, "do_classifier_free_guidance": True}
    assert seen[1] == {**usual, "guidance_scale": 2.0, "guidance_rescale": 0.0}
    scale = family.denoiser.usual_guidance
    inner = {**usual, "num_timesteps": 1, "guidance_scale": scale, "guidance_rescale": 0.0}
    assert inner in seen
    assert not hasattr(pipe, "guidance_scale")
    with pytest.raises(AttributeError, match="no attribute 'num_timesteps'"):
        _ = style_pipe.num_timesteps


@pytest.mark.families("sd")
def test_threads_each_read_their_own(pipe, edit):
    meet = threading.Barrier(2, timeout=60)
    seen = {}

    def work(scale):
        def look(pipeline, step, timestep, tensors):
            meet.wait()
            pipeline._guidance_scale = pipeline.guidance_scale + 1
            meet.wait()
            seen.setdefault(scale, []).append(pipeline.guidance_scale)
            return {}

        edit(pipe, guidance_scale=scale, callback_on_step_end=look)

    threads = [threading.Thread(target=work, args=(scale,)) for scale in (2.0, 5.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {2.0: [3.0, 4.0, 5.0, 6.0], 5.0: [6.0, 7.0, 8.0, 9.0]}


def documented(step_of_change):
    """The callback of diffusers' documentation that ends guidance."""

    def callback_dynamic_cfg(pipe, step_index, timestep, callback_kwargs):
        if step_index == int(pipe.num_timesteps * step_of_change):
            prompt_embeds = callback_kwargs["prompt_embeds"]
            prompt_embeds = prompt_embeds.chunk(2)[-1]
            pipe._guidance_scale = 0.0
            callback_kwargs["prompt_embeds"] = prompt_embeds
        return callback_kwargs

    return {
        "callback_on_step_end": callback_dynamic_cfg,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }


def test_the_documented_callback_ends_guidance(pipe, edit, counted):
    """From the next step, with half the samples."""

    def ours(pipeline, step, timestep, tensors):
        return {"negative_prompt_embeds": None} if step == 2 else {}

    expected = edit(pipe, callback_on_step_end=ours)
    before = counted.samples
    torch.testing.assert_close(edit(pipe, **documented(0.5)), expected)
    assert counted.samples - before == 2 + 3 * 2 + 1
    assert not torch.equal(expected, edit(pipe))


def test_the_documented_callback_on_several_rows_says_what_is_wrong(family, pipe, style_pipe, edit, restyle):
    text = f"16, {family.text_width}"
    match = (
        rf"returned .*\(1, {text}\) for `prompt_embeds`, .* \(2, {text}\).*no unconditional rows to cut off"
    )
    with pytest.raises(ValueError, match=match):
        edit(pipe, prompt=[TARGET, "a mug"], **documented(0.5))
    with pytest.raises(ValueError, match=match):
        restyle(style_pipe, **documented(0.5))


def set_scale(value, at=0):
    def callback(pipeline, step, timestep, tensors):
        if step == at:
            pipeline._guidance_scale = value
        return {}

    return callback


def first_latents(call, pipe):
    """The latents after the first step."""
    reached = []

    def keep(pipeline, step, timestep, tensors):
        reached.append(tensors["latents"])
        return {}

    call(pipe, callback_on_step_end=keep)
    return reached[0]


def starting_at(latents):
    return lambda pipeline, step, *_: {"latents": latents} if step == 0 else {}


@pytest.mark.families("sd", slow=["sdxl"])
def test_a_scale_that_a_callback_sets_is_used(family, pipe, style_pipe, edit, restyle):
    """If it is set back before the next step, nothing changes; the next call has its own scale again."""
    usual = edit(pipe)
    assert torch.equal(edit(pipe, callback_on_step_end=set_scale(family.denoiser.usual_guidance)), usual)
    stronger = edit(pipe, callback_on_step_end=set_scale(20.0))
    assert not torch.allclose(stronger, usual, atol=1e-3)
    # the noisiest step alone is as it was: who starts behind it under the new scale goes the same way
    behind = first_latents(edit, pipe)
    from_there = edit(pipe, guidance_scale=20.0, callback_on_step_end=starting_at(behind))
    torch.testing.assert_close(stronger, from_there)
    torch.testing.assert_close(edit(pipe), usual, rtol=0, atol=0)
    ended = restyle(style_pipe, callback_on_step_end=set_scale(0.0))
    assert not torch.allclose(ended, restyle(style_pipe), atol=1e-4)
    behind = first_latents(restyle, style_pipe)
    from_there = restyle(style_pipe, guidance_scale=1.0, callback_on_step_end=starting_at(behind))
    torch.testing.assert_close(ended, from_there)


@pytest.mark.families("sd")
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            {"latents": torch.zeros(1, 4, 8, 8)},
            r"returned torch.float32 \(1, 4, 8, 8\) for `latents`, where floats of shape \(1, 4, 6, 8\)",
        ),
        ({"latents": None}, "returned None for `latents`"),
        ({"prompt_embeds": torch.zeros(16, 32)}, r"returned torch.float32 \(16, 32\) for `prompt_embeds`"),
        ({"prompt_embeds": "a mug"}, "returned 'a mug' for `prompt_embeds`"),
        (
            {"negative_prompt_embeds": torch.zeros(2, 16, 32)},
            r"returned .* \(2, 16, 32\) for `negative_prompt_embeds`",
        ),
    ],
)
def test_what_a_callback_may_not_return(pipe, edit, returned, message):
    with pytest.raises(ValueError, match=message):
        edit(pipe, callback_on_step_end=lambda *_: returned)


def test_what_a_callback_may_not_set(family, pipe, edit):
    with pytest.raises(
        ValueError, match=r"`_guidance_scale` cannot be set to 5\.0 in a call that began without"
    ):
        edit(pipe, guidance_scale=1.0, callback_on_step_end=set_scale(5.0))
    with pytest.raises(ValueError, match="`guidance_scale` must be a number from 0 to 1000, got 'high'"):
        edit(pipe, callback_on_step_end=set_scale("high"))

    def other(pipeline, step, timestep, tensors):
        pipeline._cross_attention_kwargs = {"scale": 0.5}

    name = family.diffedit.__name__
    match = f"`cross_attention_kwargs` of {name} cannot be set.* only `_guidance_scale`"
    with pytest.raises(AttributeError, match=match):
        edit(pipe, callback_on_step_end=other)
    with pytest.raises(AttributeError, match=f"`guidance_scale` of {name} cannot be set: nothing of a call"):
        pipe._guidance_scale = 3.0


@pytest.mark.parametrize("clip_skip", [100, 3, -3, 1.0, True])
def test_layers_that_cannot_be_skipped(family, pipe, picture, edit, counted, clip_skip):
    """SDXL always skips the last layer, and its first encoder has the fewest layers."""
    last = 3 - len(family.encoders)
    match = f"`clip_skip` must be an integer from 0 to {last}, got {clip_skip}"
    calls = (
        lambda: edit(pipe, clip_skip=clip_skip),
        lambda: pipe.invert(image=picture, clip_skip=clip_skip),
        lambda: pipe.generate_mask(picture, TARGET, clip_skip=clip_skip),
    )
    for call in calls:
        with pytest.raises(ValueError, match=match):
            call()
    assert counted.samples == 0


def test_the_last_layer_that_can_be_skipped(family, pipe, edit):
    last = 3 - len(family.encoders)
    torch.testing.assert_close(edit(pipe, clip_skip=np.int64(last)), edit(pipe, clip_skip=last))


@pytest.mark.parametrize("kind", ["pipe", "style_pipe"])
def test_ip_adapters_are_refused(request, family, kind):
    pipe = request.getfixturevalue(kind)
    with pytest.raises(NotImplementedError, match=f"{type(pipe).__name__} takes no IP-Adapter"):
        pipe.load_ip_adapter("h94/IP-Adapter", subfolder="models", weight_name="ip-adapter_sd15.bin")


@pytest.mark.families("sd")
@pytest.mark.parametrize("scheduler_class", [DDIMInverseScheduler, DPMSolverMultistepInverseScheduler])
def test_inverse_schedulers_read_the_same_config(make_pipe, pipe, edit, scheduler_class):
    config = pipe.scheduler.config
    torch.testing.assert_close(edit(make_pipe(scheduler=scheduler_class.from_config(config))), edit(pipe))


@pytest.mark.parametrize(
    "own",
    [
        DiffEditPipeline,
        StyleDiffusionPipeline,
        StableDiffusionXLDiffEditPipeline,
        StableDiffusionXLStyleDiffusionPipeline,
    ],
)
def test_python_s_messages_name_the_class(own):
    with pytest.raises(TypeError, match=rf"^{own.__name__}\.__init__\(\) missing 6 required"):
        own(vae=None)

    class Mine(own):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    class Yours(Mine):
        pass

    assert Yours.__init__ is Mine.__init__


@pytest.mark.families("sd")
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, DPMSolverMultistepInverseScheduler])
def test_one_schedule_wherever_a_pipeline_was_made_from(make_pipe, edit, picture, scheduler_class):
    """StableDiffusionPipeline replaces any offset by 1."""
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    )
    assert scheduler.config.steps_offset == 0
    pipe = make_pipe(scheduler=scheduler_class.from_config(scheduler.config))
    assert scheduler.config.steps_offset == 0
    trajectory = pipe.invert(image=picture, num_inference_steps=5).trajectory
    theirs = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    back = DiffEditPipeline.from_pipe(theirs)
    back.set_progress_bar_config(disable=True)
    torch.testing.assert_close(edit(back, trajectory=trajectory), edit(pipe), rtol=0, atol=1e-3)
