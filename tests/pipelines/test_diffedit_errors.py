"""Every bad input is a clear error, before the UNet is first evaluated."""

import dataclasses

import diffusers
import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from PIL import Image

pytestmark = pytest.mark.families("sd", "sdxl")

TARGET = "a green pear on grass"
MASK = np.eye(8)[:6]


@pytest.fixture
def refuses(pipe, picture, counted):
    def check(match, error=ValueError, pipe=pipe, **changes):
        arguments = {"image": picture, "prompt": TARGET, "mask_image": MASK, "num_inference_steps": 5}
        with pytest.raises(error, match=match):
            pipe(**{**arguments, **changes})
        assert counted.samples == 0

    return check


@pytest.fixture(scope="module")
def trajectory(make_pipe, picture):
    return make_pipe().invert(image=picture, num_inference_steps=5).trajectory


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "Got neither `prompt` nor `prompt_embeds`"),
        ({"prompt_embeds": torch.zeros(1, 16, 32)}, "Got both `prompt` and `prompt_embeds`"),
        ({"prompt": [TARGET, "a mug"], "negative_prompt": ["a"] * 3}, "`prompt` 2, `negative_prompt` 3"),
        ({"image": None}, "There is nothing to edit: pass an `image`"),
        ({"image": np.zeros((48, 0, 3))}, "`image` has no pixels: it is 0 x 48"),
        ({"height": 48}, "Pass both `height` and `width`, or neither, got 48 and None"),
        (
            {"height": 48, "width": 60},
            "60 x 48, but the model takes only multiples of 8.* nearest are 64 x 48",
        ),
        ({"height": 0, "width": 64}, "`height` must be an integer from 1 to 16384, got 0"),
        ({"focus": "yes"}, "`focus` must be True, False or None to choose by the mask, got 'yes'"),
        ({"mask_image": np.eye(8)}, "`mask_image` is 8 x 8 and the picture 64 x 48, .* another shape"),
        ({"image": np.full((48, 64, 3), np.nan)}, "NaN or infinite"),
        ({"mask_image": np.full((6, 8), np.inf)}, "NaN or infinite"),
        ({"mask_image": np.full((6, 8), 7.0)}, r"`mask_image` must hold floats in \[0, 1\]"),
        ({"mask_image": np.zeros((3, 6, 8)), "prompt": ["a", "b"]}, "`prompt` 2, .*`mask_image` 3"),
        ({"inpaint_strength": 0.0}, "`inpaint_strength` must be a number above 0 and up to 1, got 0.0"),
        ({"inpaint_strength": 1.2}, r"up to 1, got 1\.2"),
        ({"inpaint_strength": 0.1}, "0.1 of `num_inference_steps` 5 is less than one step"),
        ({"mask_image": None, "mask_encode_strength": -0.5}, r"`mask_encode_strength` must .* got -0\.5"),
        ({"mask_image": None, "mask_encode_strength": 0.1}, "is less than one step"),
        ({"mask_threshold": 1.5}, r"`mask_threshold` must be a number above 0 and below 1, got 1\.5"),
        ({"mask_threshold": 1}, "above 0 and below 1, got 1"),
        ({"mask_thresholding_ratio": 0}, "`mask_thresholding_ratio` must be a number above 0 and .*, got 0"),
        ({"num_maps_per_mask": 0}, "`num_maps_per_mask` must be an integer from 1 to 1000, got 0"),
        ({"mask_batch_size": 2.5}, r"`mask_batch_size` must be an integer from 1 .* got 2\.5"),
        ({"mask_grow": 1.5}, r"`mask_grow` must be an integer from -10000 to 10000, .* got 1\.5"),
        ({"mask_feather": -1}, "`mask_feather` must be a number from 0 to 1000, .* got -1"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` must be a number from 0 to 1000, got nan"),
        ({"guidance_rescale": 2}, "`guidance_rescale` must be a number from 0 to 1, got 2"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must be an integer from 1 to 1000, got 0"),
        ({"num_images_per_prompt": 0}, "`num_images_per_prompt` must be an integer from 1 to 1000"),
        ({"eta": 0.3}, r"`eta` must be 0, got 0\.3"),
        ({"generator": 7}, "`generator` must be a torch.Generator .* got 7"),
        ({"generator": [torch.Generator()] * 2}, "holds 2 generators for 1 edits"),
        ({"output_type": "jpeg"}, "`output_type` must be one of pil, np, pt, latent, got 'jpeg'"),
        ({"callback_steps": 0}, "`callback_steps` must be an integer from 1 .* got 0"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "may name latents, .*got noise"),
        (
            {"callback_on_step_end": SDCFGCutoffCallback()},
            "SDCFGCutoffCallback is made for pipelines that keep the prompts",
        ),
        (
            {"trajectory": "t.safetensors"},
            r"must be a Trajectory, got str; read a file with `Trajectory.load",
        ),
        ({"image_latents": torch.zeros(1, 3, 4, 6, 8)}, r"must have shape \(batch, 5 to 6, channels"),
        (
            {"image_latents": torch.zeros(1, 4, 4, 6, 8)},
            "Invert with an `inpaint_strength` .*EditPipeline lack the picture's own",
        ),
        ({"image_latents": "latents"}, "must be a floating-point tensor or a list of them"),
        ({"image_latents": torch.full((1, 5, 4, 6, 8), float("nan"))}, "NaN or infinite"),
        (
            {"image_latents": [torch.zeros(1, 5, 4, 6, 8), torch.zeros(1, 5, 4, 8, 6)]},
            "`image_latents` must hold tensors .* of one size, got ",
        ),
        ({"image_latents": torch.tensor(0.5)}, r"`image_latents` must hold tensors .* got \[\(\)\]"),
        (
            {"image_latents": torch.zeros(1, 5, 4, 6, 8).to_sparse()},
            "`image_latents` is a tensor that is of .*sparse",
        ),
        ({"image": np.ma.masked_less(np.eye(8), 0.5)}, "`image` is an array that hides 56 of its values"),
        (
            {"mask_image": np.ma.masked_less(MASK, 0.5)},
            "`mask_image` is an array that hides 42 of its values",
        ),
        (
            {"mask_refine": "no"},
            "`mask_refine` must be True, False or None to choose by the preset, got 'no'",
        ),
        (
            {"preserve_background": 2},
            "`preserve_background` must be True, False or None to choose by the preset, got 2",
        ),
        ({"return_dict": None}, "`return_dict` must be True or False, got None"),
        (
            {"output_type": np.array(["pil", "np"])},
            "`output_type` must be one of pil, np, pt, latent, got array",
        ),
        ({"callback_on_step_end_tensor_inputs": "latents"}, "is a list that may name .* got 'latents'"),
        ({"callback_on_step_end_tensor_inputs": None}, "is a list that may name .* got None"),
        ({"cross_attention_kwargs": {"gligen": {}}}, "`cross_attention_kwargs` must not hold gligen, which"),
        (
            {"cross_attention_kwargs": {"attention_mask": None}},
            "must not hold attention_mask, which attention",
        ),
    ],
)
def test_bad_arguments(refuses, changes, message):
    refuses(message, **changes)


@pytest.mark.families("sd")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 16, 31)}, "31 wide.*takes 32"),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 9, 32)},
            "number of tokens, got `prompt` 9, `negative_prompt` 16",
        ),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 16, 32).to_sparse()},
            "`prompt_embeds` is a tensor that is",
        ),
        ({"negative_prompt_embeds": torch.zeros(1, 16, 32, device="meta")}, "without values, on the device"),
    ],
)
def test_bad_embeddings(refuses, changes, message):
    refuses(message, **changes)


def test_text_in_place_of_the_picture(refuses):
    refuses("`image` is the text 'a mug', but must be a picture", error=TypeError, image="a mug")


@pytest.mark.parametrize("name", ["callback", "callback_on_step_end"])
def test_callbacks_that_cannot_be_called(refuses, pipe, picture, name):
    refuses(f"`{name}` must be a function, or None, got 'print'", error=TypeError, **{name: "print"})
    with pytest.raises(TypeError, match="`callback` must be a function, or None, got 7"):
        pipe.invert(image=picture, callback=7)
    with pytest.raises(ValueError, match="`decode_latents` must be True or False, got 'no'"):
        pipe.invert(image=picture, decode_latents="no")


@pytest.mark.parametrize("name", ["prompt", "source_prompt", "negative_prompt", "source_negative_prompt"])
def test_arrays_of_prompts(refuses, name):
    refuses(
        f"`{name}` must be a string or a list of strings, got array",
        error=TypeError,
        mask_image=None,
        **{name: np.array([TARGET, "a mug"])},
    )


def test_numbers_of_pictures_and_prompts(refuses, pictures):
    refuses(
        "do not match in number: `prompt` 2, .*`image` 3",
        image=pictures,
        prompt=[TARGET, "a mug"],
        mask_image=None,
    )


def test_pixels_are_needed_to_preserve_them(refuses, trajectory):
    refuses("needs the picture's pixels", image=None, trajectory=trajectory, preserve_background=True)


def test_trajectories_that_do_not_fit(refuses, trajectory, picture, pictures, make_pipe, make_unet, counted):
    refuses("`num_inference_steps`: trajectory 5, this call 8", trajectory=trajectory, num_inference_steps=8)
    refuses(r"number of levels .* trajectory 4, this call 5", trajectory=trajectory, inpaint_strength=1.0)
    refuses(
        r"latent shape: trajectory \(4, 6, 8\), this call \(4, 8, 6\)",
        trajectory=trajectory,
        image=torch.full((1, 4, 8, 6), -1.0),
        mask_image=MASK.T,
    )
    refuses(
        "The `trajectory` is of another picture than `image`: that one has 64 x 48 pixels, this one 48 x 64",
        trajectory=trajectory,
        image=picture.rotate(90, expand=True),
    )
    other = make_pipe(unet=make_unet(seed=1))
    refuses(r"model: trajectory \w+, this call \w+", pipe=other, trajectory=trajectory)
    refuses("of another picture than `image`", trajectory=trajectory, image=pictures[1])
    refuses("Got both `trajectory`", trajectory=trajectory, image_latents=trajectory.latents.transpose(0, 1))
    smaller = dataclasses.replace(trajectory, latents=trajectory.latents[..., :7])
    refuses(r"latent shape: trajectory \(4, 6, 7\), this call \(4, 6, 8\)", trajectory=smaller)
    elsewhere = dataclasses.replace(trajectory, latents=trajectory.latents.to("meta"))
    refuses("`trajectory` is a tensor without values", trajectory=elsewhere)
    two = dataclasses.replace(trajectory, latents=trajectory.latents.repeat(1, 2, 1, 1, 1))
    refuses("number of pictures: trajectory 2, this call 3", trajectory=two, image=pictures)


def test_v_prediction_is_no_epsilon(refuses, trajectory, make_pipe):
    pipe = make_pipe()
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    refuses(r"prediction_type: trajectory epsilon \(.*\), this call v_pred", pipe=pipe, trajectory=trajectory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_train_timesteps": "x"},
            "`num_train_timesteps` must be an integer .* got 'x'. It is in the scheduler's",
        ),
        (
            {"beta_schedule": "odd"},
            "The `scheduler`'s config gives no noise schedule .*odd is not implemented",
        ),
        (
            {"timestep_spacing": "odd"},
            "The `scheduler`'s config gives no noise schedule .*odd is not supported",
        ),
        ({"beta_end": "x"}, "The `scheduler`'s config gives no noise schedule"),
    ],
)
def test_configs_that_give_no_schedule(refuses, make_pipe, changes, message):
    pipe = make_pipe()
    pipe.scheduler.register_to_config(**changes)
    refuses(message, pipe=pipe)


def test_components_that_are_something_else(refuses, make_pipe, tokenizer, unet):
    refuses(
        "`scheduler` must be one of diffusers' schedulers, got a CLIP", pipe=make_pipe(scheduler=tokenizer)
    )
    refuses("The `vae` is a UNet2DConditionModel, which has no", pipe=make_pipe(vae=unet))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.DDPMScheduler(), "DDPMScheduler cannot be inverted.*DDIMScheduler.from_config"),
        (diffusers.EulerAncestralDiscreteScheduler(), "EulerAncestralDiscreteScheduler cannot be inverted"),
        (diffusers.FlowMatchEulerDiscreteScheduler(), "cannot be inverted"),
        (diffusers.DDIMScheduler(clip_sample=True), "has clip_sample=True.*clip_sample=False"),
    ],
)
def test_schedulers_that_cannot_be_inverted(refuses, make_pipe, picture, scheduler, message):
    pipe = make_pipe(scheduler=scheduler)
    refuses(message, pipe=pipe)
    with pytest.raises(ValueError, match=message):
        pipe.invert(image=picture)
    with pytest.raises(ValueError, match=message):
        pipe.generate_mask(picture, target_prompt=TARGET)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 9}, "9 input channels where the VAE gives 4, as inpainting models do"),
        ({"time_cond_proj_dim": 8}, "embedded guidance scale, as latent consistency models do"),
        ({"num_class_embeds": 3}, "class labels"),
    ],
)
def test_unets_of_other_families(refuses, make_pipe, make_unet, changes, message):
    refuses(message, pipe=make_pipe(unet=make_unet(**changes)))


def test_an_ip_adapter_is_refused(refuses, make_pipe, make_unet):
    unet = make_unet()
    unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    refuses(r"needs an IP-Adapter's image.*unload_ip_adapter\(\)", pipe=make_pipe(unet=unet))


def test_the_stages_check_too(pipe, picture, counted):
    with pytest.raises(ValueError, match="`image` is missing"):
        pipe.generate_mask(target_prompt=TARGET)
    with pytest.raises(ValueError, match="Got neither `target_prompt` nor `target_prompt_embeds`"):
        pipe.generate_mask(picture)
    with pytest.raises(ValueError, match=r"one of np, pil, pt, got 'latent'"):
        pipe.generate_mask(picture, target_prompt=TARGET, output_type="latent")
    with pytest.raises(ValueError, match="`image` is missing"):
        pipe.invert()
    with pytest.raises(ValueError, match=r"do not match in number: `image` 1, .*`negative_prompt` 3"):
        pipe.invert(["a", "b"], picture, negative_prompt=["a"] * 3, guidance_scale=2.0)
    with pytest.raises(ValueError, match=r"`generator` must be a torch\.Generator"):
        pipe.invert(image=picture, generator=7)
    with pytest.raises(ValueError, match=r"`generator` is a list.* pass a single one"):
        pipe.invert(image=picture, num_reg_steps=1, generator=[torch.Generator()])
    assert counted.samples == 0


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("x", "'x'"),
        ([1], r"\[1\]"),
        (0.5, r"0\.5"),
        ({1: 2}, r"\{1: 2\}"),
        (torch.ones(1), r"tensor\(\[1\.\]\)"),
    ],
)
def test_arguments_of_attention_that_are_no_dict(refuses, pipe, picture, counted, given, shown):
    message = rf'`cross_attention_kwargs` must be a dict from names to values, such as {{"scale": 0.5}}, got {shown}'
    refuses(message, cross_attention_kwargs=given)
    with pytest.raises(ValueError, match=message):
        pipe.invert(image=picture, cross_attention_kwargs=given)
    with pytest.raises(ValueError, match=message):
        pipe.generate_mask(picture, TARGET, cross_attention_kwargs=given)
    assert counted.samples == 0


@pytest.mark.parametrize("scale", [None, "0.5", True, float("nan"), 1e308, torch.tensor(0.5)])
def test_a_lora_scale_that_is_no_number(refuses, scale):
    message = (
        r"`cross_attention_kwargs\['scale'\]` must be a number from -1000 to 1000, got .* LoRA layers act"
    )
    refuses(message, cross_attention_kwargs={"scale": scale})


@pytest.mark.parametrize("name", ["unet", "vae", "scheduler"])
def test_a_model_that_is_not_there(make_pipe, picture, counted, name):
    pipe = make_pipe(**{name: None})
    calls = [
        lambda: pipe(picture, TARGET),
        lambda: pipe.invert(image=picture),
        lambda: pipe.generate_mask(picture, TARGET),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"This pipeline has no `{name}`, which every edit needs"):
            call()
    assert counted.samples == 0


@pytest.mark.parametrize("name", ["text_encoder", "tokenizer"])
def test_text_without_a_text_encoder(make_pipe, picture, counted, name):
    pipe = make_pipe(**{name: None})
    calls = [
        lambda: pipe(picture, TARGET, clip_skip=1),
        lambda: pipe.invert("a mug", picture),
        lambda: pipe.generate_mask(picture, TARGET),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="is text, but this pipeline has no text encoder and tokenizer"):
            call()
    assert counted.samples == 0


@pytest.mark.parametrize("name", ["prompt", "source_prompt", "negative_prompt", "source_negative_prompt"])
def test_half_of_a_surrogate_pair_is_no_text(refuses, name):
    message = (
        rf"`{name}` must be text that can be encoded in UTF-8, got 'a mug \\udcff', which holds half of a"
    )
    for text in ("a mug \udcff", ["a mug \udcff"]):
        refuses(message, mask_image=None, **{name: text})


@pytest.mark.families("sd")
def test_a_safety_checker_needs_its_feature_extractor(make_pipe):
    with pytest.raises(ValueError, match="needs a `feature_extractor`"):
        make_pipe(safety_checker=torch.nn.Identity())


def test_masks_for_more_images_than_there_are_are_refused(pipe, pictures):
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[8:20, 8:20] = 255
    three = [Image.fromarray(mask)] * 3
    with pytest.raises(ValueError, match=r"do not match in number: .*`image` 2, `mask_image` 3"):
        pipe(pictures[:2], "a pear", mask_image=three)
