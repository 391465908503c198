import copy
import logging
import threading
import warnings
from contextlib import contextmanager

import diffusers
import pytest
import torch
from accelerate import cpu_offload
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from peft import LoraConfig

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.denoisers import (
    Prompt,
    PromptInput,
    StableDiffusionDenoiser,
    StableDiffusionXLDenoiser,
    schedule_from_scheduler,
)
from semantic_edit.denoisers.truncation import warn_of_truncation
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import Guidance, PromptPair, predict_guided
from semantic_edit.editing.inversion import Walk, ddim_step, decode_latents, invert_latents, predicting
from semantic_edit.editing.masking import NoisedPictures, draw_mask_noise, find_mask, noise_difference


class StableDiffusionXLDiffEditPipeline(StableDiffusionXLPipeline):
    """Named as the pipeline whose errors name another one."""


LONG = "a red apple on the green grass, a blue pear on grass, a mug of the photo"


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given_embeds(rows=1, tokens=16, seed=0):
    """Embeddings as a caller gives them for the tiny model."""
    return seeded(rows, tokens, 56, seed=seed), seeded(rows, 20, seed=seed + 1)


def conditioning(*args, **kwargs):
    embeds, pooled = given_embeds(*args, **kwargs)
    return Conditioning({"prompt_embeds": embeds, "pooled_prompt_embeds": pooled})


@contextmanager
def recorded(unet):
    """What a UNet is given, evaluation by evaluation."""
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
        """Euler's samples are the picture plus noise, ours have the picture's share of both."""
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
        """The base model's own says `set_alpha_to_one=False`, which Euler passes over."""
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
    denoiser = StableDiffusionXLDenoiser(make_xl_pipe(), original_size=[1000, 900])
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
            pictures = NoisedPictures(schedule, latents, noise, schedule.levels(0.5))
            sides = PromptPair(source, away), PromptPair(target, away)
            found = find_mask(noise_difference(denoiser, pictures, *sides, guidance_scale=3.0))
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


class TestPrompts:
    def read(self, pipe, **given):
        return StableDiffusionXLDenoiser(pipe).read_prompt(PromptInput.of(given, "prompt"))

    def test_given_embeddings_are_taken_as_they_are(self, make_xl_pipe):
        embeds, pooled = given_embeds(rows=2)
        pipe = make_xl_pipe(text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None)
        denoiser = StableDiffusionXLDenoiser(pipe)
        denoiser.check()
        prompt = self.read(pipe, prompt_embeds=embeds, pooled_prompt_embeds=pooled)
        given, away = denoiser.embed([prompt, denoiser.absent_prompt("negative_prompt")], 2)
        assert given.equals(Conditioning({"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}))
        zeros = Conditioning({"prompt_embeds": 0 * embeds, "pooled_prompt_embeds": 0 * pooled})
        assert away.equals(zeros)

    @pytest.mark.parametrize("tokens", [16, 32])
    def test_an_absent_prompt_is_as_long_as_what_was_given(self, make_xl_pipe, tokens):
        embeds, pooled = given_embeds(tokens=tokens)
        denoiser = StableDiffusionXLDenoiser(make_xl_pipe())
        prompt = self.read(denoiser.pipe, prompt_embeds=embeds, pooled_prompt_embeds=pooled)
        away, _, nothing = denoiser.embed([denoiser.absent_prompt("negative_prompt"), prompt, None], 1)
        assert away.prompt_embeds.shape == embeds.shape
        assert nothing is None

    def test_texts_are_encoded_once(self, make_xl_pipe, text_encoder, text_encoder_2):
        denoiser, rows = StableDiffusionXLDenoiser(make_xl_pipe()), []
        prompts = [Prompt(name, ("a mug", "a pear", "a mug")) for name in ("source_prompt", "prompt")]
        handles = [
            encoder.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
            for encoder in (text_encoder, text_encoder_2)
        ]
        try:
            first, second = denoiser.embed([*prompts], 3)
        finally:
            for handle in handles:
                handle.remove()
        assert rows == [2, 2]
        assert first.equals(second)
        assert first.rows(slice(0, 1)).equals(first.rows(slice(2, 3)))

    def test_one_second_text_serves_all(self, make_xl_pipe):
        denoiser = StableDiffusionXLDenoiser(make_xl_pipe())
        one = self.read(denoiser.pipe, prompt=["a mug", "a pear"], prompt_2="a photo")
        each = self.read(denoiser.pipe, prompt=["a mug", "a pear"], prompt_2=["a photo", "a photo"])
        assert one.same_as(each)
        first, second = denoiser.embed([one, each], 2)
        assert first.equals(second)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, r"Got neither `prompt` nor `prompt_embeds`; pass one"),
            ({"prompt_2": "a mug"}, r'Got `prompt_2` without `prompt`, .*`prompt=""` for no text'),
            (
                {"prompt": ["a", "a mug"], "prompt_2": ["a"] * 3},
                r"`prompt` holds 2 texts and `prompt_2` 3; pass as many",
            ),
            ({"prompt": "a", "prompt_2": 3}, r"`prompt_2` must be a string or a list of strings, got 3"),
            ({"prompt": "a", "prompt_2": []}, r"`prompt_2` is an empty list"),
            (
                {"prompt": "a", "prompt_embeds": given_embeds()[0]},
                r"Got both `prompt` and `prompt_embeds`; pass only one",
            ),
            (
                {"prompt_2": "a", "prompt_embeds": given_embeds()[0]},
                r"Got both `prompt_2` and `prompt_embeds`; pass only one",
            ),
            (
                {"prompt_embeds": given_embeds()[0]},
                r"Got `prompt_embeds` without `pooled_prompt_embeds`; pass",
            ),
            (
                {"prompt": "a", "pooled_prompt_embeds": given_embeds()[1]},
                r"Got `pooled_prompt_embeds` without `prompt_embeds`; pass both",
            ),
            (
                {"prompt_embeds": torch.zeros(1, 16, 32), "pooled_prompt_embeds": given_embeds()[1]},
                r"`prompt_embeds` is 32 wide, but the UNet's cross attention takes 56",
            ),
            (
                {"prompt_embeds": given_embeds()[0], "pooled_prompt_embeds": torch.zeros(1, 24)},
                r"`pooled_prompt_embeds` is 24 wide, but the UNet takes 20\. Encode",
            ),
            (
                {"prompt_embeds": given_embeds()[0], "pooled_prompt_embeds": torch.zeros(1, 1, 20)},
                r"`pooled_prompt_embeds` must have shape \(batch, width\), got \(1, 1, 20\)",
            ),
            (
                {"prompt_embeds": given_embeds()[0], "pooled_prompt_embeds": "a mug"},
                r"`pooled_prompt_embeds` must be a floating-point tensor, got str",
            ),
            (
                {"prompt_embeds": given_embeds()[0], "pooled_prompt_embeds": torch.full((1, 20), torch.nan)},
                r"`pooled_prompt_embeds` holds NaN",
            ),
            (
                {"prompt_embeds": given_embeds(2)[0], "pooled_prompt_embeds": given_embeds(3)[1]},
                r"`prompt_embeds` holds 2 prompts and `pooled_prompt_embeds` 3; pass as many",
            ),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, make_xl_pipe, given, message):
        with pytest.raises((ValueError, TypeError), match=message):
            self.read(make_xl_pipe(), **given)

    def test_twins_of_other_prompts_are_named(self, make_xl_pipe):
        given = PromptInput.of({"source_prompt_embeds": given_embeds()[0]}, "source_prompt")
        with pytest.raises(ValueError, match="`source_prompt_embeds` without `source_pooled_prompt_embeds`"):
            StableDiffusionXLDenoiser(make_xl_pipe()).read_prompt(given)

    @pytest.mark.parametrize("missing", ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"])
    def test_text_needs_both_encoders(self, make_xl_pipe, missing):
        denoiser = StableDiffusionXLDenoiser(make_xl_pipe(**{missing: None}))
        denoiser.check()
        with pytest.raises(ValueError, match="pass `prompt_embeds` and `pooled_prompt_embeds` instead"):
            denoiser.embed([Prompt("prompt", ("a mug",))], 1)

    def test_what_is_cut_off_is_told_once_and_under_its_argument(self, make_xl_pipe, caplog):
        denoiser = StableDiffusionXLDenoiser(make_xl_pipe())
        with warnings.catch_warnings(record=True) as told, caplog.at_level(logging.WARNING):
            warnings.simplefilter("always")
            denoiser.embed([Prompt("prompt", (LONG,)), Prompt("source_prompt", ("a mug",), (LONG,))], 1)
        messages = [str(one.message) for one in told if "is longer than" in str(one.message)]
        assert [message.split("`")[1] for message in messages] == ["prompt", "source_prompt_2"]
        assert all("the 16 tokens" in message and message.endswith("of the photo'.") for message in messages)
        assert not [record for record in caplog.records if "truncated" in record.getMessage()]

    def test_tokenizers_that_cut_differently_are_both_told_of(self, make_xl_pipe, tokenizer, tokenizer_2):
        other = copy.deepcopy(tokenizer_2)
        other.add_tokens(["<a photo of the>"])
        text = "<a photo of the> red apple on the green grass, a mug on the grass, a blue pear"
        with pytest.warns(UserWarning, match="`prompt` is longer") as told:
            warn_of_truncation(make_xl_pipe(), [tokenizer, other, tokenizer], "prompt", [text])
        assert len(told) == 2

    def test_no_other_thread_has_a_tokenizer_while_it_encodes(
        self, make_xl_pipe, tokenizer, tokenizer_2, text_encoder_2
    ):
        taken = []

        def try_to_take(*args):
            def work():
                for owner in (tokenizer, tokenizer_2):
                    lock = lock_of(owner)
                    taken.append(lock.acquire(blocking=False))
                    if taken[-1]:
                        lock.release()

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        handle = text_encoder_2.register_forward_pre_hook(try_to_take)
        try:
            StableDiffusionXLDenoiser(make_xl_pipe()).embed([Prompt("prompt", ("a mug",), ("a pear",))], 1)
            assert taken == [False, False]
            try_to_take()
            assert taken[2:] == [True, True]
        finally:
            handle.remove()

    def test_words_that_a_small_model_does_not_know_are_told_of_either_prompt(self, make_xl_pipe):
        prompt = Prompt("prompt", ("a red kiwi",), ("a blue lime",))
        with pytest.warns(
            UserWarning, match="This model does not know 'kiwi', 'lime': it was trained on few"
        ):
            StableDiffusionXLDenoiser(make_xl_pipe()).embed([prompt], 1)


class TestLoRA:
    ENCODERS = ("text_encoder", "text_encoder_2")

    @pytest.fixture
    def pipe(self, make_xl_pipe, text_encoder, text_encoder_2):
        encoders = {}
        for name, encoder in zip(self.ENCODERS, (text_encoder, text_encoder_2), strict=True):
            encoders[name] = copy.deepcopy(encoder)
            targets = ["q_proj", "v_proj"]
            encoders[name].add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
        return make_xl_pipe(**encoders)

    def scales(self, pipe):
        encoders = (getattr(pipe, name) for name in self.ENCODERS)
        layers = (module for encoder in encoders for module in encoder.modules())
        return [dict(layer.scaling) for layer in layers if hasattr(layer, "lora_A")]

    def embed(self, pipe, scale):
        denoiser = StableDiffusionXLDenoiser(pipe, cross_attention_kwargs={"scale": scale})
        return denoiser.embed([Prompt("prompt", ("a mug",))], 1)[0]

    def test_the_scale_reaches_both_encoders_and_is_put_back(self, pipe, make_xl_pipe):
        before = self.scales(pipe)
        none, half = self.embed(pipe, 0.0), self.embed(pipe, 0.5)
        (plain,) = StableDiffusionXLDenoiser(make_xl_pipe()).embed([Prompt("prompt", ("a mug",))], 1)
        for name, tensor in plain.tensors.items():
            torch.testing.assert_close(none.tensors[name], tensor)
        difference = (half.prompt_embeds - plain.prompt_embeds).abs()
        assert min(difference[..., :32].max(), difference[..., 32:].max()) > 1e-4
        assert len(before) == 2 * (2 + 3)
        assert self.scales(pipe) == before

    @pytest.mark.parametrize("where", ENCODERS)
    def test_an_interruption_puts_both_back(self, pipe, monkeypatch, where):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(getattr(pipe, where), "forward", interrupted)
        before = self.scales(pipe)
        with pytest.raises(KeyboardInterrupt):
            self.embed(pipe, 0.5)
        assert self.scales(pipe) == before


PIXELS = seeded(1, 3, 48, 64).sigmoid()
STATISTICS = {"latents_mean": [-1.6, 2.2, -0.2, 1.5], "latents_std": [8.4, 5.9, 5.5, 4.0]}


class TestTheVAE:
    @pytest.fixture
    def make(self, make_xl_pipe, vae):
        """Builds a denoiser with a VAE of its own, of a type, with changes to its config."""

        def denoiser(dtype=torch.float32, **config):
            own = copy.deepcopy(vae).to(dtype)
            own.register_to_config(**config)
            return StableDiffusionXLDenoiser(make_xl_pipe(vae=own))

        return denoiser

    def types_in(self, vae, run):
        """In which type the VAE computes while something runs, and in which it is afterwards."""
        seen = []
        handles = [
            module.register_forward_pre_hook(lambda module, args: seen.append((args[0].dtype, vae.dtype)))
            for module in (vae.encoder, vae.decoder)
        ]
        try:
            result = run()
        finally:
            for handle in handles:
                handle.remove()
        return result, {dtype for pair in seen for dtype in pair}, {one.dtype for one in vae.parameters()}

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_a_forced_upcast_is_float32_and_then_what_it_was(self, make, dtype):
        denoiser = make(dtype, force_upcast=True)
        whole = make(dtype, force_upcast=False)
        whole.pipe.vae.float()  # the same weights, rounded to half
        latents, during, after = self.types_in(denoiser.pipe.vae, lambda: denoiser.encode(PIXELS))
        assert (during, after) == ({torch.float32}, {dtype})
        assert torch.equal(latents, whole.encode(PIXELS))
        pixels, during, after = self.types_in(denoiser.pipe.vae, lambda: denoiser.decode(latents))
        assert (during, after) == ({torch.float32}, {dtype})
        assert torch.equal(pixels, whole.decode(latents))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_vae_made_for_half_precision_stays_in_it(self, make, dtype):
        denoiser = make(dtype, force_upcast=False)
        latents, during, _ = self.types_in(denoiser.pipe.vae, lambda: denoiser.encode(PIXELS))
        assert during == {dtype}
        _, during, _ = self.types_in(denoiser.pipe.vae, lambda: denoiser.decode(latents))
        assert during == {dtype}
        assert latents.dtype == torch.float32

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("where", ["encoder", "decoder"])
    def test_it_is_put_back_after_an_error(self, make, monkeypatch, error, where):
        denoiser = make(torch.float16, force_upcast=True)

        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(getattr(denoiser.pipe.vae, where), "forward", fail)
        run = {
            "encoder": lambda: denoiser.encode(PIXELS),
            "decoder": lambda: denoiser.decode(seeded(1, 4, 6, 8)),
        }
        with pytest.raises(error):
            run[where]()
        assert {one.dtype for one in denoiser.pipe.vae.parameters()} == {torch.float16}

    def test_it_is_put_back_where_it_is_offloaded(self, make):
        denoiser = make(torch.float16, force_upcast=True)
        expected = denoiser.decode(seeded(1, 4, 6, 8))
        cpu_offload(denoiser.pipe.vae, torch.device("cpu"))
        latents, _, after = self.types_in(denoiser.pipe.vae, lambda: denoiser.decode(seeded(1, 4, 6, 8)))
        torch.testing.assert_close(latents, expected)
        assert after == {torch.float16}

    def test_threads_upcast_one_after_the_other(self, make, monkeypatch):
        denoiser = make(torch.float16, force_upcast=True)
        latents = seeded(1, 4, 6, 8)
        expected, decoder, inside, results = denoiser.decode(latents), denoiser.pipe.vae.decoder, [], []
        forward = decoder.forward

        def slow(*args, **kwargs):
            inside.append(threading.get_ident())
            threading.Event().wait(0.05)
            assert inside[-1] == threading.get_ident()
            return forward(*args, **kwargs)

        monkeypatch.setattr(decoder, "forward", slow)
        threads = [
            threading.Thread(target=lambda: results.append(denoiser.decode(latents))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(results) == 3
        assert all(torch.equal(one, expected) for one in results)
        assert denoiser.pipe.vae.dtype == torch.float16

    @pytest.mark.parametrize("config", [{}, STATISTICS, {**STATISTICS, "latents_std": None}])
    def test_latents_are_scaled_as_diffusers_scales_them(self, make, monkeypatch, config):
        denoiser = make(scaling_factor=0.5, **config)
        pipe, pixels = denoiser.pipe, torch.cat([PIXELS, 1 - PIXELS])
        image_pipe = StableDiffusionXLImg2ImgPipeline(**pipe.components)
        # ours is the posterior's mode, theirs drawn from it
        monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
        theirs = image_pipe.prepare_latents(
            2 * pixels - 1, None, 2, 1, torch.float32, torch.device("cpu"), add_noise=False
        )
        ours = denoiser.encode(pixels)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        images = pipe(
            ["a mug", "a pear"],
            height=48,
            width=64,
            num_inference_steps=1,
            output_type="pt",
            callback_on_step_end=lambda *args: {"latents": theirs},
        ).images
        torch.testing.assert_close(denoiser.decode(ours), images, atol=1e-5, rtol=1e-5)
        is_plain = torch.allclose(ours, make(scaling_factor=0.5).encode(pixels))
        assert is_plain == (config.get("latents_std") is None)

    @pytest.mark.parametrize("statistics", [{}, STATISTICS])
    def test_encoding_and_decoding_scale_there_and_back(self, make, statistics):
        denoiser = make(**statistics)
        latents = seeded(2, 4, 6, 8)
        back = denoiser._normalised(denoiser._denormalised(latents))
        torch.testing.assert_close(back, latents)

    @pytest.mark.parametrize("where", ["encoder", "decoder"])
    @pytest.mark.parametrize(
        ("dtype", "force_upcast"), [(torch.float16, False), (torch.float16, True), (None, False)]
    )
    def test_an_overflow_says_what_helps(self, make, monkeypatch, where, dtype, force_upcast):
        denoiser = make(dtype or torch.float32, force_upcast=force_upcast)
        vae = denoiser.pipe.vae
        part, forward = getattr(vae, where), getattr(vae, where).forward
        monkeypatch.setattr(part, "forward", lambda *args, **kwargs: forward(*args, **kwargs) * torch.inf)
        run = {
            "encoder": lambda: denoiser.encode(PIXELS),
            "decoder": lambda: denoiser.decode(seeded(1, 4, 6, 8)),
        }
        with pytest.raises(FloatingPointError, match=f"came from the VAE's {where}") as caught:
            run[where]()
        hint = r"register_to_config(force_upcast=True)` lets it compute in float32; or load one that was made"
        assert (hint in str(caught.value)) == (dtype == torch.float16 and not force_upcast)


class TestCheck:
    def check(self, make_xl_pipe, **changes):
        pipe = StableDiffusionXLDiffEditPipeline(
            **{**make_xl_pipe().components, **changes}, add_watermarker=False
        )
        StableDiffusionXLDenoiser(pipe).check()

    def test_the_tiny_model_passes(self, make_xl_pipe):
        self.check(make_xl_pipe)
        self.check(make_xl_pipe, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None)
        self.check(make_xl_pipe, text_encoder=None, tokenizer=None)

    @pytest.mark.parametrize("missing", ["unet", "vae", "scheduler"])
    def test_a_missing_model_is_named(self, make_xl_pipe, missing):
        with pytest.raises(ValueError, match=f"This pipeline has no `{missing}`"):
            self.check(make_xl_pipe, **{missing: None})

    def test_a_stable_diffusion_unet_has_its_own_pipeline(self, make_xl_pipe, unet):
        with pytest.raises(
            ValueError,
            match=r"of Stable Diffusion 1\.x or 2\.x, which StableDiffusionXLDiffEditPipeline does not serve; use "
            r"DiffEditPipeline instead",
        ):
            self.check(make_xl_pipe, unet=unet)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"in_channels": 9}, "9 input channels where the VAE gives 4, as inpainting models do"),
            ({"time_cond_proj_dim": 16}, "an embedded guidance scale, as latent consistency models do"),
            ({"num_class_embeds": 3}, "class labels, as upscalers do"),
            (
                {"encoder_hid_dim_type": "ip_image_proj"},
                r"an IP-Adapter's image; call `unload_ip_adapter\(\)`",
            ),
            ({"encoder_hid_dim_type": "text_proj"}, "further embeddings, as Kandinsky's and Kolors' do"),
            ({"addition_embed_type": "image"}, "further embeddings, as Kandinsky's"),
            ({"cross_attention_dim": [56, 32]}, "text of several widths"),
        ],
    )
    def test_other_unets(self, make_xl_pipe, xl_unet, changes, message):
        other = copy.deepcopy(xl_unet)
        other.register_to_config(**changes)
        with pytest.raises(
            ValueError, match=rf"This `unet` needs {message}.* Use a text-to-image SDXL base model"
        ):
            self.check(make_xl_pipe, unet=other)

    def test_a_width_for_each_block_may_be_one(self, make_xl_pipe, xl_unet):
        other = copy.deepcopy(xl_unet)
        other.register_to_config(cross_attention_dim=[56, 56])
        self.check(make_xl_pipe, unet=other)

    def test_the_refiner_by_its_five_numbers(self, make_xl_pipe, make_xl_unet):
        refiner = make_xl_unet(cross_attention_dim=24, projection_class_embeddings_input_dim=20 + 5 * 8)
        with pytest.raises(ValueError, match=r"SDXL's refiner, .* Use the base model"):
            self.check(make_xl_pipe, unet=refiner, text_encoder=None, tokenizer=None)

    def test_the_refiner_by_its_config(self, make_xl_pipe):
        pipe = make_xl_pipe()
        pipe.register_to_config(requires_aesthetics_score=True)
        with pytest.raises(ValueError, match="SDXL's refiner"):
            StableDiffusionXLDenoiser(pipe).check()

    @pytest.mark.parametrize(
        "scheduler",
        [
            diffusers.EDMEulerScheduler(),
            diffusers.EDMDPMSolverMultistepScheduler(),
            EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
        ],
        ids=lambda one: type(one).__name__,
    )
    def test_edm_schedulers(self, make_xl_pipe, scheduler):
        name = type(scheduler).__name__
        with pytest.raises(ValueError, match=rf"a {name} of the EDM kind, .* Use an SDXL model with a usual"):
            self.check(make_xl_pipe, scheduler=scheduler)

    @pytest.mark.parametrize(
        ("scheduler", "kind"),
        [
            (diffusers.LCMScheduler(), "latent consistency models"),
            (diffusers.TCDScheduler(), "models distilled by trajectory consistency, Hyper-SD among them"),
            (diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing"), "SDXL Turbo"),
        ],
    )
    def test_schedulers_of_distilled_models(self, make_xl_pipe, scheduler, kind):
        name = type(scheduler).__name__
        with pytest.raises(
            ValueError,
            match=rf"a {name}, which is that of {kind}\. .* Use the SDXL model that it was distilled from; where",
        ):
            self.check(make_xl_pipe, scheduler=scheduler)

    @pytest.mark.parametrize(
        "scheduler",
        [
            EulerDiscreteScheduler(timestep_spacing="trailing"),  # Lightning's, and a good choice for others
            EulerDiscreteScheduler(
                timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True
            ),
            EulerDiscreteScheduler(timestep_type="continuous"),
            diffusers.DDIMScheduler(clip_sample=False),
            diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True),
            diffusers.EulerAncestralDiscreteScheduler(),  # which `schedule` refuses
        ],
    )
    def test_what_a_base_model_may_have_passes(self, make_xl_pipe, scheduler):
        self.check(make_xl_pipe, scheduler=scheduler)

    def test_encoders_of_another_model(self, make_xl_pipe, make_xl_unet, text_encoder):
        with pytest.raises(
            ValueError, match=r"embeddings 32 \+ 24 wide, but the UNet's cross attention takes 64: .*768 \+ "
        ):
            self.check(make_xl_pipe, unet=make_xl_unet(cross_attention_dim=64))
        wide = make_xl_unet(projection_class_embeddings_input_dim=24 + 6 * 8)
        with pytest.raises(
            ValueError, match=r"`text_encoder_2` gives pooled embeddings 20 wide, but the UNet takes 24"
        ):
            self.check(make_xl_pipe, unet=wide)

    def test_tokenizers_of_other_lengths(self, make_xl_pipe, tokenizer_2):
        longer = copy.deepcopy(tokenizer_2)
        longer.model_max_length = 20
        with pytest.raises(ValueError, match="pad to 16 and 20 tokens, which cannot be joined; set both"):
            self.check(make_xl_pipe, tokenizer_2=longer)

    @pytest.mark.parametrize("name", ["original_size", "crops_coords_top_left", "target_size"])
    @pytest.mark.parametrize("value", [64, (64,), (64, 64, 64), (-1, 64), (64.0, 64), (True, 64), "ab"])
    def test_sizes_that_are_none(self, make_xl_pipe, name, value):
        with pytest.raises(
            ValueError, match=rf"`{name}` must be two whole numbers of pixels, .* from [01] on, got"
        ):
            StableDiffusionXLDenoiser(make_xl_pipe(), **{name: value})


def test_what_the_model_is_made_for(make_xl_pipe, make_xl_unet):
    denoiser = StableDiffusionXLDenoiser(make_xl_pipe(unet=make_xl_unet(sample_size=128)))
    assert (denoiser.own_size, denoiser.cell, denoiser.multiple) == ((1024, 1024), 8, 8)
    assert (denoiser.latent_channels, denoiser.usual_guidance) == (4, 5.0)
