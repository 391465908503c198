"""Families whose prompts a language model reads in a chat template: words, lengths, masks, and what is refused."""

import copy
import re

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from torch.testing import assert_close

from semantic_edit.attention_processors.tokens import tokens_of
from semantic_edit.denoisers import PromptInput
from semantic_edit.disk.models import family_of_modules
from semantic_edit.pipelines import QwenImageDiffEditPipeline, ZImageDiffEditPipeline, pipeline_around
from semantic_edit.pipelines.components_qwen import QWEN_TEMPLATE, TOKENS_BEFORE_PROMPT
from tests.conftest import make_picture
from tests.flow.flux2_klein import KLEIN
from tests.flow.qwen import QWEN, make_qwen
from tests.flow.z_image import Z_IMAGE, Z_IMAGE_TURBO, make_z_image

SHORT, LONG = "a red apple", "a photo of a green pear on the grass, and a blue mug on the table"
chat = pytest.mark.parametrize("family", [QWEN, Z_IMAGE, KLEIN], indirect=True, ids=str)
unpadded = pytest.mark.parametrize("family", [QWEN, Z_IMAGE], indirect=True, ids=str)
of_qwen = pytest.mark.parametrize("family", [QWEN], indirect=True, ids=str)
of_z = pytest.mark.parametrize("family", [Z_IMAGE], indirect=True, ids=str)
of_turbo = pytest.mark.parametrize("family", [Z_IMAGE_TURBO], indirect=True, ids=str)


def embedded(denoiser, *texts):
    return denoiser.embed([denoiser.read_prompt(PromptInput("prompt", list(texts)))], len(texts))[0]


def small_edit(pipe, **arguments):
    """Of a small picture at a small size; the models' own is 1024 pixels."""
    told = {"source_prompt": "a red apple", "prompt": "a green pear", "num_inference_steps": 4}
    size = {"height": 48, "width": 64, "focus": False, "generator": torch.Generator().manual_seed(0)}
    return pipe(make_picture(1, 64, 48), **{**told, **size, "output_type": "pt", **arguments})


@chat
@pytest.mark.parametrize("before", ["", "a red, ", "  two\n\nlines: "], ids=repr)
def test_a_words_tokens_are_where_its_embeddings_are(denoiser, before):
    """A language model reads from left to right: what follows a word changes nothing before it."""
    one, other = f"{before}apple", f"{before}pear"
    embeds = embedded(denoiser, one, other).prompt_embeds
    differing = (embeds[0] - embeds[1]).abs().amax(-1) > 1e-4
    tokens = denoiser.tokens(one)
    assert tokens_of(tokens, "apple")[0] == int(differing.nonzero()[0])


@unpadded
@pytest.mark.parametrize("text", ["", SHORT, LONG], ids=["empty", "short", "long"])
def test_a_prompt_alone_has_an_embedding_for_each_of_its_tokens(denoiser, text):
    assert len(denoiser.tokens(text).ids) == embedded(denoiser, text).prompt_embeds.shape[1]


@chat
def test_without_offsets_words_are_found_by_their_text(denoiser, monkeypatch):
    usual = denoiser.tokens(LONG)
    tokenizer = copy.deepcopy(denoiser.pipe.tokenizer)
    byte_level = {character: code for code, character in _alphabet().items()}
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda _: False))
    monkeypatch.setattr(type(tokenizer), "byte_decoder", byte_level, raising=False)
    assert denoiser.tokens(LONG).words == usual.words


def _alphabet():
    """The characters for bytes in byte-level vocabularies, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [code for code in range(256) if code not in plain]
    return {code: chr(code) for code in plain} | {code: chr(256 + place) for place, code in enumerate(others)}


@chat
def test_what_is_cut_off_is_said(family, pipe):
    denoiser = pipe._denoiser({**family.called, "max_sequence_length": 8})
    with pytest.warns(UserWarning, match=r"`prompt` is longer than the 8 tokens .* cut off: '.*table'"):
        embeds = embedded(denoiser, LONG)
    tokens = denoiser.tokens(LONG)
    assert len(tokens.ids) == embeds.prompt_embeds.shape[1] == 8
    with pytest.raises(ValueError, match="'table' was cut off"):
        tokens_of(tokens, "table")


@chat
def test_predictions_do_not_depend_on_the_other_prompts(denoiser, latents):
    both = embedded(denoiser, SHORT, LONG)
    with torch.no_grad():
        together = denoiser.predict(latents.expand(2, -1, -1, -1), 700.0, both)
        for row, text in enumerate([SHORT, LONG]):
            alone = denoiser.predict(latents, 700.0, embedded(denoiser, text))
            assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)


@chat
def test_attention_to_words_does_not_depend_on_the_other_prompts(denoiser, latents):
    both = embedded(denoiser, SHORT, LONG)
    with torch.no_grad():
        together = denoiser.attention_maps(latents.expand(2, -1, -1, -1), 700.0, both)
        for row, text in enumerate([SHORT, LONG]):
            given = embedded(denoiser, text)
            alone = denoiser.attention_maps(latents, 700.0, given)
            length = given.prompt_embeds.shape[1]
            assert alone.shape[-1] == length >= len(denoiser.tokens(text).ids)
            assert_close(together[row, ..., :length], alone[0], rtol=0, atol=1e-5)
            apart = denoiser.attention_maps(latents, 700.0, both.rows(slice(row, row + 1)))
            assert apart.shape[-1] == both.prompt_embeds.shape[1]
            assert_close(apart[..., :length], alone, rtol=0, atol=1e-5)


@chat
def test_attention_to_a_word_is_that_words(denoiser, latents):
    """Its column follows its embedding, wherever the embedding is put."""
    given = embedded(denoiser, LONG)
    (word,) = tokens_of(denoiser.tokens(LONG), "pear")
    moved = given.map(torch.clone)
    moved.prompt_embeds[:, word] += 3.0
    with torch.no_grad():
        change = (
            denoiser.attention_maps(latents, 700.0, moved) - denoiser.attention_maps(latents, 700.0, given)
        ).abs()
    per_token = change.mean((0, 1, 2))
    assert int(per_token.argmax()) == word


@chat
@pytest.mark.parametrize("encoding", ["inversion", "noise", "flowedit"])
def test_a_whole_edit(pipe, encoding):
    output = small_edit(pipe, encoding=encoding)
    assert output.images.shape == (1, 3, 48, 64)
    assert (output.trajectory is None) == (encoding == "flowedit")
    again = small_edit(pipe, encoding=encoding)
    assert torch.equal(output.images, again.images)


@chat
def test_the_stages_fit_together(pipe):
    picture, told = make_picture(1, 64, 48), {"height": 48, "width": 64, "num_inference_steps": 4}
    generator = torch.Generator().manual_seed(0)
    mask = pipe.generate_mask(
        picture, "a green pear", source_prompt="a red apple", generator=generator, **told
    )
    assert mask.shape == (1, 6, 8)
    trajectory = pipe.invert("", picture, **told).trajectory
    output = small_edit(pipe, mask_image=torch.ones(1, 1, 6, 8), trajectory=trajectory)
    assert output.images.shape == (1, 3, 48, 64)


@chat
def test_words_are_drawn_for_prompts_of_different_lengths(pipe):
    pictures = [make_picture(1, 64, 48), make_picture(2, 64, 48)]
    told = {"height": 48, "width": 64, "num_inference_steps": 4}
    maps = pipe.explain(pictures, [SHORT, LONG], torch.Generator().manual_seed(0), **told).attention_maps
    assert [list(one)[-1] for one in maps] == ["apple", "table"]


@chat
def test_embeddings_take_the_place_of_text(family, pipe):
    source, target = "a red apple", "a green pear on the grass"
    if family is KLEIN:
        given = {
            "source_prompt_embeds": pipe.encode_prompt(source)[0],
            "prompt_embeds": pipe.encode_prompt(target)[0],
        }
    elif family is QWEN:
        given = {}
        for name, text in (("source_prompt", source), ("prompt", target)):
            given[f"{name}_embeds"], given[f"{name}_embeds_mask"] = pipe.encode_prompt(text)
    else:
        named = {"source_prompt_embeds": source, "prompt_embeds": target}
        given = {name: pipe.encode_prompt([text])[0] for name, text in named.items()}
    usual = small_edit(pipe, source_prompt=source, prompt=target, negative_prompt="a mug")
    other = small_edit(pipe, **{"prompt": None, "source_prompt": "", "negative_prompt": "a mug", **given})
    assert_close(other.images, usual.images, rtol=0, atol=1e-5)


def test_the_template_is_qwen_images():
    own, ours = make_qwen(), pipeline_around(QwenImageDiffEditPipeline, make_qwen())
    assert (own.prompt_template_encode, own.prompt_template_encode_start_idx) == (
        QWEN_TEMPLATE,
        TOKENS_BEFORE_PROMPT,
    )
    for name in ("tokenizer_max_length", "vae_scale_factor", "prompt_template_encode"):
        assert getattr(ours, name) == getattr(own, name)


@of_qwen
def test_without_a_negative_prompt_it_guides_away_from_the_empty_one(pipe):
    assert torch.equal(small_edit(pipe).images, small_edit(pipe, negative_prompt="").images)
    assert not torch.equal(small_edit(pipe).images, small_edit(pipe, true_cfg_scale=1.0).images)


@of_qwen
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt_embeds_mask": torch.ones(1, 3)}, "Got `prompt_embeds_mask` without `prompt_embeds`"),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 3, 16), "prompt_embeds_mask": torch.ones(1, 4)},
            r"`prompt_embeds_mask` must be a tensor of shape \(1, 3\).* got \(1, 4\)",
        ),
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 3, 16), "prompt_embeds_mask": torch.zeros(1, 3)},
            "`prompt_embeds_mask` must hold 1 for tokens and 0 for padding, with at least one",
        ),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 3, 8)}, "8 wide, but the transformer takes 16"),
        ({"true_cfg_scale": "4"}, "`true_cfg_scale` must be .*got '4'"),
        ({"true_cfg_scale": -1}, "`true_cfg_scale` must be .*got -1"),
        ({"true_cfg_scale": 1.0, "negative_prompt": "a mug"}, "`negative_prompt` has no effect with `true_cfg_scale`"),
        ({"num_inference_steps": 1}, "gives no 1 different noise levels; change `num_inference_steps`"),
        ({"max_sequence_length": 1025}, "`max_sequence_length` must be .*1024.*got 1025"),
    ],
)  # fmt: skip
def test_what_qwen_image_does_not_take(pipe, given, words):
    with pytest.raises(ValueError, match=words):
        small_edit(pipe, **given)


@of_z
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"prompt": None, "prompt_embeds": torch.zeros(1, 3, 16)},
            r"`prompt_embeds` must be a list of tensors, \(tokens, width\).* got Tensor",
        ),
        ({"prompt": None, "prompt_embeds": []}, "`prompt_embeds` must be a list of .* got an empty list"),
        ({"prompt": None, "prompt_embeds": [torch.zeros(3, 8)]}, "8 wide, but the transformer takes 16"),
        ({"guidance_scale": 0, "negative_prompt": "a mug"}, "`negative_prompt` has no effect with `guidance_scale` 0"),
        ({"guidance_scale": None, "cfg_normalization": "yes"}, "`cfg_normalization` must be .*got 'yes'"),
        ({"guidance_scale": 2000}, "`guidance_scale` must be .*got 2000"),
    ],
)  # fmt: skip
def test_what_z_image_does_not_take(pipe, given, words):
    with pytest.raises(ValueError, match=words):
        small_edit(pipe, **given)


@chat
def test_a_stage_s_guidance_is_a_number(family, pipe):
    name = next(iter(family.guidance))
    with pytest.raises(ValueError, match=f"`{name}` must be .*got None"):
        pipe.invert("", make_picture(1, 64, 48), **{name: None})


@of_z
def test_guidance_counts_from_nought(pipe):
    usual = small_edit(pipe, negative_prompt="a mug").images
    assert torch.equal(small_edit(pipe, negative_prompt="a mug", guidance_scale=5.0).images, usual)
    assert not torch.equal(small_edit(pipe, guidance_scale=0.0).images, usual)


@of_turbo
def test_turbo_is_encoded_by_noise_and_not_guided(pipe):
    usual = small_edit(pipe)
    assert torch.equal(usual.images, small_edit(pipe, encoding="noise", guidance_scale=0.0).images)
    words = r"`encoding='inversion'` does not work with Z-Image-Turbo.*`encoding=\"noise\"`.*`shift`, 3\.0"
    with pytest.raises(ValueError, match=words):
        small_edit(pipe, encoding="inversion")
    with pytest.raises(ValueError, match="`negative_prompt` has no effect with this model, whose usual"):
        small_edit(pipe, negative_prompt="a mug")
    with pytest.raises(ValueError, match="`invert` does not work with Z-Image-Turbo"):
        pipe.invert("", make_picture(1, 64, 48))


def changed(make, **options):
    """A model whose transformer's config says something else."""
    pipe = make()
    transformer = copy.deepcopy(pipe.transformer)
    transformer.register_to_config(**options)
    return make(transformer=transformer)


@pytest.mark.parametrize(
    ("edit", "made", "words"),
    [
        (QWEN.edit, lambda: changed(make_qwen, zero_cond_t=True), "zero_cond_t=True, as Qwen-Image-Edit has"),
        (QWEN.edit, lambda: changed(make_qwen, use_layer3d_rope=True), "as Qwen-Image-Layered has"),
        (QWEN.edit, lambda: changed(make_qwen, guidance_embeds=True), "into which guidance is distilled"),
        (QWEN.edit, lambda: changed(make_qwen, in_channels=33), "needs 33 input channels where the VAE gives 16"),
        (QWEN.edit, lambda: changed(make_qwen, joint_attention_dim=8), "embeddings 16 wide, but .* takes 8"),
        (Z_IMAGE.edit, lambda: changed(make_z_image, siglip_feat_dim=8), "as Z-Image-Omni has"),
        (Z_IMAGE.edit, lambda: changed(make_z_image, in_channels=9), "needs 9 input channels where the VAE gives 4"),
        (
            Z_IMAGE.edit,
            lambda: make_z_image(scheduler=FlowMatchHeunDiscreteScheduler()),
            "must be a FlowMatchEulerDiscreteScheduler, got a FlowMatchHeunDiscreteScheduler",
        ),
        (
            QWEN.edit,
            lambda: make_qwen(scheduler=FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)),
            "stochastic_sampling=True",
        ),
        (
            QWEN.edit,
            lambda: make_qwen(text_encoder=None),
            "`prompt` is text, but .*`prompt_embeds` and `prompt_embeds_mask`",
        ),
    ],
)  # fmt: skip
def test_models_that_are_not_served(edit, made, words):
    with pytest.raises(ValueError, match=words):
        small_edit(pipeline_around(edit, made()))


def test_a_vae_of_another_model_is_refused():
    pipe = pipeline_around(QwenImageDiffEditPipeline, make_qwen())
    pipe.register_modules(vae=AutoencoderKL(block_out_channels=(4,), norm_num_groups=4))
    with pytest.raises(ValueError, match="The `vae` is a AutoencoderKL, which has no `z_dim`"):
        small_edit(pipe)


def test_each_family_is_told_from_the_other_and_from_what_takes_pictures():
    qwen, z_image = make_qwen(), make_z_image()
    assert [family_of_modules(one.components).title for one in (qwen, z_image)] == ["Qwen-Image", "Z-Image"]
    assert family_of_modules({**qwen.components, "processor": object()}) is None
    assert family_of_modules({**z_image.components, "controlnet": object()}) is None
    words = "is of Qwen-Image, which ZImageDiffEditPipeline does not support; use QwenImageDiffEditPipeline"
    with pytest.raises(ValueError, match=re.escape(words)):
        ZImageDiffEditPipeline.from_pipe(qwen)


@chat
def test_a_saved_model_loads_as_diffusers_own_and_as_ours(family, pipe, own, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert type(type(own).from_pretrained(tmp_path, local_files_only=True)) is type(own)
    again = family.edit.from_pretrained(tmp_path, local_files_only=True)
    assert_close(small_edit(again).images, small_edit(pipe).images, rtol=0, atol=1e-5)


def test_a_compiled_transformer_is_still_of_its_family():
    class Compiled(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self._orig_mod = module

    components = make_z_image().components
    compiled = {**components, "transformer": Compiled(components["transformer"])}
    assert family_of_modules(compiled).title == "Z-Image"
