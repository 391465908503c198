"""Every bad input is a clear error, before the UNet is first evaluated."""

import copy
from pathlib import Path

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from diffusers.models.attention_processor import AttnAddedKVProcessor

from semantic_edit.mapping_networks import LearningSettings

pytestmark = pytest.mark.families("sd", "sdxl")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"


@pytest.fixture
def refuses(style_pipe, learned, counted):
    def check(match, error=ValueError, pipe=style_pipe, **changes):
        arguments = {"prompt": TARGET, "mapping_network": learned}
        with pytest.raises(error, match=match):
            pipe(**{**arguments, **changes})
        assert counted.samples == 0

    return check


@pytest.fixture
def refuses_to_learn(style_pipe, picture, counted):
    def check(match, error=ValueError, pipe=style_pipe, **changes):
        arguments = {"image": picture, "prompt": SOURCE, "num_inference_steps": 2}
        with pytest.raises(error, match=match):
            pipe.learn_mapping(**{**arguments, **changes})
        assert counted.samples == 0

    return check


def with_entries(network, **entries):
    other = copy.deepcopy(network)
    other.register_to_config(**entries)
    return other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau_v": 1.5}, r"`tau_v` must be a number from 0 to 1, got 1\.5\. It is the fraction of the steps"),
        ({"tau_c": -0.1}, r"`tau_c` must be a number from 0 to 1, got -0\.1"),
        ({"tau_s": True}, "`tau_s` must be a number from 0 to 1, got True"),
        ({"tau_u": float("nan")}, "`tau_u` must be a number from 0 to 1, got nan"),
        ({"tau_u": "0.5"}, "`tau_u` must be a number from 0 to 1, got '0.5'"),
        ({"word_tau_c": {"pear": 2}}, r"`word_tau_c\['pear'\]` must be a number from 0 to 1, got 2"),
        ({"reweight": {"pear": "2"}}, r"`reweight\['pear'\]` must be a number from -1000 .* got '2'"),
        (
            {"word_tau_c": {"mug": 0.5}},
            "`word_tau_c` does not fit the prompts: 'mug' is not in .* words: a, green, pear, on, grass, or",
        ),
        (
            {"reweight": {"apple": 2.0}},
            "`reweight` does not fit the prompts: 'apple' is not in the prompt 'a green pear on",
        ),
        (
            {"local_blend": "mug"},
            "`local_blend` does not fit the prompts: 'mug' is .*'a red apple on grass'.*'a green pear on",
        ),
        ({"local_blend": ["apple", ""]}, "`local_blend` does not fit the prompts: A word needs a letter"),
        (
            {"prompt": "a " * 20 + "mug", "reweight": {"mug": 2}},
            "'mug' was cut off: the text encoder takes 16",
        ),
        ({"local_blend_threshold": 1}, "`local_blend_threshold` must be a number above 0 and below 1, got 1"),
        ({"local_blend_threshold": "a"}, "`local_blend_threshold` must be a number .* got 'a'"),
        ({"edit_type": "add"}, '`edit_type` must be "replace", "refine" or None.* got \'add\''),
        (
            {"edit_type": "replace", "prompt": "a mug"},
            "Replacing needs prompts with equally many words, got 5",
        ),
        ({"self_attention_side": 0}, "`self_attention_side` must be an integer from 1 to 16384, .* got 0"),
        ({"num_inference_steps": 5}, "is 5, but the mapping network was learned with 4 steps: each step has"),
        ({"guidance_scale": -1}, "`guidance_scale` must be a number from 0 to 1000, got -1"),
        ({"negative_prompt": ["a", "b"]}, "`negative_prompt` holds 2 for 1 prompts. Pass one for all"),
        ({"mask_image": np.zeros((3, 6, 8)), "prompt": ["a", "b"]}, "`mask_image` holds 3 for 2 prompts"),
        ({"mask_image": np.full((6, 8), 7.0)}, r"`mask_image` must hold floats in \[0, 1\]"),
        ({"mask_image": "mask.png"}, "`mask_image` is the word 'mask.png'; pass a picture, or 'auto'"),
        ({"mask_grow": 1.5}, r"`mask_grow` must be an integer from -10000 to 10000, .* got 1\.5"),
        ({"mask_feather": -1}, "`mask_feather` must be a number from 0 to 1000, .* got -1"),
        ({"preserve_background": True}, "keeps the pixels of `image` outside of `mask_image`; pass both"),
        ({"prompt": []}, "`prompt` is an empty list"),
        ({"generator": 7}, "`generator` must be a torch.Generator .* got 7"),
        ({"generator": [torch.Generator()] * 2}, "holds 2 generators for 1 edits"),
        ({"output_type": "jpeg"}, "`output_type` must be one of pil, np, pt, latent, got 'jpeg'"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "may name latents, .*got noise"),
        (
            {"callback_on_step_end": SDCFGCutoffCallback()},
            "SDCFGCutoffCallback is made for pipelines that keep the prompts",
        ),
    ],
)
def test_bad_arguments(refuses, changes, message):
    refuses(message, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "`prompt` must be a string or a list of strings, got None"),
        ({"prompt": 7}, "`prompt` must be a string or a list of strings, got 7"),
        ({"negative_prompt": 7}, "`negative_prompt` must be a string or a list of strings, got 7"),
        (
            {"mapping_network": "mapping/"},
            r"must be a MappingNetwork, got str; .*load_mapping_network\(folder\)",
        ),
        ({"word_tau_c": 0.5}, r"`word_tau_c` must be a dict from words to numbers.* got 0\.5"),
        ({"reweight": {3: 2.0}}, "`reweight` must be a dict .* got {3: 2.0}"),
        ({"local_blend": 3}, "`local_blend` must be a word or a list of words, got 3"),
        ({"local_blend": ["apple", 3]}, "`local_blend` must be a word or a list of words"),
    ],
)
def test_arguments_of_the_wrong_type(refuses, changes, message):
    refuses(message, error=TypeError, **changes)


def test_what_there_is_one_of_or_one_for_each_is_taken(refuses, style_pipe, learned, counted):
    prompts = ["a mug", "a pear"]
    refuses("`negative_prompt` holds 3 for 2 prompts", prompt=prompts, negative_prompt=["a", "b", "c"])
    style_pipe(prompts, learned, negative_prompt=["a", "b"], mask_image=np.eye(8)[:6])
    assert counted.samples == 4 * 2 * 2 + 3 + 2


def test_the_preserved_picture_has_the_learned_ones_size(refuses, pictures):
    options = {"mask_image": np.eye(8)[:6], "preserve_background": True}
    size = "must be the learned picture, 64 x 48 pixels"
    refuses(size, image=PIL.Image.new("RGB", (48, 64)), **options)
    refuses(size, image=pictures[:2], **options)
    refuses(size, image=torch.full((1, 4, 6, 8), -1.0), **options)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"base_fingerprint": "0" * 16},
            r"base model: mapping network 0{16}, this call \w{16}.*learn the picture",
        ),
        ({"schedule_fingerprint": "other"}, r"noise schedule: mapping network other, this call \w+"),
        (
            {"prediction_type": "v_prediction"},
            r"prediction_type: mapping network v_prediction \(.*\), this call epsilon",
        ),
        ({"num_text_tokens": 77}, "number of text tokens: mapping network 77, this call 16"),
        ({"text_width": 768}, r"text width: mapping network 768, this call (32|56)\b"),
        ({"latent_shape": (16, 6, 8)}, r"latent shape: mapping network \(16, 6, 8\), this call \(4, 6, 8\)"),
        ({"scaling_factor": 1.0}, r"VAE scaling factor: mapping network 1\.0, this call 0\.18215"),
    ],
)
def test_networks_of_something_else(refuses, learned, entries, message):
    refuses(message, mapping_network=with_entries(learned, **entries))


def test_networks_of_another_model_or_schedule(refuses, make_style_pipe, make_unet, learned):
    refuses(r"base model: mapping network \w+", pipe=make_style_pipe(unet=make_unet(seed=1)))
    other = make_style_pipe()
    other.scheduler.register_to_config(beta_end=0.02)
    refuses("noise schedule: mapping network", pipe=other)
    damaged = copy.deepcopy(learned)
    with torch.no_grad():
        damaged.conv_in_bias[2, 3] = float("nan")
    refuses("holds NaN or infinite values", mapping_network=damaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "scale"}, "`variant` must be one of modulate, direct, got 'scale'"),
        ({"guidance_scale": float("inf")}, "`guidance_scale` must be a number from 0 to 1000, got inf"),
        ({"gradient_checkpointing": "no"}, "`gradient_checkpointing` must be True or False, got 'no'"),
        ({"checkpoint": 7}, "`checkpoint` must be the path of a folder, or None, got 7"),
        ({"checkpoint": ""}, "`checkpoint` must be the path of a folder, or None, got ''"),
        ({"checkpoint": __file__}, "`checkpoint` must be a folder, and '.*' is not one"),
        ({"checkpoint": Path(__file__).parent}, "`checkpoint` '.*' holds something other than a checkpoint"),
        ({"attention_side": 2.5}, r"`attention_side` must be an integer from 1 to 16384, .* got 2\.5"),
        ({"num_inference_steps": 0}, "`num_inference_steps` must be an integer from 1 to 1000, got 0"),
        ({"image": None}, "`image` is missing"),
        ({"height": 60, "width": 60}, "60 x 60, but the model takes only multiples of 8"),
        ({"focus": True}, "`focus=True` learns the surroundings of `mask_image`; pass a mask too"),
        ({"focus": 1}, "`focus` must be True, False or None"),
        ({"mask_image": np.eye(8)}, "`mask_image` is 8 x 8 and the picture 64 x 48"),
        ({"image": torch.full((1, 4, 6, 8), -1.0)}, "`image` holds latents, but learning shows the picture"),
        ({"prompt": ["a", "b", "c"], "image": [PIL.Image.new("RGB", (64, 48))] * 2}, "`image` 2, `prompt` 3"),
    ],
)
def test_bad_arguments_of_learning(refuses_to_learn, changes, message):
    refuses_to_learn(message, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "a mug"}, "`image` is the text 'a mug', but must be a picture"),
        ({"prompt": None}, "`prompt` must be a string or a list of strings, got None"),
        ({"negative_prompt": ["a"]}, r"`negative_prompt` must be one string for all pictures, got \['a'\]"),
        (
            {"settings": "endless"},
            "`settings` must be 'none', 'short', 'long', 'published' or LearningSettings, got 'endless'",
        ),
        (
            {"settings": LearningSettings},
            "`settings` must be 'none', 'short', 'long', 'published' or LearningSettings, got <class",
        ),
    ],
)
def test_arguments_of_learning_of_the_wrong_type(refuses_to_learn, changes, message):
    refuses_to_learn(message, error=TypeError, **changes)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"prompt": 7}, "'prompt' of a mapping network must be text .* got 7"),
        ({"latent_shape": None}, "'latent_shape' of a mapping network must be a list of 3"),
        ({"frame": {"picture": [64, 48]}}, "'frame' of a mapping network must be an object of"),
        ({"latent_shape": (4, 8, 6)}, r"trajectory: got \(5, 4, 6, 8\), the config asks for \(5, 4, 8, 6\)"),
    ],
)
def test_configs_that_were_changed(style_pipe, learned, entries, message):
    network = copy.deepcopy(learned)
    network.register_to_config(**entries)
    with pytest.raises(ValueError, match=message):
        style_pipe(TARGET, network)


def test_networks_without_values(style_pipe, learned):
    with pytest.raises(ValueError, match="The `mapping_network` has no values because it is on the device"):
        style_pipe(TARGET, copy.deepcopy(learned).to("meta"))
    with pytest.raises(TypeError, match="`mapping_network` must be a MappingNetwork, got type"):
        style_pipe(TARGET, type(learned))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (None, "loaded from a folder or a Hub id, got None"),
        ("", "loaded from a folder or a Hub id, got ''"),
        ("a\x00b", "loaded from a folder or a Hub id, got"),
        (__file__, "loaded from a folder, and '.*' is not one"),
    ],
)
def test_places_that_hold_no_network(style_pipe, place, message):
    with pytest.raises(ValueError, match=f"A mapping network is {message}"):
        style_pipe.load_mapping_network(place)


def test_learning_needs_an_encoder_of_pictures(refuses_to_learn, make_style_pipe, text_encoder):
    pipe = make_style_pipe(image_encoder=text_encoder)
    refuses_to_learn(
        "The `image_encoder` is a CLIPTextModel, but learning a picture needs a CLIPVisionModel", pipe=pipe
    )


@pytest.mark.parametrize("missing", ["image_encoder", "feature_extractor"])
def test_learning_needs_vision(refuses_to_learn, make_style_pipe, missing):
    message = f"Learning a picture needs `{missing}`, which.*CLIPVisionModelWithProjection"
    refuses_to_learn(message, pipe=make_style_pipe(**{missing: None}))


def test_words_need_a_text_encoder(refuses, refuses_to_learn, make_style_pipe):
    for name in ("text_encoder", "tokenizer"):
        pipe = make_style_pipe(**{name: None})
        for check in (refuses, refuses_to_learn):
            check("needs `text_encoder` and `tokenizer`, and this pipeline lacks", pipe=pipe)


@pytest.mark.parametrize("name", ["unet", "vae", "scheduler"])
def test_a_model_that_is_not_there(refuses, refuses_to_learn, make_style_pipe, name):
    for check in (refuses, refuses_to_learn):
        check(f"This pipeline has no `{name}`, which every edit needs", pipe=make_style_pipe(**{name: None}))


def test_arguments_of_attention_that_are_no_dict(refuses, refuses_to_learn):
    for check in (refuses, refuses_to_learn):
        check("`cross_attention_kwargs` must be a dict .* got 'x'", cross_attention_kwargs="x")
        check(r"`cross_attention_kwargs\['scale'\]` must be", cross_attention_kwargs={"scale": "x"})


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_half_of_a_surrogate_pair_is_no_text(refuses, refuses_to_learn, name):
    for check in (refuses, refuses_to_learn):
        check(rf"`{name}` must be text that can be encoded in UTF-8, got '\\udcff'", **{name: "\udcff"})


def test_schedulers_that_cannot_be_inverted(refuses, refuses_to_learn, make_style_pipe):
    for check in (refuses, refuses_to_learn):
        pipe = make_style_pipe(scheduler=diffusers.DDPMScheduler())
        check("DDPMScheduler cannot be inverted", pipe=pipe)
        pipe = make_style_pipe(scheduler=diffusers.DDIMScheduler(clip_sample=True))
        check("has clip_sample=True", pipe=pipe)


def test_unets_of_other_families(refuses, refuses_to_learn, make_style_pipe, make_unet):
    pipe = make_style_pipe(unet=make_unet(in_channels=9))
    adapted = make_unet()
    adapted.register_to_config(encoder_hid_dim_type="ip_image_proj")
    for check in (refuses, refuses_to_learn):
        check("9 input channels where the VAE gives 4, as inpainting models do", pipe=pipe)
        check("needs an IP-Adapter's image", pipe=make_style_pipe(unet=adapted))


def test_foreign_processors_are_refused_and_stay(refuses, refuses_to_learn, make_style_pipe, make_unet):
    unet = make_unet()
    evaluated = []
    unet.register_forward_pre_hook(lambda *_: evaluated.append(1))
    pipe = make_style_pipe(unet=unet)
    foreign = AttnAddedKVProcessor()
    unet.mid_block.attentions[0].transformer_blocks[0].attn2.set_processor(foreign)
    flags = [parameter.requires_grad for parameter in unet.parameters()]
    for check in (refuses, refuses_to_learn):
        check("layer mid_block.*attn2 has a AttnAddedKVProcessor.*set_attn_processor", pipe=pipe)
    assert foreign in unet.attn_processors.values()
    assert flags == [parameter.requires_grad for parameter in unet.parameters()]
    assert not evaluated


def test_settings_say_what_is_wrong_with_them():
    with pytest.raises(ValueError, match="`inner_steps` must be an integer from 0 to 100000, got -1"):
        LearningSettings(inner_steps=-1)
