import copy
import logging
import threading
import warnings

import pytest
import torch
from peft import LoraConfig

from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.denoisers import (
    Prompt,
    PromptInput,
    StableDiffusionXLDenoiser,
    denoiser_of,
)
from semantic_edit.denoisers.truncation import warn_of_truncation
from semantic_edit.editing.conditioning import Conditioning

LONG = "a red apple on the green grass, a blue pear on grass, a mug of the photo"


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given_embeds(rows=1, tokens=16, seed=0):
    """Embeddings for the tiny model, as a caller passes them."""
    return seeded(rows, tokens, 56, seed=seed), seeded(rows, 20, seed=seed + 1)


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
                r"do not match in number: `prompt` 2, `prompt_2` 3. Pass as many",
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
            denoiser.embed([Prompt("prompt", (LONG,)), Prompt("source_prompt", ("a mug",), ((LONG,),))], 1)
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
            StableDiffusionXLDenoiser(make_xl_pipe()).embed([Prompt("prompt", ("a mug",), (("a pear",),))], 1)
            assert taken == [False, False]
            try_to_take()
            assert taken[2:] == [True, True]
        finally:
            handle.remove()

    def test_words_that_a_small_model_does_not_know_are_told_of_either_prompt(self, make_xl_pipe):
        prompt = Prompt("prompt", ("a red kiwi",), (("a blue lime",),))
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


def test_pooled_text_is_that_of_the_encoder_that_projects(make_xl_pipe, make_sd_pipe, tokenizer):
    texts = ["a red apple", LONG]
    pipe = make_xl_pipe()
    _, _, pooled, _ = pipe.encode_prompt(texts, do_classifier_free_guidance=False)
    torch.testing.assert_close(StableDiffusionXLDenoiser(pipe).pooled_text(texts), pooled, rtol=0, atol=1e-6)
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    first = pipe.text_encoder(ids).pooler_output.detach()
    without = make_xl_pipe(text_encoder_2=None, tokenizer_2=None)
    for other in (denoiser_of(without), denoiser_of(make_sd_pipe())):
        torch.testing.assert_close(other.pooled_text(texts), first, rtol=0, atol=1e-6)
