"""What was made with one model, image and schedule is refused with another, but not with an equivalent one."""

import copy
import io

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import DDIMScheduler
from peft import LoraConfig

from semantic_edit.denoisers.identity import (
    check_same_adapters,
    check_same_text,
    model_fingerprint,
    network_identity,
    text_look,
)
from semantic_edit.editing import Conditioning, Trajectory
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines import DiffEditPipeline, StyleDiffusionPipeline
from semantic_edit.still_life import edit_cases, model_path
from tests.schedules import STABLE_DIFFUSION

pytestmark = pytest.mark.families("sd", "sdxl")

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
ONE_UPDATE = LearningSettings(inner_steps=1, converged_below=100.0)
LORA = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
OTHER_LORA = "with another LoRA, or another scale of it, than the model has in this call"


def with_lora(network, name="default", config=LORA, seed=1):
    torch.manual_seed(seed)
    network.add_adapter(config, adapter_name=name)
    return network


@pytest.fixture
def invert(picture):
    def run(pipe, **changes):
        return pipe.invert(image=picture, num_inference_steps=5, **changes).trajectory

    return run


@pytest.fixture
def learn(picture):
    def run(pipe, prompt=SOURCE, **changes):
        return pipe.learn_mapping(picture, prompt, 2, settings=ONE_UPDATE, **changes)

    return run


def restyle(pipe, network, **changes):
    return pipe(TARGET, network, output_type="latent", **changes).images


@pytest.mark.families("sd")
def test_adapters_do_not_make_another_model(make_unet):
    own = model_fingerprint(make_unet())
    unet = with_lora(make_unet())
    assert model_fingerprint(unet) == own
    unet.disable_adapters()
    assert network_identity(unet) == own
    unet.enable_adapters()
    assert network_identity(unet, {"scale": 0.0}) == own
    adapted = network_identity(unet)
    assert adapted.startswith(f"{own}+")
    assert (
        adapted == network_identity(unet, {"scale": 1.0}) == network_identity(with_lora(make_unet(), "mine"))
    )
    elsewhere = LoraConfig(r=2, target_modules=["to_k"], init_lora_weights=False)
    idle = with_lora(with_lora(make_unet(), "idle", elsewhere), seed=1)
    idle.set_adapters(["default"])
    assert network_identity(idle) == adapted
    both = with_lora(with_lora(make_unet()), "second", seed=3)
    both.set_adapters(["default", "second"])
    others = [
        network_identity(unet, {"scale": 0.5}),
        network_identity(with_lora(make_unet(), seed=2)),
        network_identity(with_lora(make_unet(), config=LoraConfig(r=3, target_modules=["to_q", "to_v"]))),
        network_identity(both),
    ]
    assert len({adapted, *others}) == 5
    assert network_identity(copy.deepcopy(unet).half()) == adapted
    assert network_identity(copy.deepcopy(unet).bfloat16()) == f"+{adapted.split('+')[1]}+"
    assert network_identity(make_unet().bfloat16()) == "+"


def test_which_adapters_are_the_same():
    for one, other in (
        ("", "a+1+2"),
        ("a+1+2", ""),
        ("a", "a"),
        ("a", "+"),
        ("a+1+2", "a+1+2"),
        ("a+1+2", "+1+"),
    ):
        check_same_adapters("trajectory", one, other)
    for one, other, words in (
        ("a", "a+1+2", "was made without the LoRA that the model has in this call"),
        ("+", "+1+", "without the LoRA"),
        ("a+1+2", "a", "was made with a LoRA, but none is active in this call"),
        ("a+1+2", "a+1+3", OTHER_LORA),
        ("a+1+2", "+3+", OTHER_LORA),
    ):
        with pytest.raises(ValueError, match=f"`trajectory` {words}|`trajectory` was made {words}"):
            check_same_adapters("trajectory", one, other)


@pytest.mark.families("sd", slow=["sdxl"])
def test_a_trajectory_and_lora(make_pipe, make_unet, edit, invert, counted):
    plain, adapted = make_pipe(), make_pipe(unet=with_lora(make_unet()))
    with_it, without = invert(adapted), invert(plain)
    half = invert(adapted, cross_attention_kwargs={"scale": 0.5})
    before = counted.samples
    with pytest.raises(
        ValueError, match="`trajectory` was made with a LoRA, but none is active in this call"
    ):
        edit(plain, trajectory=with_it)
    with pytest.raises(ValueError, match="`trajectory` was made without the LoRA that the model has"):
        edit(adapted, trajectory=without)
    for trajectory, scale in ((with_it, 0.5), (half, 1.0)):
        with pytest.raises(ValueError, match=f"{OTHER_LORA}.*attention arguments"):
            edit(adapted, trajectory=trajectory, cross_attention_kwargs={"scale": scale})
    with pytest.raises(ValueError, match="made with a LoRA, but none is active"):
        edit(adapted, trajectory=with_it, cross_attention_kwargs={"scale": 0.0})
    assert counted.samples == before
    nothing = {"cross_attention_kwargs": {"scale": 0.0}}
    torch.testing.assert_close(edit(adapted, trajectory=without, **nothing), edit(plain), rtol=0, atol=1e-4)
    renamed = make_pipe(unet=with_lora(make_unet(), "another_name"))
    torch.testing.assert_close(edit(renamed, trajectory=with_it), edit(adapted), rtol=0, atol=1e-4)
    adapted.unet.disable_adapters()
    torch.testing.assert_close(edit(adapted, trajectory=without), edit(plain), rtol=0, atol=1e-4)


@pytest.mark.families("sd")
@pytest.mark.parametrize("kwargs", ["x", {"scale": None}, {"scale": "much"}])
def test_a_scale_that_is_none(make_pipe, make_unet, edit, invert, kwargs):
    adapted = make_pipe(unet=with_lora(make_unet()))
    with pytest.raises(ValueError, match=r"`cross_attention_kwargs(\['scale'\])?` must be"):
        edit(adapted, trajectory=invert(adapted), cross_attention_kwargs=kwargs)


@pytest.mark.families("sd", slow=["sdxl"])
def test_a_learned_picture_and_lora(make_style_pipe, make_unet, learn, tmp_path):
    plain, adapted = make_style_pipe(), make_style_pipe(unet=with_lora(make_unet()))
    learn(adapted).save_pretrained(tmp_path)
    network, without = MappingNetwork.from_pretrained(tmp_path), learn(plain)
    assert restyle(adapted, network).isfinite().all()
    with pytest.raises(
        ValueError, match="`mapping_network` was made with a LoRA, but none is active in this call"
    ):
        restyle(plain, network)
    with pytest.raises(ValueError, match="with a LoRA, but none is active"):
        restyle(adapted, network, cross_attention_kwargs={"scale": 0.0})
    with pytest.raises(ValueError, match=OTHER_LORA):
        restyle(adapted, network, cross_attention_kwargs={"scale": 0.5})
    with pytest.raises(ValueError, match="`mapping_network` was made without the LoRA"):
        restyle(adapted, without)
    adapted.unet.disable_adapters()
    torch.testing.assert_close(restyle(adapted, without), restyle(plain, without), rtol=0, atol=1e-4)


@pytest.mark.families("sd", slow=["sdxl"])
def test_a_learning_does_not_go_on_with_another_scale(make_style_pipe, make_unet, learn, tmp_path):
    adapted = make_style_pipe(unet=with_lora(make_unet()))
    learn(adapted, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"belongs to another run of learning .*model: checkpoint"):
        learn(adapted, checkpoint=tmp_path, cross_attention_kwargs={"scale": 0.5})


@pytest.mark.families("sd")
def test_layerwise_casting_to_8_bits_is_the_same_model(
    make_pipe, make_style_pipe, make_unet, edit, invert, learn
):
    cast = make_unet()
    cast.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert network_identity(cast) == "+"
    rounded = edit(make_pipe(unet=cast), trajectory=invert(make_pipe()))
    assert rounded.isfinite().all()
    network = learn(make_style_pipe())
    assert restyle(make_style_pipe(unet=cast), network).isfinite().all()
    assert edit(make_pipe(), trajectory=invert(make_pipe(unet=cast))).isfinite().all()


def test_what_is_told(tokenizer, text_encoder, make_style_pipe, learn):
    """With a textual inversion, a LoRA of the text encoder, or another text encoder."""
    torch.manual_seed(0)
    token = torch.randn(32)
    own = {"tokenizer": copy.deepcopy(tokenizer), "text_encoder": copy.deepcopy(text_encoder)}
    inverted = make_style_pipe(**own)
    inverted.load_textual_inversion({"<cube>": token}, token="<cube>", **own)
    network = learn(inverted, "a <cube> on grass")
    assert restyle(inverted, network).isfinite().all()
    match = (
        "learned under 'a <cube> on grass', whose embeddings differ in this call by .*%.*textual inversions"
    )
    with pytest.raises(ValueError, match=match):
        restyle(make_style_pipe(), network)
    own = {"tokenizer": copy.deepcopy(tokenizer), "text_encoder": copy.deepcopy(text_encoder)}
    elsewhere = make_style_pipe(**own)
    elsewhere.load_textual_inversion({"<cube>": -token}, token="<cube>", **own)
    with pytest.raises(ValueError, match="whose embeddings differ"):
        restyle(elsewhere, network)

    adapted = copy.deepcopy(text_encoder)
    torch.manual_seed(0)
    adapted.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    network, adapted = learn(make_style_pipe()), make_style_pipe(text_encoder=adapted)
    with pytest.raises(ValueError, match="whose embeddings differ"):
        restyle(adapted, network)
    nothing = {"cross_attention_kwargs": {"scale": 0.0}}
    torch.testing.assert_close(
        restyle(adapted, network, **nothing), restyle(make_style_pipe(), network), rtol=0, atol=1e-4
    )
    forgotten = copy.deepcopy(network)
    forgotten.register_to_config(text_fingerprint="")
    assert restyle(adapted, forgotten).isfinite().all()  # as those that were saved before


@pytest.mark.families("sd")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_same_text_in_half_precision(pipe, dtype):
    """As the encoder computes it in that dtype, not merely rounded."""
    both = []
    for encoder in (pipe.text_encoder, copy.deepcopy(pipe.text_encoder).to(dtype)):
        ids = pipe.tokenizer([SOURCE, ""], padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            both.append(encoder(ids).last_hidden_state)
    exact, half = ([told(row) for row in rows] for rows in both)
    look = text_look(*exact)
    check_same_text(look, half, SOURCE)
    with pytest.raises(ValueError, match="whose embeddings differ in this call by"):
        check_same_text(look, half[::-1], SOURCE)


@pytest.mark.families("sd")
def test_a_model_of_the_same_family_that_predicts_something_else(
    make_pipe, make_style_pipe, edit, invert, learn
):
    """Stable Diffusion 2.x at 768 pixels, beside 1.x."""
    velocity = DDIMScheduler(**{**STABLE_DIFFUSION, "prediction_type": "v_prediction"})
    differing = (
        r"`{}` does not fit this call \(prediction_type: .* epsilon \(as in Stable Diffusion 1\.x and SDXL\), this "
        r"call v_prediction \(as in Stable Diffusion 2\.x at 768 px\)\)"
    )
    with pytest.raises(ValueError, match=differing.format("trajectory")):
        edit(make_pipe(scheduler=velocity), trajectory=invert(make_pipe()))
    with pytest.raises(ValueError, match=differing.format("mapping_network")):
        restyle(make_style_pipe(scheduler=velocity), learn(make_style_pipe()))


def told(text, **others):
    """One prompt, of embeddings (tokens, width) and whatever else a family has."""
    return Conditioning({"prompt_embeds": text[None], **{name: one[None] for name, one in others.items()}})


def test_the_look_of_text_alone_is_the_one_that_files_hold():
    """As in the first files, for two prompts of four tokens that are six wide."""
    text = torch.linspace(-1, 1, 24).view(4, 6)
    assert text_look(told(text), told(text.flip(0).square())) == (
        "fe40fd8c005aff42fdfcff63ffb4f931fdecfd6cfe7afe4bfaf7fe32fe77f6befda0fbff04c0008d020c013201e7f7affebcfe56ff"
        "adff2dfd97ff2eff63fa77fc26fab9ffe9fe1efadafe53fef4f13900de012a0025007d016000760053037aff62ff14007fffe2ffbd"
        "fff9001bfdbcfdf7fdd3fc42fd85f89bfd2ffd4cf687"
    )


def test_a_look_sees_every_tensor():
    text, pooled = torch.randn(2, 4, 6), torch.randn(2, 5)
    both = [told(*pair) for pair in zip(text, strict=True)]
    wide = [told(one, pooled=other) for one, other in zip(text, pooled, strict=True)]
    look = text_look(*wide)
    assert look.startswith(text_look(*both))
    check_same_text(look, wide, SOURCE)
    check_same_text(
        look, [told(one, pooled=1.002 * other) for one, other in zip(text, pooled, strict=True)], SOURCE
    )
    with pytest.raises(ValueError, match="whose embeddings differ in this call by"):
        check_same_text(
            look, [told(one, pooled=-other) for one, other in zip(text, pooled, strict=True)], SOURCE
        )
    check_same_text(text_look(*both), wide, SOURCE)  # a file from before looks knew more than the text
    with pytest.raises(ValueError, match="whose embeddings differ in this call by"):
        check_same_text(look, both, SOURCE)


@pytest.mark.parametrize("look", ["no digits", "00", "0" * 254])
def test_a_look_of_text_that_is_none(look):
    with pytest.raises(ValueError, match="whose embeddings differ"):
        check_same_text(look, [told(torch.ones(4, 6))], SOURCE)


@pytest.mark.families("sd")
def test_files_from_before_a_network_remembered_what_it_was_told(learn, style_pipe, tmp_path, monkeypatch):
    """They lack these entries, and have the digest with which they were saved."""
    network = learn(style_pipe)
    network.register_to_config(text_fingerprint="", frame=None, sizes=None)
    network.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    lines = config.read_text().splitlines(keepends=True)
    added = ("text_fingerprint", "frame", "sizes")
    older = [line for line in lines if not any(f'"{name}"' in line for name in added)]
    assert len(older) == len(lines) - len(added)
    config.write_text("".join(older))
    assert restyle(style_pipe, MappingNetwork.from_pretrained(tmp_path)).isfinite().all()


@pytest.mark.families("sd")
def test_levels_of_more_steps(pipe, picture, edit):
    many = pipe.invert(image=picture, num_inference_steps=10).latents
    with pytest.raises(ValueError, match=r"of 5 steps, got \(1, 9, .* levels are from more than 5 steps"):
        edit(pipe, image_latents=many)
    known, afresh = (edit(pipe, num_inference_steps=10, image_latents=one) for one in (many, None))
    torch.testing.assert_close(known, afresh, rtol=0, atol=1e-3)


@pytest.mark.families("sd")
def test_a_shorter_inversion_is_not_called_diffusers_own(pipe, picture, edit):
    short = pipe.invert(image=picture, num_inference_steps=10, inpaint_strength=0.8).latents
    with pytest.raises(
        ValueError, match=r"`inpaint_strength` 0\.9 of 10 steps.* Invert with an `inpaint_strength`"
    ):
        edit(pipe, image_latents=short, num_inference_steps=10, inpaint_strength=0.9)
    longer = pipe.invert(image=picture, num_inference_steps=10, inpaint_strength=1.0).latents
    known, afresh = (edit(pipe, num_inference_steps=10, image_latents=one) for one in (longer, None))
    torch.testing.assert_close(known, afresh, rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def still():
    """The still-life model, because meaningful latents need a trained VAE."""
    pipe = DiffEditPipeline.from_pretrained(model_path(), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def scene():
    return edit_cases(1, seed=7)[0].image


def jpeg(picture, quality, coarse_colours=False):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    saved = PIL.Image.open(file)
    if not coarse_colours:
        return saved.convert("RGB")
    # as decoders do that repeat the colours' pixels instead of interpolating between them
    planes = list(saved.convert("YCbCr").split())
    half = (picture.width // 2, picture.height // 2)
    planes[1:] = [
        one.resize(half, PIL.Image.Resampling.BOX).resize(picture.size, PIL.Image.Resampling.NEAREST)
        for one in planes[1:]
    ]
    return PIL.Image.merge("YCbCr", planes).convert("RGB")


def retouched(picture, place):
    """An image with a hundredth of its area copied from elsewhere."""
    side = picture.width // 10
    changed = picture.copy()
    source = (picture.width - side, 0) if place != (picture.width - side, 0) else (0, 0)
    changed.paste(picture.crop((*source, source[0] + side, source[1] + side)), place)
    return changed


def test_a_picture_is_the_same_however_it_was_saved_and_not_if_retouched(still, scene):
    options = {"prompt": "a green pear", "mask_image": np.eye(8), "num_inference_steps": 2}
    trajectory = still.invert(image=scene, num_inference_steps=2).trajectory
    bare = Trajectory(**{**vars(trajectory), "frames": ()})  # which latents alone tell
    for other in (jpeg(scene, 85), jpeg(scene, 95), jpeg(scene, 85, coarse_colours=True)):
        for known in (trajectory, bare):
            still(other, trajectory=known, **options)
    precise, still.vae = still.vae, copy.deepcopy(still.vae).half()
    try:
        still(scene, trajectory=trajectory, **options)
    finally:
        still.vae = precise
    where = (scene.width // 2, scene.height // 2)
    for known, match in (
        (trajectory, "look different, if only in a small place"),
        (bare, "in one place, where"),
    ):
        with pytest.raises(ValueError, match=f"of another picture than `image`.*{match}"):
            still(retouched(scene, where), trajectory=known, **options)


def test_a_learned_picture_is_not_laid_over_a_retouched_one(still, scene):
    pipe = StyleDiffusionPipeline(**still.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    network = pipe.learn_mapping(scene, "an apple", 1, settings=ONE_UPDATE)
    options = {"mapping_network": network, "mask_image": np.eye(8), "preserve_background": True}
    pipe("a pear", image=jpeg(scene, 85, coarse_colours=True), **options)
    with pytest.raises(ValueError, match=r"`image` must be the learned picture.* in a small place"):
        pipe("a pear", image=retouched(scene, (scene.width // 2, scene.height // 2)), **options)
