from contextlib import contextmanager

import diffusers
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler

from semantic_edit.denoisers import (
    PromptInput,
    StableDiffusionDenoiser,
    StableDiffusionXLDenoiser,
    schedule_from_scheduler,
)
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import Guidance, PromptPair, predict_guided
from semantic_edit.editing.inversion import Walk, ddim_step, decode_latents, invert_latents, predicting
from semantic_edit.editing.masking import NoisedImages, draw_mask_noise, find_mask, noise_difference

LONG = "a red apple on the green grass, a blue pear on grass, a mug of the photo"


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given_embeds(rows=1, tokens=16, seed=0):
    """Embeddings for the tiny model, as a caller passes them."""
    return seeded(rows, tokens, 56, seed=seed), seeded(rows, 20, seed=seed + 1)


def conditioning(*args, **kwargs):
    embeds, pooled = given_embeds(*args, **kwargs)
    return Conditioning({"prompt_embeds": embeds, "pooled_prompt_embeds": pooled})


@contextmanager
def recorded(unet):
    """The inputs of each evaluation of a UNet."""
    calls = []

    def keep(module, args, kwargs):
        assert len(args) == 2
        calls.append({"sample": args[0], "timestep": args[1], **kwargs})

    handle = unet.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


class TestTheSchedule:
    @pytest.mark.parametrize("steps", [4, 20, 50])
    def test_a_step_is_eulers_own(self, make_xl_pipe, sdxl_scheduler, steps):
        """Euler's samples are the image plus noise; ours are scaled by the signal."""
        schedule = StableDiffusionXLDenoiser(make_xl_pipe()).schedule(steps)
        sdxl_scheduler.set_timesteps(steps)
        assert list(reversed(schedule.timesteps)) == sdxl_scheduler.timesteps.tolist()
        latents, prediction = seeded(2, 4, 6, 8), seeded(2, 4, 6, 8, seed=1)
        for level in range(steps, 1, -1):
            timestep = sdxl_scheduler.timesteps[steps - level]
            sample = latents / schedule.signal[level]
            torch.testing.assert_close(
                sdxl_scheduler.scale_model_input(sample, timestep), latents, atol=1e-4, rtol=0
            )
            euler = sdxl_scheduler.step(prediction, timestep, sample).prev_sample
            ours = ddim_step(latents, prediction, schedule, level)
            torch.testing.assert_close(ours, euler * schedule.signal[level - 1], atol=1e-4, rtol=0)

    def test_the_last_step_is_eulers_where_the_config_ends_on_the_clean_picture(self, sdxl_scheduler):
        """The base model's config says `set_alpha_to_one=False`, which Euler ignores."""
        config = {**sdxl_scheduler.config, "set_alpha_to_one": True}
        schedule = schedule_from_scheduler(EulerDiscreteScheduler.from_config(config), 20)
        sdxl_scheduler.set_timesteps(20)
        latents, prediction = seeded(1, 4, 6, 8), seeded(1, 4, 6, 8, seed=1)
        timestep, sample = sdxl_scheduler.timesteps[-1], latents / schedule.signal[1]
        sdxl_scheduler.scale_model_input(sample, timestep)
        euler = sdxl_scheduler.step(prediction, timestep, sample).prev_sample
        torch.testing.assert_close(ddim_step(latents, prediction, schedule, 1), euler, atol=1e-4, rtol=0)


CALLS = {
    "one prompt": {"prompt": "a red apple"},
    "a batch": {"prompt": ["a red apple", "a blue pear on grass", "a mug"]},
    "negative": {"prompt": "a red apple", "negative_prompt": "a blue pear"},
    "an empty negative prompt is a text": {"prompt": "a red apple", "negative_prompt": ""},
    "second prompt": {"prompt": "a red apple", "prompt_2": "a photo of the grass"},
    "both second prompts": {
        "prompt": ["a red apple", "a mug"],
        "prompt_2": ["a photo", "on the grass"],
        "negative_prompt": ["a pear", "blue"],
        "negative_prompt_2": ["green", "a photo"],
    },
    "empty second prompts": {
        "prompt": "a mug",
        "prompt_2": "",
        "negative_prompt": "blue",
        "negative_prompt_2": "",
    },
    "clip skip": {"prompt": "a red apple", "negative_prompt": "a blue pear", "clip_skip": 1},
    "clip skip, same text": {"prompt": "a red apple", "negative_prompt": "a red apple", "clip_skip": 1},
    "sizes": {
        "prompt": "a red apple",
        "original_size": (640, 480),
        "crops_coords_top_left": (8, 3),
        "target_size": (100, 200),
    },
    "one size": {"prompt": "a red apple", "original_size": (640, 480)},
    "too long": {"prompt": LONG, "prompt_2": "a mug"},
}


@pytest.mark.parametrize("force_zeros", [True, False])
@pytest.mark.parametrize("arguments", CALLS.values(), ids=CALLS.keys())
@pytest.mark.filterwarnings("ignore:.*is longer than")
def test_the_unet_is_given_what_diffusers_gives_it(make_xl_pipe, xl_unet, arguments, force_zeros):
    pipe = make_xl_pipe(force_zeros_for_empty_prompt=force_zeros)
    prompt = arguments["prompt"]
    batch = len(prompt) if isinstance(prompt, list) else 1
    with recorded(xl_unet) as theirs:
        pipe(
            **arguments,
            latents=seeded(batch, 4, 6, 8),
            height=48,
            width=64,
            num_inference_steps=3,
            output_type="latent",
        )
    options = ("clip_skip", "original_size", "crops_coords_top_left", "target_size")
    denoiser = StableDiffusionXLDenoiser(pipe, **{name: arguments.get(name) for name in options})
    denoiser.check()
    schedule = denoiser.schedule(3)
    prompts = [
        denoiser.read_prompt(PromptInput.of(arguments, "prompt")),
        denoiser.read_prompt(PromptInput.of(arguments, "negative_prompt"), False, unconditional=True),
    ]
    pair = PromptPair(*denoiser.embed(prompts, batch))
    with recorded(xl_unet) as ours:
        for level, call in zip((3, 2, 1), theirs, strict=True):
            predict_guided(denoiser, call["sample"][:batch], schedule.timestep(level), pair, 5.0)
    for expected, call in zip(theirs, ours, strict=True):
        assert torch.equal(call["sample"], expected["sample"])
        assert float(call["timestep"]) == float(expected["timestep"])
        torch.testing.assert_close(
            call["encoder_hidden_states"], expected["encoder_hidden_states"], atol=1e-5, rtol=0
        )
        added, expected_added = call["added_cond_kwargs"], expected["added_cond_kwargs"]
        assert added.keys() == expected_added.keys()
        torch.testing.assert_close(added["text_embeds"], expected_added["text_embeds"], atol=1e-5, rtol=0)
        assert added["time_ids"].dtype == expected_added["time_ids"].dtype
        assert torch.equal(added["time_ids"], expected_added["time_ids"])
    is_zero = not theirs[0]["encoder_hidden_states"][0].any()
    assert is_zero == (force_zeros and "negative_prompt" not in arguments)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sizes_are_told_in_the_embeddings_own_type(make_xl_pipe, dtype):
    denoiser = StableDiffusionXLDenoiser(make_xl_pipe(), original_size=[np.int64(1000), 900])
    given = conditioning(rows=2).to(dtype)
    added = denoiser._added(torch.zeros(2, 4, 128, 152), given)["added_cond_kwargs"]
    assert added["time_ids"].dtype == added["text_embeds"].dtype == dtype
    expected = torch.tensor([[1000, 900, 0, 0, 1024, 1216]] * 2).to(dtype)
    assert torch.equal(added["time_ids"], expected)


def test_what_is_said_of_sizes_is_kept_when_the_network_is_borrowed(make_xl_pipe, xl_unet):
    denoiser = StableDiffusionXLDenoiser(make_xl_pipe(), target_size=(512, 256))
    borrowed = denoiser.through(lambda *args, **kwargs: xl_unet(*args, **kwargs))
    latents, given = seeded(2, 4, 6, 8), conditioning(rows=2)
    with torch.no_grad():
        own = StableDiffusionXLDenoiser(make_xl_pipe()).predict(latents, 501, given)
        assert torch.equal(borrowed.predict(latents, 501, given), denoiser.predict(latents, 501, given))
        assert not torch.equal(denoiser.predict(latents, 501, given), own)


class TestOneModelInTwoLayouts:
    """A model of SDXL's layout that computes what one of Stable Diffusion's computes gives the same edit."""

    @pytest.fixture
    def both(self, make_xl_pipe, in_xl_layout, unet, vae, scheduler, text_encoder, tokenizer):
        plain = diffusers.StableDiffusionPipeline(
            vae, text_encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
        )
        wide = make_xl_pipe(unet=in_xl_layout(unet), scheduler=scheduler)
        denoisers = StableDiffusionDenoiser(plain), StableDiffusionXLDenoiser(wide)
        for denoiser in denoisers:
            denoiser.check()
        return denoisers

    def test_predictions(self, both):
        latents, embeds = seeded(3, 4, 6, 8), conditioning(rows=3)
        narrow = Conditioning({"prompt_embeds": embeds.prompt_embeds[..., :32]})
        with torch.no_grad():
            plain, wide = (
                one.predict(latents, 501, given) for one, given in zip(both, (narrow, embeds), strict=True)
            )
        assert plain.std() > 0.01
        torch.testing.assert_close(wide, plain, atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_edits(self, both):
        def edit(denoiser, names):
            source, target, away, empty = (
                Conditioning({name: tensor for name, tensor in given.tensors.items() if name in names})
                for given in (conditioning(rows=2, seed=seed) for seed in (0, 10, 20, 30))
            )
            if len(names) == 1:
                source, target, away, empty = (
                    one.map(lambda tensor: tensor[..., :32]) for one in (source, target, away, empty)
                )
            schedule = denoiser.schedule(10)
            latents = denoiser.encode(seeded(2, 3, 48, 64).sigmoid())
            noise = draw_mask_noise(2, 4, latents.shape[1:], torch.Generator().manual_seed(0))
            pictures = NoisedImages(schedule, latents, noise, schedule.levels(0.5))
            sides = PromptPair(source, away), PromptPair(target, away)
            contrast = noise_difference(denoiser, pictures, *sides, guidance_scale=3.0)
            found = find_mask(contrast, denoiser.tuning)
            predict = predicting(denoiser, schedule, PromptPair(empty))
            walk = Walk(invert_latents(predict, schedule, latents, 8), found.mask)
            edited = decode_latents(denoiser, schedule, walk, PromptPair(target, away), Guidance(5.0))
            return found.mask, found.soft_mask, denoiser.decode(edited), denoiser.decode(latents)

        plain, wide = (
            edit(denoiser, names)
            for denoiser, names in zip(
                both, ({"prompt_embeds"}, {"prompt_embeds", "pooled_prompt_embeds"}), strict=True
            )
        )
        assert torch.equal(wide[0], plain[0])
        assert 0 < plain[0].mean() < 1
        assert not torch.equal(plain[2], plain[3])
        for ours, theirs in zip(wide, plain, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
