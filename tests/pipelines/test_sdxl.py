"""What only SDXL has: second prompts, pooled embeddings, sizes and absent prompts; and how it differs from 1.x."""

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from semantic_edit.editing import Trajectory
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
)

pytestmark = pytest.mark.families("sdxl")

SOURCE, TARGET, AWAY = "a red apple on grass", "a green pear on grass", "a blue mug"
QUICK = {"num_inference_steps": 4, "num_maps_per_mask": 1, "preset": "paper", "output_type": "latent"}
ONE_UPDATE = LearningSettings(inner_steps=1, stop_below=0.0, converged_below=100.0)
PROMPTS = ("prompt", "source_prompt", "negative_prompt", "source_negative_prompt")


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@contextmanager
def told(unet) -> Iterator[list[dict[str, torch.Tensor]]]:
    """What conditions each evaluation of a UNet, besides latents and timesteps."""
    calls: list[dict[str, torch.Tensor]] = []

    def keep(module, args, kwargs):
        calls.append({"prompt_embeds": kwargs["encoder_hidden_states"], **kwargs["added_cond_kwargs"]})

    handle = unet.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


@pytest.fixture
def change(picture):
    """An edit whose mask is found, as latents."""

    def run(pipe, **options):
        given = {"prompt": TARGET, "source_prompt": SOURCE, **QUICK, **options}
        return pipe(picture, generator=torch.Generator().manual_seed(0), **given)

    return run


@pytest.fixture
def row_of(pipe):
    """How diffusers encodes one prompt: its token and pooled embeddings, joined in one row."""

    @torch.no_grad()
    def encoded(text=None, text_2=None):
        if text is None:
            return torch.zeros(16 * 56 + 20)
        given = pipe.encode_prompt(text, text_2, "cpu", 1, False)
        return torch.cat([given[0].flatten(), given[2].flatten()])

    return encoded


def rows_of(call):
    return [
        torch.cat([text.flatten(), pooled])
        for text, pooled in zip(call["prompt_embeds"], call["text_embeds"], strict=True)
    ]


def assert_told(call, *expected):
    """Check that a call had exactly these prompts, in any order."""
    rows = rows_of(call)
    found = [
        min(range(len(expected)), key=lambda one: float((row - expected[one]).abs().max())) for row in rows
    ]
    assert sorted(set(found)) == list(range(len(expected)))
    for row, one in zip(rows, found, strict=True):
        torch.testing.assert_close(row, expected[one], rtol=0, atol=1e-5)


def test_every_prompt_reaches_the_unet_with_its_second_text_and_its_pooled_embedding(
    pipe, unet, change, row_of
):
    texts = {
        "prompt": (TARGET, "a photo of a pear"),
        "source_prompt": (SOURCE, "a photo"),
        "negative_prompt": (AWAY, "the table"),
        "source_negative_prompt": ("a mug", "a blue photo"),
    }
    given = {name: pair[0] for name, pair in texts.items()}
    given |= {f"{name}_2": pair[1] for name, pair in texts.items()}
    with told(unet) as calls:
        change(pipe, **given)
    target, source, away, source_away = (row_of(*pair) for pair in texts.values())
    mask, inversion, decoding = calls[0], calls[1:4], calls[4:]
    assert_told(mask, target, source, away, source_away)
    for call in inversion:
        assert_told(call, row_of())
    assert len(decoding) == 3
    for call in decoding:
        assert_told(call, target, away)


@pytest.mark.parametrize("name", ["source_prompt", "negative_prompt"])
@pytest.mark.parametrize(("force_zeros", "value"), [(True, None), (True, ""), (False, None)])
def test_no_prompt_is_not_an_empty_prompt(make_pipe, unet, change, row_of, name, force_zeros, value):
    """`None` becomes zeros, and "" is encoded like any text; also for the prompt under which the image is inverted."""
    texts = {"source_prompt": SOURCE, "negative_prompt": AWAY, name: value}
    with told(unet) as calls:
        change(make_pipe(force_zeros_for_empty_prompt=force_zeros), **texts)
    absent, empty = row_of() if force_zeros else row_of(""), row_of("")
    said = absent if value is None else empty
    if name == "source_prompt":
        assert_told(calls[0], row_of(TARGET), said)
    else:
        assert_told(calls[0], row_of(TARGET), row_of(SOURCE))
        assert_told(calls[-1], row_of(TARGET), said)
    assert_told(calls[1], absent)


def test_without_negative_prompts_a_mask_has_none(pipe, picture, counted):
    options = {"target_prompt": TARGET, "num_maps_per_mask": 3, "num_inference_steps": 4}
    generator = torch.Generator().manual_seed(0)
    alone = pipe.generate_mask(picture, generator=generator, **options)
    assert counted.samples == 2 * 3
    generator = torch.Generator().manual_seed(0)
    explicit = pipe.generate_mask(picture, source_prompt="", generator=generator, **options)
    assert not np.array_equal(alone, explicit)


def test_the_unet_is_told_sizes(pipe, style_pipe, unet, change, picture):
    said = {"original_size": (640, 480), "crops_coords_top_left": (8, 3), "target_size": (100, 200)}
    numbers = torch.tensor([640.0, 480.0, 8.0, 3.0, 100.0, 200.0])
    own = torch.tensor([48.0, 64.0, 0.0, 0.0, 48.0, 64.0])
    small = {"num_inference_steps": 2}
    for options, expected in (({}, own), (said, numbers)):
        with told(unet) as calls:
            change(pipe, **options)
            pipe.generate_mask(picture, TARGET, num_maps_per_mask=1, **small, **options)
            pipe.invert(image=picture, **small, **options)
            network = style_pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE, **options)
            style_pipe(TARGET, network, **options)
        assert len(calls) > 10
        assert all(
            torch.equal(call["time_ids"], expected.expand(len(call["time_ids"]), -1)) for call in calls
        )


def test_what_was_made_with_other_sizes(pipe, style_pipe, learned, unet, picture, edit, counted, tmp_path):
    """They are used again where a call leaves them out, and refused where it contradicts them."""
    sizes = {"original_size": (640, 480), "crops_coords_top_left": (8, 3)}
    pipe.invert(image=picture, num_inference_steps=5, **sizes).trajectory.save(tmp_path / "apple.safetensors")
    trajectory = Trajectory.load(tmp_path / "apple.safetensors")
    style_pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE, **sizes).save_pretrained(
        tmp_path / "apple"
    )
    network = MappingNetwork.from_pretrained(tmp_path / "apple")
    assert trajectory.sizes == {**sizes, "target_size": (48, 64)}
    expected = torch.tensor([640.0, 480.0, 8.0, 3.0, 48.0, 64.0])
    for options in ({}, sizes, {"target_size": (48, 64)}):
        with told(unet) as calls:
            edit(pipe, trajectory=trajectory, **options)
            restyled(style_pipe, network, **options)
        assert all(
            torch.equal(ids, expected.expand(len(ids), -1)) for ids in (call["time_ids"] for call in calls)
        )
    usual = pipe.invert(image=picture, num_inference_steps=5).trajectory
    samples = counted.samples
    other = r"`original_size`: {} \(640, 480\), this call \(48, 64\)\).* settings that it was"
    with pytest.raises(ValueError, match=other.format("trajectory")):
        edit(pipe, trajectory=trajectory, original_size=(48, 64))
    with pytest.raises(ValueError, match=other.format("mapping network")):
        restyled(style_pipe, network, original_size=(48, 64))
    for call in (
        lambda: edit(pipe, trajectory=usual, target_size=(8, 8)),
        lambda: restyled(style_pipe, learned, target_size=(8, 8)),
    ):
        with pytest.raises(ValueError, match=r"`target_size`: .* \(48, 64\), this call \(8, 8\)"):
            call()
    assert counted.samples == samples


def test_sizes_that_are_none(pipe, style_pipe, learned, change, picture, counted):
    match = (
        r"`target_size` must be two whole numbers of pixels, \(height, width\), from 1 to 65504, got \(0, 5\)"
    )
    for call in (
        lambda: change(pipe, target_size=(0, 5)),
        lambda: style_pipe(TARGET, learned, target_size=(0, 5)),
        lambda: style_pipe.learn_mapping(picture, SOURCE, 1, target_size=(0, 5)),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    assert counted.samples == 0


def given_embeds(family, pipe, **texts):
    """Embeddings in place of texts, by the names of a call's arguments."""
    given = {}
    for name, text in texts.items():
        prefix = name.removesuffix("prompt")
        given |= {f"{prefix}{key}": value for key, value in family.encoded(pipe, text).items()}
    return given


def test_embeddings_give_the_edit_of_their_texts(family, pipe, make_pipe, change):
    texts = {"prompt": TARGET, "source_prompt": SOURCE, "negative_prompt": AWAY, "source_negative_prompt": ""}
    embeds = given_embeds(family, pipe, **texts)
    assert len(embeds) == 8
    without = {"text_encoder": None, "text_encoder_2": None, "tokenizer": None, "tokenizer_2": None}
    by_text = change(pipe, **texts)
    by_embeds = change(make_pipe(**without), prompt=None, source_prompt=None, **embeds)
    assert torch.equal(by_embeds.mask, by_text.mask)
    torch.testing.assert_close(by_embeds.images, by_text.images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", PROMPTS)
def test_embeddings_come_with_their_pooled_ones(family, pipe, picture, change, counted, name):
    embeds, pooled = given_embeds(family, pipe, **{name: AWAY}).items()
    for one, other in ((embeds, pooled), (pooled, embeds)):
        with pytest.raises(ValueError, match=f"Got `{one[0]}` without `{other[0]}`; pass both"):
            change(pipe, **{name: None, one[0]: one[1]})
    if "source" not in name:
        with pytest.raises(ValueError, match=f"Got `{embeds[0]}` without `{pooled[0]}`"):
            pipe.invert(image=picture, **dict([embeds]))
    as_target = name if name.startswith("source") else f"target_{name}"
    embeds_name, pooled_name = given_embeds(family, pipe, **{as_target: AWAY})
    with pytest.raises(ValueError, match=f"Got `{embeds_name}` without `{pooled_name}`"):
        pipe.generate_mask(picture, **{"target_prompt": TARGET, as_target: None, embeds_name: embeds[1]})
    assert counted.samples == 0


def test_callbacks_may_change_pooled_embeddings(pipe, style_pipe, learned, edit):
    names = ["pooled_prompt_embeds", "negative_pooled_prompt_embeds"]

    def restyle(pipe, **options):
        return pipe(TARGET, learned, output_type="latent", **options).images

    for call, one in ((edit, pipe), (restyle, style_pipe)):
        usual = call(one)
        for name in names:
            hook = {"callback_on_step_end_tensor_inputs": [name]}
            blank = {"callback_on_step_end": lambda *given: {n: 0 * v + 1 for n, v in given[3].items()}}
            assert not torch.allclose(call(one, **blank, **hook), usual, atol=1e-4)
            short = {"callback_on_step_end": lambda *given: {n: v[:, :5] for n, v in given[3].items()}}
            with pytest.raises(ValueError, match=rf"returned .*, 5\) for `{name}`"):
                call(one, **short, **hook)
        ends = [
            dict.fromkeys(one)
            for one in (["negative_prompt_embeds"], names[1:], ["negative_prompt_embeds", *names[1:]])
        ]
        ended = [call(one, callback_on_step_end=lambda *_, given=given: given) for given in ends]
        assert not torch.allclose(ended[0], usual, atol=1e-4)
        assert torch.equal(ended[0], ended[1])
        assert torch.equal(ended[0], ended[2])


def test_diffusers_names_for_sdxls_tensors_are_told_by_ours(pipe, edit, counted):
    """Its documented callback uses the names of its own loop."""
    inputs = ["prompt_embeds", "add_text_embeds", "add_time_ids"]
    with pytest.raises(ValueError, match=r"may name latents, .*pooled_prompt_embeds.*got add_text_embeds"):
        edit(pipe, callback_on_step_end=lambda *_: {}, callback_on_step_end_tensor_inputs=inputs)
    assert counted.samples == 0


def restyled(pipe, network, **options):
    """The edits' latents and the source's."""
    done = pipe(options.pop("prompt", TARGET), network, output_type="latent", **options)
    return done.images, done.reconstruction


def test_an_absent_negative_prompt_is_learned_and_kept(style_pipe, learned, unet, row_of, tmp_path):
    assert learned.config.negative_prompt is None
    learned.save_pretrained(tmp_path)
    kept = MappingNetwork.from_pretrained(tmp_path)
    assert kept.config.negative_prompt is None
    with told(unet) as calls:
        usual, given_back = restyled(style_pipe, kept, tau_u=1.0)
    away, target, source, source_away = rows_of(calls[0])
    assert not source_away.any()
    assert not away.any()
    torch.testing.assert_close(source, row_of(SOURCE), rtol=0, atol=1e-5)
    torch.testing.assert_close(target, row_of(TARGET), rtol=0, atol=1e-5)
    edited, same = restyled(style_pipe, kept, negative_prompt="", tau_u=1.0)
    torch.testing.assert_close(same, given_back, rtol=0, atol=1e-3)
    assert not torch.allclose(edited, usual, atol=1e-3)


def test_edits_of_an_absent_negative_prompt_may_have_their_own(style_pipe, learned):
    prompts, negatives = [TARGET, AWAY], ["a photo", ""]
    together, given_back = restyled(style_pipe, learned, prompt=prompts, negative_prompt=negatives)
    shared, _ = restyled(style_pipe, learned, prompt=prompts, negative_prompt="a photo")
    torch.testing.assert_close(shared[0], together[0], rtol=0, atol=1e-3)
    assert not torch.allclose(shared[1], together[1], atol=1e-3)
    for prompt, negative, edited in zip(prompts, negatives, together, strict=True):
        alone, same = restyled(style_pipe, learned, prompt=prompt, negative_prompt=negative)
        torch.testing.assert_close(edited, alone[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(given_back, same, rtol=0, atol=1e-3)


def test_a_negative_prompt_may_be_learned(style_pipe, picture, unet, row_of):
    network = style_pipe.learn_mapping(picture, SOURCE, 1, negative_prompt="", settings=ONE_UPDATE)
    assert network.config.negative_prompt == ""
    with told(unet) as calls:
        restyled(style_pipe, network, tau_u=1.0)
    away, _, _, source_away = rows_of(calls[0])
    for row in (away, source_away):
        torch.testing.assert_close(row, row_of(""), rtol=0, atol=1e-5)
    always = StableDiffusionXLStyleDiffusionPipeline(
        **style_pipe.components, force_zeros_for_empty_prompt=False
    )
    always.set_progress_bar_config(disable=True)
    same = always.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE)
    assert all(map(torch.equal, same.state_dict().values(), network.state_dict().values()))


def test_local_blend_keeps_the_source_outside(style_pipe, picture):
    """With an image large enough for more than a few positions of attention."""
    options = {"settings": ONE_UPDATE, "width": 128, "height": 96}
    network = style_pipe.learn_mapping(picture, SOURCE, 3, **options)
    blended = {"local_blend": ["apple", "pear"], "local_blend_threshold": 0.995}
    done = style_pipe(TARGET, network, output_type="latent", **blended)
    assert done.blend_masks.shape == (1, 1, 12, 16)
    outside = (done.blend_masks == 0).expand_as(done.images)
    assert outside.any()
    assert torch.equal(done.images[outside], done.reconstruction[outside])
    assert not torch.equal(done.images[~outside], done.reconstruction[~outside])


@pytest.mark.parametrize(
    ("name", "part"),
    [("text_encoder", ""), ("text_encoder_2", ""), ("text_encoder_2", "text_projection")],
    ids=["first", "second", "pooled"],
)
def test_a_network_knows_both_encoders(style_pipe, make_style_pipe, learned, name, part, counted):
    encoder = copy.deepcopy(getattr(style_pipe, name))
    with torch.no_grad():
        for parameter in encoder.get_submodule(part).parameters():
            parameter += 0.1 * seeded(*parameter.shape)
    with pytest.raises(ValueError, match="whose embeddings differ in this call"):
        make_style_pipe(**{name: encoder})(TARGET, learned)
    assert counted.samples == 0


@pytest.mark.families("sd")
class TestTheOtherFamily:
    """Here, `make_pipe` and its like are for Stable Diffusion, `make_xl_edit_pipe` and its like for SDXL."""

    def test_trajectories(self, pipe, make_xl_edit_pipe, picture, edit, counted):
        wide = make_xl_edit_pipe()
        own, theirs = (one.invert(image=picture, num_inference_steps=5).trajectory for one in (pipe, wide))
        before = counted.samples
        for one, other, trajectory in ((pipe, wide, theirs), (wide, pipe, own)):
            match = f"`trajectory` was made with a model of another family.* in a {type(other).__name__},"
            with pytest.raises(ValueError, match=match):
                edit(one, trajectory=trajectory)
            with pytest.raises(ValueError, match=r"model: trajectory \w+, this call \w+"):
                edit(one, trajectory=dataclasses.replace(trajectory, model_family=""))  # from an older file
        assert counted.samples == before

    def test_networks(self, style_pipe, make_xl_style_pipe, learned, xl_learned, counted):
        before = counted.samples
        wide = make_xl_style_pipe()
        for pipe, other, network in ((style_pipe, wide, xl_learned), (wide, style_pipe, learned)):
            match = (
                f"`mapping_network` was made with a model of another family.* in a {type(other).__name__},"
            )
            with pytest.raises(ValueError, match=match):
                pipe(TARGET, network)
        assert counted.samples == before

    def test_models(self, pipe, make_xl_edit_pipe, picture, unet, xl_unet, tmp_path):
        wide = make_xl_edit_pipe()
        of_sd = r"of Stable Diffusion 1\.x and 2\.x, which {0} does not support; use {1} instead"
        of_xl = "of SDXL, which {0} does not support; use {1} instead"
        pairs = (
            (DiffEditPipeline, StableDiffusionXLDiffEditPipeline),
            (StyleDiffusionPipeline, StableDiffusionXLStyleDiffusionPipeline),
        )
        pipe.save_pretrained(tmp_path / "sd")
        wide.save_pretrained(tmp_path / "xl")
        for narrow, broad in pairs:
            for own, other, text, made, folder in (
                (narrow, broad, of_xl, wide, "xl"),
                (broad, narrow, of_sd, pipe, "sd"),
            ):
                message = text.format(own.__name__, other.__name__)
                with pytest.raises(ValueError, match=message):
                    own.from_pipe(made)
                with pytest.raises(ValueError, match=message):
                    own.from_pretrained(tmp_path / folder)
        for one, foreign in ((pipe, xl_unet), (wide, unet)):
            one.unet = foreign
            with pytest.raises(ValueError, match=f"which {type(one).__name__} does not support; use"):
                one(picture, TARGET)


@pytest.mark.families("sd")
class TestOneModelInTwoLayouts:
    """A UNet of SDXL's layout that computes the same as Stable Diffusion's gives the same edits, in whole calls."""

    def embeds(self, **seeds):
        """For both pipelines, by the arguments' names; the second encoder's part and the pooled ones are arbitrary."""
        narrow, wide = {}, {}
        for name, seed in seeds.items():
            prefix = name.removesuffix("prompt")
            text = seeded(1, 16, 56, seed=seed)
            narrow[f"{name}_embeds"], wide[f"{name}_embeds"] = text[..., :32].clone(), text
            wide[f"{prefix}pooled_prompt_embeds"] = seeded(1, 20, seed=100 + seed)
        return narrow, wide

    @pytest.mark.parametrize("negative", [{}, {"source_negative_prompt": 4}])
    def test_diffedit(self, make_pipe, make_xl_edit_pipe, in_xl_layout, unet, scheduler, picture, negative):
        pipes = make_pipe(), make_xl_edit_pipe(unet=in_xl_layout(unet), scheduler=scheduler)
        done = []
        encoded = self.embeds(prompt=5)
        told = self.embeds(prompt=1, source_prompt=2, negative_prompt=3, **negative)
        for pipe, empty, given in zip(pipes, encoded, told, strict=True):
            options = {"num_inference_steps": 6, "num_maps_per_mask": 3, "guidance_scale": 6.0, **given}
            known = pipe.invert(image=picture, num_inference_steps=6, **empty).trajectory
            generator = torch.Generator().manual_seed(0)
            done.append(pipe(picture, trajectory=known, generator=generator, output_type="latent", **options))
        plain, wide = done
        assert torch.equal(wide.pixel_mask, plain.pixel_mask)
        assert 0 < plain.mask.mean() < 1
        assert not torch.allclose(plain.images, plain.trajectory.latents[0], atol=0.01)
        torch.testing.assert_close(wide.soft_mask, plain.soft_mask, rtol=0, atol=1e-4)
        torch.testing.assert_close(wide.trajectory.latents, plain.trajectory.latents, rtol=0, atol=1e-4)
        torch.testing.assert_close(wide.images, plain.images, rtol=0, atol=1e-3)

    def test_stylediffusion(
        self, style_pipe, make_xl_style_pipe, in_xl_layout, unet, scheduler, learned, monkeypatch
    ):
        """With the same text, and the values that one of them learned for both."""
        wide_pipe = make_xl_style_pipe(unet=in_xl_layout(unet), scheduler=scheduler)

        def encode_prompt(texts, *_, **__):
            text = style_pipe.encode_prompt(texts, "cpu", 1, False)[0]
            return torch.cat([text, seeded(len(text), 16, 24)], -1), None, seeded(len(text), 20), None

        def values(step, text):
            return torch.cat([learned.value_embeds(step, text[..., :32]), text[..., 32:]], -1)

        monkeypatch.setattr(wide_pipe, "encode_prompt", encode_prompt, raising=False)
        network = copy.deepcopy(learned)
        same = {"base_fingerprint": "", "text_fingerprint": ""}
        network.register_to_config(text_width=56, model_family="stable-diffusion-xl", **same)
        network.proj_weight = torch.nn.Parameter(pad(network.proj_weight, (0, 0, 0, 24)))
        network.proj_bias = torch.nn.Parameter(pad(network.proj_bias, (0, 24)))
        network.negative_embeds = pad(network.negative_embeds, (0, 24))
        network.value_embeds = values
        options = {"output_type": "latent", "output_attention_maps": True, "negative_prompt": AWAY}
        options |= {"local_blend": ["apple", "pear"], "local_blend_threshold": 0.9, "reweight": {"pear": 1.5}}
        plain, wide = (
            pipe([TARGET, "a mug"], one, **options)
            for pipe, one in ((style_pipe, learned), (wide_pipe, network))
        )
        torch.testing.assert_close(wide.reconstruction, plain.reconstruction, rtol=0, atol=1e-3)
        torch.testing.assert_close(wide.images, plain.images, rtol=0, atol=1e-3)
        assert torch.equal(wide.blend_masks, plain.blend_masks)
        assert not torch.allclose(plain.images[:1], plain.reconstruction, atol=0.01)
