import copy
import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.memory import peak_bytes
from semantic_edit.denoisers import Prompt, schedule_from_scheduler
from semantic_edit.editing import PromptPair, invert_latents, predicting
from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines import learning, restyling
from semantic_edit.pipelines.images import read_images
from semantic_edit.pipelines.stages import encode_images

pytestmark = pytest.mark.families("sd", slow=["sdxl"])

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
FREE = {"tau_v": 0.0, "tau_c": 0.0, "tau_s": 0.0, "tau_u": 0.0}
STEPS = 4
THREE_UPDATES = LearningSettings(stop_below=0.0, converged_below=100.0)
# Latents of batches of other sizes: their products round differently, and each guided step makes more of it.
ROUNDING = {"rtol": 0, "atol": 1e-3}
ONE_UPDATE = dataclasses.replace(THREE_UPDATES, inner_steps=1)


def latents_of(pipe, prompt, network, **options):
    """The edits' latents and the source's."""
    result = pipe(prompt, network, output_type="latent", **options)
    return result.images, result.reconstruction


def with_entries(network, **entries):
    """The same network with changed entries in its config."""
    other = copy.deepcopy(network)
    other.register_to_config(**entries)
    return other


def same_bits(one, two):
    return all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


@pytest.fixture
def plainly_guided(family):
    """The result of diffusers' own pipeline from the network's noisiest latents."""

    @torch.no_grad()
    def run(pipe, prompt, network):
        height, width = (8 * side for side in network.config.latent_shape[1:])
        return family.plainly(pipe)(
            prompt,
            latents=network.noisiest[None],
            num_inference_steps=network.config.num_inference_steps,
            guidance_scale=network.config.guidance_scale,
            height=height,
            width=width,
            output_type="latent",
        ).images

    return run


@pytest.fixture
def encoded(family):
    """A picture's latents."""
    return lambda pipe, picture: encode_images(family.denoiser(pipe), read_images(picture))


@pytest.fixture
def half_mask():
    mask = torch.zeros(1, 1, 48, 64)
    mask[..., 32:] = 1
    return mask


@pytest.fixture
def first_prediction(unet):
    """The predictions of a call's first evaluation, [unconditional source, targets, conditional source, targets]."""

    def run(pipe, *arguments, **options):
        seen = []
        handle = unet.register_forward_hook(lambda module, args, output: seen.append(output[0]))
        pipe(*arguments, **options)
        handle.remove()
        return seen[0]

    return run


@pytest.mark.families("sd", "sdxl")
def test_a_picture_is_learned_and_edited(style_pipe, learned, counted):
    result = style_pipe([TARGET, "a mug"], learned)
    of_source = int(0.8 * STEPS) + int(0.5 * STEPS)  # only while its attention is taken: tau_s and tau_u
    assert counted.samples == STEPS * 2 * 2 + of_source
    assert counted.evaluations == STEPS
    assert [image.size for image in result.images] == [(64, 48)] * 2
    assert [image.size for image in result.reconstruction] == [(64, 48)]
    given_back = np.asarray(result.reconstruction[0])
    assert all(np.abs(np.asarray(image, int) - given_back).max() > 0 for image in result.images)


def test_learning_counts_its_evaluations(style_pipe, picture, counted):
    network = style_pipe.learn_mapping(picture, SOURCE, 2, settings=THREE_UPDATES)
    # the inversion, the unconditional predictions, three updates and where they lead
    assert counted.samples == 2 + 2 + 2 * (3 + 1)
    assert network.report.forward_evaluations == (2 + 2 * (3 + 1),)
    assert network.report.backward_evaluations == (2 * 3,)
    assert network.report.seconds > 0
    counted.samples = 0
    good_enough = dataclasses.replace(THREE_UPDATES, stop_below=1e9)
    stopped = style_pipe.learn_mapping(picture, SOURCE, 2, settings=good_enough)
    assert counted.samples == 2 + 2 + 2
    assert stopped.report.backward_evaluations == (0,)


@pytest.mark.families("sd")
def test_the_short_schedule_is_the_default(style_pipe, picture):
    network = style_pipe.learn_mapping(picture, SOURCE, 1)
    assert network.config.learning == dataclasses.asdict(LearningSettings.short())
    assert network.config.guidance_scale == 7.5
    assert network.config.latent_shape == (4, 6, 8)
    assert network.config.prompt == SOURCE


@pytest.mark.families("sd", "sdxl")
def test_learning_brings_the_picture_closer_than_guidance_does(
    style_pipe, learned, picture, plainly_guided, encoded
):
    clean = encoded(style_pipe, picture)
    given_back, source = latents_of(style_pipe, SOURCE, learned, **{**FREE, "tau_v": 1.0})
    torch.testing.assert_close(source, clean, **ROUNDING)  # put back on the inversion, which begins there
    plain = plainly_guided(style_pipe, SOURCE, learned)
    assert (given_back - clean).square().mean() < 0.7 * (plain - clean).square().mean()
    for step in learned.report.steps:
        assert step.latent_after < step.latent_before
    torch.testing.assert_close(
        (given_back - clean).square().mean().item(), learned.report.latent_errors[0], rtol=1e-3, atol=0
    )


def test_the_attention_loss_brings_the_maps_closer(style_pipe, picture):
    attentive = dataclasses.replace(THREE_UPDATES, latent_weight=0.0)
    step = style_pipe.learn_mapping(picture, SOURCE, 1, settings=attentive).report.steps[0]
    assert 0 < step.attention_after[0] < step.attention_before[0]
    careless = dataclasses.replace(ONE_UPDATE, attention_weight=0.0)
    step = style_pipe.learn_mapping(picture, SOURCE, 1, settings=careless).report.steps[0]
    assert step.attention_before == (0,)


def test_the_reconstruction_does_not_depend_on_the_edits(style_pipe, learned):
    _, alone = latents_of(style_pipe, TARGET, learned)
    options = {"guidance_scale": 3.0, "negative_prompt": "the table", "reweight": {"mug": 2.0}}
    _, beside = latents_of(style_pipe, ["a blue mug", "a photo"], learned, **options, **FREE)
    torch.testing.assert_close(beside, alone, **ROUNDING)


@pytest.mark.families("sd", "sdxl")
def test_an_edit_does_not_depend_on_its_neighbours(style_pipe, learned):
    prompts, negatives = [TARGET, "a mug"], ["the table", ""]
    options = {"word_tau_c": {"pear": 0.3, "mug": 0.1}, "local_blend": ["apple", "pear", "mug"]}
    options |= {"local_blend_threshold": 0.9}
    together = style_pipe(
        prompts,
        learned,
        negative_prompt=negatives,
        output_type="latent",
        output_attention_maps=True,
        **options,
    )
    for index, (prompt, negative, tau) in enumerate(zip(prompts, negatives, (0.3, 0.1), strict=True)):
        own = prompt.split()[-3 if index == 0 else -1]
        given = {**options, "word_tau_c": {own: tau}, "local_blend": ["apple", own]}
        alone = style_pipe(
            prompt,
            learned,
            negative_prompt=negative,
            output_type="latent",
            output_attention_maps=True,
            **given,
        )
        torch.testing.assert_close(together.images[index], alone.images[0], **ROUNDING)
        assert torch.equal(together.blend_masks[index], alone.blend_masks[0])
        for word, heat in alone.attention_maps[1].items():
            np.testing.assert_allclose(
                np.asarray(together.attention_maps[1 + index][word], int), np.asarray(heat, int), atol=2
            )


@pytest.mark.families("sd", "sdxl")
def test_pictures_learn_side_by_side_as_alone(style_pipe, pictures):
    prompts = [SOURCE, "a blue mug on the table"]
    together = style_pipe.learn_mapping(pictures[:2], prompts, 2, settings=ONE_UPDATE)
    assert [network.config.prompt for network in together] == prompts
    for index, network in enumerate(together):
        alone = style_pipe.learn_mapping(pictures[index], prompts[index], 2, settings=ONE_UPDATE)
        torch.testing.assert_close(network.walk, alone.walk, rtol=0, atol=1e-4)
        torch.testing.assert_close(network.image_tokens, alone.image_tokens, rtol=0, atol=1e-4)
        assert network.report.backward_evaluations == alone.report.backward_evaluations == (2,)
        ours, theirs = (latents_of(style_pipe, TARGET, one) for one in (network, alone))
        torch.testing.assert_close(ours, theirs, **ROUNDING)


def test_a_picture_that_stops_early_leaves_the_others_as_they_are(family, style_pipe, pictures, unet):
    prompts = [SOURCE, "a blue mug on the table"]
    tried = style_pipe.learn_mapping(pictures[:2], prompts, 2, settings=ONE_UPDATE)
    errors = [network.report.steps[0].latent_before[0] for network in tried]
    order = sorted(range(2), key=errors.__getitem__)
    settings = dataclasses.replace(THREE_UPDATES, stop_below=sum(errors) / 2)
    texts = []
    handle = unet.register_forward_pre_hook(
        lambda module, args, kwargs: texts.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    stopped, going = style_pipe.learn_mapping(
        [pictures[index] for index in order], [prompts[index] for index in order], 2, settings=settings
    )
    handle.remove()
    assert stopped.report.steps[0].updates == (0,)
    own = family.encoded(style_pipe, prompts[order[1]])["prompt_embeds"]
    torch.testing.assert_close(next(text for text in texts if len(text) == 1), own)
    alone = style_pipe.learn_mapping(pictures[order[1]], prompts[order[1]], 2, settings=settings)
    assert going.report.steps[0].updates == alone.report.steps[0].updates > (0,)
    ours, theirs = (latents_of(style_pipe, TARGET, one) for one in (going, alone))
    torch.testing.assert_close(ours, theirs, **ROUNDING)


class StopHereError(Exception):
    pass


@pytest.mark.families("sd", "sdxl")
@torch.no_grad()
def test_learning_is_told_the_inversion_and_its_maps(
    family, style_pipe, pictures, unet, explicit_maps, encoded, monkeypatch
):
    """DDIM's inversion with a guidance of 1, and the maps of the evaluation that leads up to each level."""
    told = []

    def stop(*arguments):
        told.extend(arguments)
        raise StopHereError

    monkeypatch.setattr(learning, "learn_mappings", stop)
    with pytest.raises(StopHereError):
        style_pipe.learn_mapping(pictures[:2], SOURCE, 3, attention_side=4)
    branch, inputs, *_ = told
    trajectory, denoiser = inputs.trajectory, family.denoiser(style_pipe)
    (given,) = denoiser.embed([Prompt("prompt", (SOURCE,))], 2)
    torch.testing.assert_close(inputs.text_embeds, given.prompt_embeds)
    schedule = schedule_from_scheduler(style_pipe.scheduler, 3)
    predict = predicting(denoiser, schedule, PromptPair(given))
    expected = invert_latents(predict, schedule, encoded(style_pipe, pictures[:2]), 3)
    torch.testing.assert_close(trajectory, expected, rtol=1e-4, atol=1e-4)
    for level in (1, 2, 3):
        with explicit_maps(unet, 3 * 4) as maps:
            denoiser.predict(trajectory[level - 1], schedule.timestep(level), given)
        assert branch.source_maps(level)[0].shape == (2, 4, 12, 16)
        torch.testing.assert_close(branch.source_maps(level), list(maps.values()), rtol=1e-4, atol=1e-5)


def test_one_prompt_serves_several_pictures_and_one_picture_several_prompts(style_pipe, pictures):
    networks = style_pipe.learn_mapping(pictures[:2], "apple", 1, settings=ONE_UPDATE)
    assert [network.config.prompt for network in networks] == ["apple", "apple"]
    networks = style_pipe.learn_mapping(pictures[0], ["apple", "mug"], 1, settings=ONE_UPDATE)
    assert [network.config.prompt for network in networks] == ["apple", "mug"]
    assert torch.equal(networks[0].image_tokens, networks[1].image_tokens)


def test_values_start_where_guidance_has_no_effect(family, style_pipe, picture):
    """A `guidance_scale`-th of the way from the negative prompt's embeddings to the text's."""
    network = style_pipe.learn_mapping(picture, SOURCE, 2, guidance_scale=4.0, settings="none")
    assert network.config.guided_start
    assert network.report.backward_evaluations == (0,)
    away, text = network.negative_embeds[None], torch.randn(2, *network.negative_embeds.shape)
    torch.testing.assert_close(network.value_embeds(1, text), away + (text - away) / 4)
    plain = style_pipe.learn_mapping(picture, SOURCE, 2, variant="direct", settings="none")
    assert not plain.config.guided_start


def test_the_source_is_put_back_on_its_inversion(style_pipe, learned):
    seen = []
    style_pipe(TARGET, learned, callback_on_step_end=lambda *given: seen.append(given[3]["latents"]))
    for level, latents in zip(range(len(seen) - 1, -1, -1), seen, strict=True):
        assert torch.equal(latents[0], learned.walk[level])


@pytest.mark.families("sd", "sdxl")
def test_without_control_an_edit_is_plain_guidance(style_pipe, learned, plainly_guided):
    edited, _ = latents_of(style_pipe, [TARGET, "a mug"], learned, **FREE)
    for index, prompt in enumerate((TARGET, "a mug")):
        expected = plainly_guided(style_pipe, prompt, learned)
        torch.testing.assert_close(edited[index : index + 1], expected, rtol=1e-4, atol=1e-4)


def test_each_tau_counts_and_lasts_its_fraction(style_pipe, learned):
    free, _ = latents_of(style_pipe, TARGET, learned, negative_prompt="the table", **FREE)
    for name in FREE:
        given = [
            latents_of(style_pipe, TARGET, learned, negative_prompt="the table", **{**FREE, name: tau})[0]
            for tau in (0.24, 0.25, 0.5, 1.0)
        ]
        if name == "tau_v":  # unrounded: .24 of four steps is one, as .25 is
            assert torch.equal(given[0], given[1])
        else:
            assert torch.equal(given[0], free)
        distances = [(one - free).abs().max() for one in given[1:]]
        assert all(distance > 1e-5 for distance in distances)
        assert not torch.equal(given[1], given[2])
        assert not torch.equal(given[2], given[3])


def test_tau_u_swaps_in_the_unconditional_branch_alone(style_pipe, learned, first_prediction):
    # under another negative prompt: at the first step a row's map differs from the source's in nothing else
    options = {"negative_prompt": "the table", **FREE}
    free = first_prediction(style_pipe, TARGET, learned, **options)
    for name, row in (("tau_u", 0), ("tau_s", 1), ("tau_c", 1), ("tau_v", 1)):
        swapped = first_prediction(style_pipe, TARGET, learned, **{**options, name: 1.0})
        changes = (swapped[:2] - free).abs().amax((1, 2, 3))
        assert changes[row] > 1e-4
        assert changes[1 - row] <= 1e-5


@pytest.mark.families("sd")  # SDXL has no attention at the latents' own resolution
def test_self_attention_is_swapped_up_to_a_side(style_pipe, learned, first_prediction):
    """By default half the latent's side, where this model has attention only in the middle."""
    options = {**FREE, "tau_s": 1.0}
    by_side = {
        side: first_prediction(style_pipe, TARGET, learned, self_attention_side=side, **options)
        for side in (1, 4, 8, None)
    }
    free = first_prediction(style_pipe, TARGET, learned, **FREE)
    torch.testing.assert_close(by_side[1][:2], free)
    assert torch.equal(by_side[4], by_side[None])
    assert not torch.equal(by_side[4], by_side[8])


@pytest.mark.families("sd")  # SDXL's is tested on a larger picture
def test_local_blend_keeps_the_source_outside(style_pipe, learned, monkeypatch):
    options = {"local_blend": ["apple", "pear"], "local_blend_threshold": 0.99, "output_type": "latent"}
    result = style_pipe([TARGET, "a mug"], learned, **options)
    assert result.blend_masks.shape == (2, 1, 6, 8)
    assert set(result.blend_masks.unique().tolist()) == {0.0, 1.0}
    outside = (result.blend_masks == 0).expand_as(result.images)
    assert outside[0].any()
    assert torch.equal(result.images[outside], result.reconstruction.expand_as(result.images)[outside])
    assert not torch.equal(result.images[~outside], result.reconstruction.expand_as(result.images)[~outside])
    # the union of both prompts' regions; "a mug" has no word of its own here
    apple = style_pipe(TARGET, learned, **{**options, "local_blend": "apple"}).blend_masks
    assert apple.any()
    assert torch.equal(result.blend_masks[1:], apple)
    assert (result.blend_masks[0] >= apple[0]).all()
    assert not torch.equal(result.blend_masks[:1], apple)

    monkeypatch.setattr(restyling, "BLEND_FROM", 0.5)
    seen = []
    style_pipe(
        TARGET, learned, callback_on_step_end=lambda *given: seen.append(given[3]["latents"]), **options
    )
    is_source = [(latents[1] == latents[0]).all(dim=0).any().item() for latents in seen]
    assert is_source == [False, False, True, True]


def test_a_mask_confines_the_edit(style_pipe, learned, half_mask):
    both = torch.cat([half_mask, 1 - half_mask])
    edited, given_back = latents_of(style_pipe, [TARGET, "a mug"], learned, mask_image=both)
    assert torch.equal(edited[0, ..., :4], given_back[0, ..., :4])
    assert torch.equal(edited[1, ..., 4:], given_back[0, ..., 4:])
    assert (edited - given_back)[0, ..., 4:].abs().mean() > 1e-3
    grown, given_back = latents_of(style_pipe, TARGET, learned, mask_image=half_mask, mask_grow=8)
    assert not torch.equal(grown[0, ..., 3], given_back[0, ..., 3])
    assert torch.equal(grown[0, ..., :3], given_back[0, ..., :3])


def test_preserved_background_is_bit_identical(style_pipe, learned, picture, half_mask):
    options = {"mask_image": half_mask, "image": picture, "preserve_background": True}
    original = np.asarray(picture)
    for image in style_pipe([TARGET, "a mug"], learned, **options).images:
        edited = np.asarray(image)
        assert np.array_equal(edited[:, :32], original[:, :32])
        assert not np.array_equal(edited[:, 32:], original[:, 32:])


@pytest.mark.families("sd")
def test_words_have_fractions_of_their_own(style_pipe, learned):
    usual, _ = latents_of(style_pipe, TARGET, learned)
    words = dict.fromkeys(TARGET.split(), 0.6)
    assert torch.equal(latents_of(style_pipe, TARGET, learned, word_tau_c=words)[0], usual)
    freed, _ = latents_of(style_pipe, TARGET, learned, word_tau_c={"pear": 0.0})
    assert not torch.equal(freed, usual)
    one, two = (
        latents_of(style_pipe, TARGET, learned, tau_c=tau, word_tau_c={"pear": 0.5})[0] for tau in (0.5, 0.0)
    )
    assert not torch.equal(one, two)


def test_reweighting(style_pipe, learned):
    usual, _ = latents_of(style_pipe, [TARGET, "a mug"], learned)
    same, _ = latents_of(style_pipe, [TARGET, "a mug"], learned, reweight={"pear": 1.0})
    assert torch.equal(same, usual)
    more, _ = latents_of(style_pipe, [TARGET, "a mug"], learned, reweight={"PEAR,": 2.0})
    assert not torch.equal(more[0], usual[0])
    torch.testing.assert_close(more[1], usual[1], **ROUNDING)


@pytest.mark.families("sd")
def test_the_kind_of_edit_is_chosen_by_the_words(style_pipe, learned):
    chosen, replaced, refined = (
        latents_of(style_pipe, TARGET, learned, edit_type=kind)[0] for kind in (None, "replace", "refine")
    )
    assert torch.equal(chosen, replaced)
    assert not torch.equal(chosen, refined)
    longer = "a photo of a red apple on grass"
    chosen, refined = (
        latents_of(style_pipe, longer, learned, edit_type=kind)[0] for kind in (None, "refine")
    )
    assert torch.equal(chosen, refined)


@pytest.mark.families("sd")
def test_one_word_is_replaced_by_another(style_pipe, picture, counted):
    network = style_pipe.learn_mapping(picture, "apple", 1, settings=ONE_UPDATE)
    counted.samples = 0
    images, given_back = latents_of(style_pipe, "mug", network, tau_c=1.0)
    assert counted.samples == 3
    assert not torch.equal(images, given_back)


def test_the_learned_negative_prompt_and_guidance_are_the_defaults(style_pipe, learned):
    network = with_entries(learned, negative_prompt="the table", guidance_scale=5.0, text_fingerprint="")
    usual, _ = latents_of(style_pipe, TARGET, network)
    same, _ = latents_of(style_pipe, TARGET, network, negative_prompt="the table", guidance_scale=5.0)
    assert torch.equal(same, usual)
    assert not torch.equal(latents_of(style_pipe, TARGET, network, negative_prompt="")[0], usual)
    assert not torch.equal(latents_of(style_pipe, TARGET, network, guidance_scale=7.5)[0], usual)


def test_a_picture_is_learned_under_its_negative_prompt(style_pipe, picture, encoded):
    network = style_pipe.learn_mapping(
        picture, SOURCE, 1, guidance_scale=3.0, negative_prompt="the table", settings=ONE_UPDATE
    )
    assert (network.config.negative_prompt, network.config.guidance_scale) == ("the table", 3.0)
    given_back, _ = latents_of(style_pipe, SOURCE, network, **{**FREE, "tau_v": 1.0})
    clean = encoded(style_pipe, picture)
    error = (given_back - clean).square().mean().item()
    torch.testing.assert_close(error, network.report.latent_errors[0], rtol=1e-3, atol=0)


@pytest.mark.families("sd")
def test_the_direct_variant(style_pipe, picture):
    network = style_pipe.learn_mapping(picture, SOURCE, 2, variant="direct", settings=THREE_UPDATES)
    assert network.config.variant == "direct"
    assert network.conv_out_weight.shape[1] == 16
    assert network.report.latent_errors < network.report.steps[-1].latent_before
    edited, given_back = latents_of(style_pipe, TARGET, network)
    assert not torch.equal(edited, given_back)


@pytest.mark.families("sd")
def test_outputs(style_pipe, learned):
    results = {
        kind: style_pipe([TARGET, "a mug"], learned, output_type=kind)
        for kind in ("pil", "np", "pt", "latent")
    }
    shapes = {"np": (48, 64, 3), "pt": (3, 48, 64), "latent": (4, 6, 8)}
    for kind, shape in shapes.items():
        assert results[kind].images.shape == (2, *shape)
        assert results[kind].reconstruction.shape == (1, *shape)
    arrays, tensors, pil = (results[kind] for kind in ("np", "pt", "pil"))
    assert 0 <= arrays.images.min() <= arrays.images.max() <= 1
    np.testing.assert_allclose(arrays.images, tensors.images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(np.asarray(pil.images[1]), (255 * arrays.images[1]).round())
    np.testing.assert_array_equal(np.asarray(pil.reconstruction[0]), (255 * arrays.reconstruction[0]).round())
    images, flags, reconstruction, masks, maps, frames, where = style_pipe(TARGET, learned, return_dict=False)
    assert where is None
    assert len(images) == len(reconstruction) == 1
    assert (flags, masks, maps) == (None, None, None)
    assert [str(frame) for frame in frames] == ["64 x 48 pixels"]


def test_word_maps_are_pictures(style_pipe, learned):
    maps = style_pipe(TARGET, learned, output_attention_maps=True).attention_maps
    assert [list(one) for one in maps] == [SOURCE.split(), TARGET.split()]
    for heat in maps[1].values():
        assert (heat.mode, heat.size) == ("L", (64, 48))
        assert np.asarray(heat).max() >= 250


@pytest.mark.families("sd", "sdxl")
def test_a_saved_network_edits_in_a_new_pipeline(style_pipe, make_style_pipe, learned, tmp_path):
    learned.save_pretrained(tmp_path)
    loaded = MappingNetwork.from_pretrained(tmp_path)
    other = make_style_pipe(image_encoder=None, feature_extractor=None)  # to edit, no picture is needed
    options = {"local_blend": "apple", "output_type": "latent"}
    ours, theirs = style_pipe(TARGET, learned, **options), other(TARGET, loaded, **options)
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.reconstruction, theirs.reconstruction)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_learned_at_one_precision_and_edited_at_another(
    family, style_pipe, make_style_pipe, make_unet, learned, picture, dtype
):
    parts = {
        name: copy.deepcopy(getattr(style_pipe, name)).to(dtype)
        for name in ("vae", *family.encoders, "image_encoder")
    }
    halves = make_style_pipe(unet=make_unet().to(dtype), **parts)
    edited, given_back = latents_of(halves, TARGET, learned)
    assert edited.dtype == given_back.dtype == torch.float32
    expected = latents_of(style_pipe, TARGET, learned)
    scale = expected[0].std()
    # bfloat16 has eight bits, and guidance costs some of them
    assert (edited - expected[0]).abs().mean() < 0.25 * scale
    assert (given_back - expected[1]).abs().mean() < 0.2 * scale

    from_afar = dataclasses.replace(
        THREE_UPDATES, start="random"
    )  # where even such halves have something to learn
    network = halves.learn_mapping(picture, SOURCE, 2, settings=from_afar)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert network.report.steps[0].latent_after < network.report.steps[0].latent_before
    ours, theirs = (latents_of(pipe, TARGET, network)[1] for pipe in (halves, style_pipe))
    assert (ours - theirs).abs().mean() < 0.2 * theirs.std()


def test_v_prediction(make_style_pipe, picture, plainly_guided):
    pipe = make_style_pipe()
    pipe.scheduler.register_to_config(prediction_type="v_prediction")
    network = pipe.learn_mapping(picture, SOURCE, 2, settings=THREE_UPDATES)
    assert network.config.prediction_type == "v_prediction"
    edited, _ = latents_of(pipe, TARGET, network, **FREE)
    torch.testing.assert_close(edited, plainly_guided(pipe, TARGET, network), rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_learns_the_same(style_pipe, learned, picture):
    network = style_pipe.learn_mapping(
        picture, SOURCE, STEPS, settings=THREE_UPDATES, gradient_checkpointing=True
    )
    assert same_bits(network, learned)


@pytest.mark.families("sd")
def test_gradient_checkpointing_takes_less_memory(style_pipe, picture, monkeypatch):
    """Of the learning itself, without what the VAE needs before and after it."""
    peaks, learn = [], learning.learn_mappings

    def watched(*arguments):
        results = []
        peaks.append(peak_bytes(lambda: results.append(learn(*arguments)), torch.device("cpu")))
        return results[0]

    monkeypatch.setattr(learning, "learn_mappings", watched)
    for checkpointing in (False, True):
        options = {"settings": ONE_UPDATE, "gradient_checkpointing": checkpointing}
        style_pipe.learn_mapping(picture, SOURCE, 2, height=192, width=256, **options)
    assert peaks[1] < 0.7 * peaks[0]


def test_learning_goes_on_after_an_interruption(style_pipe, unet, learned, picture, tmp_path):
    options = {"settings": THREE_UPDATES, "checkpoint": tmp_path / "kept"}
    evaluations = []

    def interrupt(*_):
        evaluations.append(1)
        if len(evaluations) == STEPS + 2 * (1 + 4) + 3:
            raise KeyboardInterrupt

    handle = unet.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        style_pipe.learn_mapping(picture, SOURCE, STEPS, **options)
    handle.remove()
    assert len(list((tmp_path / "kept").glob("step-*"))) == 2
    assert same_bits(style_pipe.learn_mapping(picture, SOURCE, STEPS, **options), learned)
    with pytest.raises(
        ValueError,
        match=r"belongs to another run of learning .*identity.negative_prompt: checkpoint (''|None)",
    ):
        style_pipe.learn_mapping(picture, SOURCE, STEPS, negative_prompt="the table", **options)


@pytest.mark.families("sd")
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_learning_does_not_mind_the_callers_gradient_mode(style_pipe, picture, mode):
    expected = style_pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE)
    with mode():
        network = style_pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE)
        edited, _ = latents_of(style_pipe, TARGET, network)
    assert same_bits(network, expected)
    assert not edited.requires_grad


def test_models_are_left_as_they_were(make_style_pipe, make_unet, picture):
    unet = make_unet()
    pipe = make_style_pipe(unet=unet)
    for index, parameter in enumerate(unet.parameters()):
        parameter.requires_grad_(index % 3 == 0)
    unet.conv_in.weight.grad = torch.ones_like(unet.conv_in.weight)
    before = copy.deepcopy(unet)
    processors, attributes = dict(unet.attn_processors), dict(vars(pipe))
    network = pipe.learn_mapping(picture, SOURCE, 2, settings=ONE_UPDATE)
    pipe(TARGET, network, local_blend="apple")
    assert unet.attn_processors == processors
    assert torch.equal(unet.conv_in.weight.grad, torch.ones_like(unet.conv_in.weight))
    for ours, theirs in zip(unet.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.requires_grad == theirs.requires_grad
        assert ours is unet.conv_in.weight or ours.grad is None
    assert not any(module._forward_pre_hooks or "forward" in vars(module) for module in unet.modules())
    changed = {
        name for name in {*attributes, *vars(pipe)} if vars(pipe).get(name) is not attributes.get(name)
    }
    assert changed <= {"_lora_scale"}  # diffusers' own encode_prompt writes it


@pytest.mark.families("sd")
def test_pictures_are_taken_as_people_have_them(style_pipe, picture):
    array = np.asarray(picture)
    one = style_pipe.learn_mapping(picture, SOURCE, 1, settings=ONE_UPDATE)
    assert same_bits(style_pipe.learn_mapping(array, SOURCE, 1, settings=ONE_UPDATE), one)
    assert isinstance(style_pipe.learn_mapping([array], SOURCE, 1, settings=ONE_UPDATE), list)


@pytest.mark.families("sd")
def test_the_vision_tokens_are_all_normalised(style_pipe, learned, picture, image_encoder, feature_extractor):
    """transformers applies the last normalisation only to the class token."""
    pixels = feature_extractor(images=[picture], return_tensors="pt").pixel_values
    with torch.no_grad():
        output = image_encoder.vision_model(pixels)
        expected = image_encoder.vision_model.post_layernorm(output.last_hidden_state)
    torch.testing.assert_close(learned.image_tokens, expected[0])
    torch.testing.assert_close(learned.image_tokens[0], output.pooler_output[0])


def test_each_stage_has_a_progress_bar(family, style_pipe, learned, picture):
    totals = []
    original = type(style_pipe).progress_bar

    class Watched(type(style_pipe)):
        def progress_bar(self, iterable=None, total=None):
            totals.append(total)
            return original(self, iterable, total)

    watched = Watched(**style_pipe.components, **family.silent)
    watched.set_progress_bar_config(disable=True)
    watched.learn_mapping(picture, SOURCE, 2, settings=ONE_UPDATE)
    watched(TARGET, learned)
    assert totals == [2, 2, STEPS]


@pytest.mark.families("sd")
@pytest.mark.filterwarnings("ignore:The learning did not converge")  # an untrained model need not
def test_a_schedule_is_named_or_given(make_style_pipe, picture):
    pipe = make_style_pipe()
    named = pipe.learn_mapping(picture, "a red apple", 2, settings="short")
    given = pipe.learn_mapping(picture, "a red apple", 2, settings=LearningSettings.short())
    assert_same_network(named, given)
    assert named.config.learning["inner_steps"] == LearningSettings.short().inner_steps


@pytest.mark.families("sd")
def test_a_mapping_network_loads_through_the_pipeline(make_style_pipe, learned, tmp_path):
    learned.save_pretrained(tmp_path / "apple")
    assert_same_network(make_style_pipe().load_mapping_network(tmp_path / "apple"), learned)


def assert_same_network(one, other):
    for name, value in one.state_dict().items():
        assert value.equal(other.state_dict()[name]), name


@pytest.mark.families("sd", "sdxl")
@pytest.mark.parametrize("taus", [{}, {"tau_u": 0.75, "tau_s": 0.25, "tau_c": 0.25}, FREE])
def test_the_source_is_evaluated_only_while_its_attention_is_taken(style_pipe, learned, counted, taus):
    """Edits are the same as with the source beside them to the end, which its attention maps need."""
    prompts = [TARGET, "a mug"]
    alone, given_back = latents_of(style_pipe, prompts, learned, **taus)
    without = counted.samples
    beside = style_pipe(prompts, learned, output_type="latent", output_attention_maps=True, **taus)
    assert without < counted.samples - without
    torch.testing.assert_close(alone, beside.images, rtol=1e-3, atol=1e-3)
    assert torch.equal(given_back, beside.reconstruction)
