"""What only FLUX.1 has: guidance that is told, step distillation, and words that T5 reads."""

from __future__ import annotations

import copy
import json
import math
import warnings

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from peft import LoraConfig

from semantic_edit import load
from semantic_edit.denoisers import flux
from semantic_edit.pipelines import PRESETS, FluxDiffEditPipeline, pipeline_around
from tests.conftest import make_picture
from tests.flow.flux import flux_transformer, make_flux, small_pooling_clip
from tests.flow.parts import small_t5
from tests.flow.test_laws import received

PICTURE = make_picture(1)
EDIT = {
    "image": PICTURE,
    "prompt": "a red apple",
    "source_prompt": "a red pear",
    "num_inference_steps": 4,
    "num_maps_per_mask": 2,
    "max_sequence_length": 12,
    "focus": False,
}
LEFT = np.zeros((48, 64), dtype=np.uint8)
LEFT[:, :32] = 255


@pytest.fixture(autouse=True)
def small_native_size(monkeypatch):
    monkeypatch.setattr(flux, "OWN_SIDE", 8)


def ours(told=True, **changes):
    pipe = pipeline_around(FluxDiffEditPipeline, make_flux(told), **changes)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(pipe, **changes):
    return pipe(**{**EDIT, "generator": torch.Generator().manual_seed(0), **changes})


def guidances(pipe, **changes):
    """What the transformer is told in each evaluation of an edit, and of how many samples."""
    with received(pipe.transformer) as calls:
        edit(pipe, **changes)
    return [(None if one["guidance"] is None else one["guidance"].tolist()) for one in calls]


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_encoding_is_told_one_and_all_else_the_calls_guidance(preset):
    told = guidances(ours(), preset=preset, guidance_scale=2.5)
    inversion = told.count([1.0])
    decoding = len(told) - 1 - inversion
    assert inversion == math.ceil(decoding / PRESETS[preset].inversion_stride)
    assert told == [[2.5] * 4, *[[1.0]] * inversion, *[[2.5]] * decoding]
    assert guidances(ours(), mask_image=LEFT, preset=preset, encoding="noise") == [[3.5]] * decoding


def test_flowedit_is_told_a_number_for_each_prompt():
    one = guidances(ours(), mask_image=LEFT, encoding="flowedit", preset="paper")
    assert one == [[1.5], [5.5]] * (len(one) // 2)
    other = guidances(ours(), mask_image=LEFT, encoding="flowedit", guidance_scale=4.0)
    assert other == [[1.5], [4.0]] * (len(other) // 2)


def test_true_guidance_evaluates_both_prompts():
    told = guidances(
        ours(), mask_image=LEFT, encoding="noise", negative_prompt="", true_cfg_scale=2.0, guidance_stop=1.0
    )
    assert told == [[3.5, 3.5]] * len(told)
    assert told


def test_schnell_is_told_nothing_and_takes_four_steps():
    told = guidances(ours(told=False), num_inference_steps=None, inpaint_strength=1.0, preset="paper")
    assert told == [None] * 5  # one of them for the mask
    assert len(guidances(ours(told=False), inpaint_strength=1.0, num_inference_steps=6)) == 7


@pytest.mark.parametrize(
    ("told", "encoding"), [(True, "inversion"), (True, "noise"), (True, "flowedit"), (False, "noise")]
)
def test_what_lies_outside_the_mask_stays_in_every_bit(told, encoding):
    pipe = ours(told)
    given = {"mask_image": LEFT, "encoding": encoding, "output_type": "latent"}
    edited = edit(pipe, **given, preserve_background=False).images
    with torch.no_grad():
        clean = edit(pipe, **{**given, "mask_image": np.zeros_like(LEFT)}).images
    assert torch.equal(edited[..., 4:], clean[..., 4:])
    assert not torch.equal(edited[..., :4], clean[..., :4])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"negative_prompt": "a mug"},
            r"`negative_prompt` has an effect only with `true_cfg_scale` above 1, got 1:",
        ),
        (
            {"source_negative_prompt": ["a mug"], "true_cfg_scale": 0.5},
            r"`source_negative_prompt` has an effect only with `true_cfg_scale` above 1, got 0.5",
        ),
        ({"true_cfg_scale": 4}, r"`true_cfg_scale` 4 guides away from a negative prompt, and there is none"),
        ({"true_cfg_scale": "no"}, r"`true_cfg_scale` must be .* got 'no'"),
        ({"guidance_scale": -1}, r"`guidance_scale` must be .* got -1\. The model is told it; 3\.5 is usual"),
        (
            {"encoding": "flowedit", "negative_prompt": "a mug", "true_cfg_scale": 4},
            r"`negative_prompt` does not go with `encoding=\"flowedit\"`",
        ),
        (
            {"encoding": "flowedit", "true_cfg_scale": 4},
            r"`true_cfg_scale` does not go with `encoding=\"flowedit\"`",
        ),
        ({"max_sequence_length": 513}, r"`max_sequence_length` must be an integer from 1 to 512, got 513"),
        ({"num_inference_steps": 0}, r"`num_inference_steps` must be an integer from 1 to 1000, got 0"),
        ({"pooled_prompt_embeds": torch.zeros(1, 16)}, "Got `pooled_prompt_embeds` without `prompt_embeds`"),
        (
            {
                "prompt": None,
                "prompt_embeds": torch.zeros(1, 12, 32),
                "pooled_prompt_embeds": torch.zeros(1, 8),
            },
            "`pooled_prompt_embeds` is 8 wide, but the transformer takes 16",
        ),
    ],
)
def test_arguments_that_are_refused(given, message):
    pipe = ours()
    with received(pipe.transformer) as calls, pytest.raises(ValueError, match=message):
        edit(pipe, **given)
    assert not calls


def test_an_empty_negative_prompt_asks_for_nothing():
    usual = edit(ours(), output_type="pt").images
    assert torch.equal(edit(ours(), negative_prompt="", output_type="pt").images, usual)


def test_the_other_stages_refuse_a_negative_prompt_in_their_own_words():
    pipe, given = ours(), {"image": PICTURE, "max_sequence_length": 12}
    with pytest.raises(ValueError, match="`target_negative_prompt` has an effect only with `true_cfg_scale`"):
        pipe.generate_mask(target_prompt="a pear", target_negative_prompt="a mug", **given)
    with pytest.raises(ValueError, match="`negative_prompt` has an effect only with `true_cfg_scale`"):
        pipe.invert("a pear", negative_prompt="a mug", **given)


@pytest.mark.parametrize("encoding", ["inversion", "flowedit"])
def test_schnell_is_not_encoded(encoding):
    pipe = ours(told=False)
    reason = r"does not work with a step-distilled model \(FLUX\.1 schnell.* Edit with `encoding=\"noise\"`"
    with pytest.raises(ValueError, match=f"`encoding='{encoding}'` {reason}"):
        edit(pipe, encoding=encoding)
    with pytest.raises(ValueError, match=f"`invert` {reason}"):
        pipe.invert("a pear", PICTURE)


def test_models_that_are_refused():
    other_clip = copy.deepcopy(small_pooling_clip())
    other_clip.config.hidden_size = 24
    shown_images = copy.deepcopy(flux_transformer())
    shown_images.encoder_hid_proj = torch.nn.Identity()
    for changes, message in (
        (
            {"transformer": flux_transformer(in_channels=96)},
            r"`transformer` takes 96 channels where 16 belong .* FLUX\.1 Fill, Depth and Canny",
        ),
        ({"scheduler": DDIMScheduler()}, "`scheduler` must be a FlowMatchEulerDiscreteScheduler, got a DDIM"),
        ({"transformer": None}, "This pipeline has no `transformer`"),
        ({"transformer": shown_images}, r"needs an IP-Adapter's image; call `unload_ip_adapter\(\)`"),
        (
            {"text_encoder": other_clip},
            "`text_encoder` gives embeddings 24 wide, but the transformer takes 16",
        ),
        ({"text_encoder_2": small_t5(16)}, "`text_encoder_2` gives embeddings 16 wide, .* takes 32"),
    ):
        with pytest.raises(ValueError, match=message):
            edit(ours(**changes))


@pytest.mark.parametrize("name", ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
def test_text_needs_all_encoders(name):
    with pytest.raises(
        ValueError, match=r"`prompt` is text, .* pass `prompt_embeds` and `pooled_prompt_embeds`"
    ):
        edit(ours(**{name: None}))


def test_embeddings_stand_for_text():
    pipe = ours()
    texts = {"prompt": EDIT["prompt"], "source_prompt": EDIT["source_prompt"]}
    given = {}
    for name, text in texts.items():
        embeds, pooled, _ = pipe.encode_prompt(text, max_sequence_length=12)
        given |= {
            name: None,
            f"{name}_embeds": embeds,
            name.replace("prompt", "pooled_prompt_embeds"): pooled,
        }
    one, other = edit(pipe, **given, output_type="pt"), edit(pipe, output_type="pt")
    torch.testing.assert_close(one.images, other.images, rtol=0, atol=1e-5)


def test_words_are_those_that_t5_reads():
    """With `prompt_2`, they are its words; the first text only makes the pooled embedding."""
    pipe = ours()
    denoiser = pipe._denoiser({"max_sequence_length": 12})
    tokens = denoiser.tokens("a red apple")
    assert (tokens.text_start, tokens.text_end, len(tokens.ids)) == (0, 3, 12)
    assert [word.tokens for word in tokens.words] == [(0,), (1,), (2,)]

    same = {"focus": True, "num_inference_steps": 1, "inpaint_strength": 1.0}
    with pytest.raises(ValueError, match="only one of the two prompts has, and here there are none"):
        edit(pipe, **same, prompt_2="a mug", source_prompt_2="a mug")


def test_what_t5_cuts_off_is_told_and_what_only_clip_cuts_off_is_not():
    pipe, long = ours(), " ".join(["a red apple on the grass"] * 4)  # 24 words; CLIP reads 14
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edit(pipe, prompt=long, mask_image=LEFT, max_sequence_length=32)
    with pytest.warns(
        UserWarning, match=r"`prompt` is longer than the 12 tokens that .* cut off: 'grass a red"
    ):
        edit(pipe, prompt=long, mask_image=LEFT)
    with pytest.warns(UserWarning, match=r"`prompt` is longer than the 16 tokens"):
        edit(pipe, prompt=long, prompt_2="a mug", mask_image=LEFT)


def test_loras_act_and_their_scale_is_that_of_the_call():
    plain = edit(ours(), mask_image=LEFT, output_type="pt").images
    adapted = copy.deepcopy(flux_transformer())
    adapted.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    pipe = ours(transformer=adapted)
    given = {"mask_image": LEFT, "output_type": "pt"}
    assert not torch.equal(edit(pipe, **given).images, plain)
    assert torch.equal(edit(pipe, **given, joint_attention_kwargs={"scale": 0.0}).images, plain)


def test_a_folder_is_of_flux_and_loads(tmp_path):
    pipe = ours()
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == "FluxPipeline"
    again = load(tmp_path)
    assert isinstance(again, FluxDiffEditPipeline)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(edit(again, output_type="pt").images, edit(pipe, output_type="pt").images)
    with pytest.raises(ValueError, match=r"does not work with FLUX\.1: it needs a UNet's cross-attention"):
        load(tmp_path, "stylediffusion")


def test_words_are_those_of_the_text_that_t5_reads():
    """Where it reads another text than CLIP, that text's words are drawn, and edits blend by them."""
    pipe = ours()
    told = {"max_sequence_length": 12, "generator": torch.Generator().manual_seed(0)}
    (alone,), (maps,) = (
        pipe.explain(PICTURE, prompt, **told, **more).attention_maps
        for prompt, more in (("a blue mug", {}), ("a red apple", {"prompt_2": "a blue mug"}))
    )
    assert list(maps) == list(alone) == ["a", "blue", "mug"]
    texts = {"prompt_2": ["a blue mug", "a mug"], "source_prompt_2": "the table"}
    edited = edit(pipe, **texts, mask_image=LEFT, local_blend="mug", num_images_per_prompt=2)
    assert len(edited.images) == 4
    with pytest.raises(ValueError, match="'apple' is not in the prompt 'a blue mug'"):
        edit(pipe, **texts, mask_image=LEFT, local_blend="apple")
