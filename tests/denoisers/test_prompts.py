import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from semantic_edit.denoisers import PromptInput, StableDiffusionDenoiser
from semantic_edit.denoisers.prompts import check_token_counts
from semantic_edit.editing import Conditioning
from semantic_edit.pipelines.checks import common_batch_size


def read_prompt(pipe, name, text=None, embeds=None, **how):
    return StableDiffusionDenoiser(pipe).read_prompt(PromptInput(name, text, embeds=embeds), **how)


def embed(pipe, prompts, batch_size, clip_skip=None):
    given = StableDiffusionDenoiser(pipe, clip_skip=clip_skip).embed(prompts, batch_size)
    return [None if one is None else one.prompt_embeds for one in given]


@pytest.fixture(scope="module")
def embeds(make_pipe):
    return make_pipe().encode_prompt(["a red apple", "a mug"], "cpu", 1, False)[0]


def test_embeddings_are_diffusers_own(pipe):
    prompts = [
        read_prompt(pipe, "prompt", ["a red apple", "a mug"]),
        read_prompt(pipe, "negative_prompt", required=False, unconditional=True),
    ]
    positive, negative = embed(pipe, prompts, 2)
    expected = StableDiffusionPipeline.encode_prompt(pipe, ["a red apple", "a mug"], "cpu", 1, True)
    torch.testing.assert_close(positive, expected[0])
    torch.testing.assert_close(negative, expected[1])


def test_clip_skip_leaves_out_last_layers_but_for_unconditional_prompts(pipe):
    prompts = [
        read_prompt(pipe, "prompt", "a red apple"),
        read_prompt(pipe, "negative_prompt", "a red apple", unconditional=True),
    ]
    skipped, unconditional = embed(pipe, prompts, 1, clip_skip=1)
    usual, _ = embed(pipe, prompts, 1)
    torch.testing.assert_close(unconditional, usual)
    tokens = pipe.tokenizer("a red apple", padding="max_length", max_length=16, return_tensors="pt").input_ids
    outputs = pipe.text_encoder(tokens, output_hidden_states=True)
    inner = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
    torch.testing.assert_close(skipped, inner.final_layer_norm(outputs.hidden_states[-2]))
    assert not torch.allclose(skipped, usual)


def test_each_different_text_is_encoded_once(pipe, monkeypatch):
    encoded = []
    forward = pipe.text_encoder.forward

    def counting(input_ids, **kwargs):
        encoded.append(input_ids.shape[0])
        return forward(input_ids, **kwargs)

    monkeypatch.setattr(pipe.text_encoder, "forward", counting)
    prompts = [
        read_prompt(pipe, "prompt", ["a mug", "a pear", "a mug"]),
        read_prompt(pipe, "source_prompt", ""),
        read_prompt(pipe, "negative_prompt", "", unconditional=True),
        None,
    ]
    result = embed(pipe, prompts, 3)
    assert encoded == [3]
    assert [None if one is None else one.shape for one in result] == [(3, 16, 32)] * 3 + [None]


def test_given_embeddings_are_used_as_they_are(pipe, embeds):
    (found,) = embed(pipe, [read_prompt(pipe, "prompt", None, embeds)], 2)
    assert torch.equal(found, embeds)


def test_prompts_that_agree_are_known_to(pipe, embeds):
    def prompt(text=None, embeds=None, unconditional=True):
        return read_prompt(pipe, "negative_prompt", text, embeds, unconditional=unconditional)

    assert prompt("a").same_as(prompt(["a", "a"]))
    assert prompt(["a", "b"]).same_as(prompt(["a", "b"]))
    assert not prompt(["a", "b"]).same_as(prompt(["b", "a"]))
    assert not prompt("a").same_as(prompt("a", unconditional=False))
    assert prompt(embeds=embeds).same_as(prompt(embeds=embeds.clone()))
    assert not prompt(embeds=embeds).same_as(prompt("a"))


@pytest.mark.parametrize(
    ("text", "given", "error", "message"),
    [
        ("a", torch.zeros(1, 2, 32), ValueError, "Got both `prompt` and `prompt_embeds`"),
        (None, None, ValueError, "Got neither `prompt` nor `prompt_embeds`"),
        (3, None, TypeError, "`prompt` must be a string or a list of strings, got 3"),
        (["a", 3], None, TypeError, "must be a string or a list of strings"),
        ([], None, ValueError, "`prompt` is an empty list"),
        (None, torch.zeros(2, 32), ValueError, r"must have shape \(batch, tokens, width\), got \(2, 32\)"),
        (None, torch.zeros(1, 2, 31), ValueError, "`prompt_embeds` is 31 wide.*takes 32"),
        (None, torch.zeros(1, 2, 32).long(), ValueError, "floating-point tensor, got torch.int64"),
        (None, [[1.0]], ValueError, "floating-point tensor, got list"),
        (None, torch.full((1, 2, 32), float("nan")), ValueError, "NaN or infinite"),
    ],
)
def test_bad_prompts_are_refused(pipe, text, given, error, message):
    with pytest.raises(error, match=message):
        read_prompt(pipe, "prompt", text, given)


def test_text_needs_a_text_encoder(make_pipe, embeds):
    pipe = make_pipe(text_encoder=None, tokenizer=None)
    with pytest.raises(ValueError, match=r"`prompt` is text, but .* pass `prompt_embeds` instead"):
        embed(pipe, [read_prompt(pipe, "prompt", "a mug")], 1)
    assert embed(pipe, [read_prompt(pipe, "prompt", None, embeds)], 2)[0] is not None
    given = {"prompt_embeds": embeds, "source_prompt_embeds": embeds, "negative_prompt_embeds": embeds}
    with pytest.raises(ValueError, match=r"inversion's empty prompt` is text, .* pass a `trajectory` that"):
        pipe(Image.new("RGB", (64, 48)), num_inference_steps=2, **given)


def test_numbers_that_do_not_match_are_named():
    assert common_batch_size(image=1, prompt=3, mask_image=3) == 3
    with pytest.raises(ValueError, match="do not match in number: `image` 2, `prompt` 3"):
        common_batch_size(image=2, prompt=3)
    with pytest.raises(ValueError, match="same number of tokens, got `prompt` 16, `source_prompt` 20"):
        check_token_counts(
            prompt=Conditioning({"prompt_embeds": torch.zeros(1, 16, 2)}),
            source_prompt=Conditioning({"prompt_embeds": torch.zeros(1, 20, 2)}),
        )


LONG = "a red apple on a table and a green pear on the grass of the photo of an apple, strawberries"


@pytest.mark.parametrize("clip_skip", [None, 1])
def test_a_prompt_that_is_too_long_is_told_with_its_name_and_the_words_that_are_cut_off(
    pipe, caplog, clip_skip
):
    prompts = (read_prompt(pipe, "source_prompt", "a red apple"), read_prompt(pipe, "prompt", LONG))
    with pytest.warns(UserWarning, match="is longer than") as told, caplog.at_level("WARNING"):
        embed(pipe, prompts, 1, clip_skip=clip_skip)
    (message,) = {str(one.message) for one in told} - {
        str(one.message) for one in told if "know" in str(one.message)
    }
    assert message == (
        "`prompt` is longer than the 16 tokens that the text encoder reads; what is cut off: "
        "'on the grass of the photo of an apple, strawberries'."
    )
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["", "a", "a a a a a a a a a a a a a a", "a red apple \n\t  "])
def test_a_prompt_that_fits_is_no_reason_to_warn(pipe, text, recwarn):
    embed(pipe, (read_prompt(pipe, "prompt", text),), 1)
    assert [str(one.message) for one in recwarn] == []
