"""Prompt-to-Prompt in joint attention: an edit takes its source's queries and keys, and everything is put back."""

import inspect

import pytest
import torch
from torch.testing import assert_close

from semantic_edit.attention_processors import joint
from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.joint import shared_projections

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
QUICK = {"num_inference_steps": 4, "num_maps_per_mask": 1, "output_type": "latent"}


@pytest.fixture(autouse=True)
def shares(family):
    if not family.encodes or "tau_s" not in inspect.signature(family.edit.__call__).parameters:
        pytest.skip("it has no encoded picture to share attention with, or no argument for it")


def edited(pipe, family, picture, prompt, **options):
    given = {"generator": torch.Generator().manual_seed(0), "height": picture.height, "width": picture.width}
    return pipe(picture, prompt, SOURCE, **{**given, **QUICK, **family.called, **options})


def test_an_edit_that_shares_attention_differs_from_one_that_does_not(family, pipe, picture):
    mask = torch.ones(1, 1, picture.height, picture.width)
    shared = edited(pipe, family, picture, SOURCE, mask_image=mask, tau_s=1.0)
    free = edited(pipe, family, picture, SOURCE, mask_image=mask)
    assert not torch.equal(shared.images, free.images)


def test_it_keeps_the_structure_and_what_is_outside_the_mask(family, pipe, picture):
    mask = torch.zeros(1, 1, picture.height, picture.width)
    mask[..., : picture.width // 2] = 1
    shared, free = (edited(pipe, family, picture, TARGET, mask_image=mask, tau_s=tau) for tau in (0.5, 0.0))
    outside = shared.mask == 0
    clean = shared.trajectory.latents[0]
    assert_close(shared.images * outside, clean * outside, rtol=0, atol=0)
    assert not torch.equal(shared.images, free.images)


@pytest.mark.parametrize("strength", [0.4, 0.8])
def test_it_counts_the_steps_of_decoding(family, pipe, picture, strength):
    """However few of the schedule's steps those are, a fraction above zero shares at least the first of them."""
    mask = torch.ones(1, 1, picture.height, picture.width)
    options = {"mask_image": mask, "inpaint_strength": strength, "num_inference_steps": 8}
    last, every, least, none = (
        edited(pipe, family, picture, TARGET, **options, tau_s=tau).images for tau in (0.99, 1.0, 1e-6, 0.0)
    )
    assert_close(last, every, rtol=0, atol=0)
    assert (least - none).abs().max() > 1e-4


def test_a_row_alone_takes_nothing(family, denoiser, latents):
    """Rows that share with a row of the same picture and prompt compute what they would have computed."""
    two, given = latents.repeat(2, 1, 1, 1), prompts(denoiser, [SOURCE, SOURCE])
    picture = denoiser.layout(two, given).image
    timestep = denoiser.schedule(4, tuple(latents.shape[-2:])).timestep(2)
    usual = denoiser.predict(two, timestep, given)
    with BorrowedNetwork(denoiser.transformer) as borrowed, shared_projections(borrowed, picture, {1: 0}):
        shared = denoiser.through(borrowed).predict(two, timestep, given)
        assert_close(denoiser.predict(two, timestep, given), usual, rtol=0, atol=0)  # others are not touched
    assert_close(shared, usual, rtol=0, atol=0)
    assert_close(denoiser.predict(two, timestep, given), usual, rtol=0, atol=0)


def prompts(denoiser, texts):
    from semantic_edit.denoisers import PromptInput

    return denoiser.embed([denoiser.read_prompt(PromptInput("prompt", texts))], len(texts))[0]


def test_layers_are_named_and_an_unknown_one_is_refused(family, pipe, picture, denoiser):
    first, *_ = denoiser.attention_layers()
    mask = torch.ones(1, 1, picture.height, picture.width)
    one = edited(pipe, family, picture, TARGET, mask_image=mask, tau_s=1.0, shared_layers=[first])
    every = edited(pipe, family, picture, TARGET, mask_image=mask, tau_s=1.0)
    assert not torch.equal(one.images, every.images)
    with pytest.raises(ValueError, match="`shared_layers` names 'attn', which is no attention layer"):
        edited(pipe, family, picture, TARGET, mask_image=mask, tau_s=1.0, shared_layers=["attn"])


@pytest.mark.parametrize("layers", [[], 3, {"attn": 1}], ids=str)
def test_layers_that_are_no_list_of_layers_are_refused(family, pipe, picture, layers):
    with pytest.raises(ValueError, match="`shared_layers` must be a list of at least one attention layer"):
        edited(pipe, family, picture, TARGET, tau_s=1.0, shared_layers=layers)


def test_attention_that_cannot_be_watched_is_not_silently_left_unshared(
    family, denoiser, latents, monkeypatch
):
    """As by a backend other than torch's own fused attention."""
    given, two = prompts(denoiser, [SOURCE, TARGET]), latents.repeat(2, 1, 1, 1)
    monkeypatch.setattr(joint, "_is_attention", lambda _module: False)
    image = denoiser.layout(two, given).image
    with (
        pytest.raises(ValueError, match=r"No attention was shared: .*reset_attention_backend"),
        BorrowedNetwork(denoiser.transformer) as borrowed,
        shared_projections(borrowed, image, {1: 0}),
    ):
        denoiser.through(borrowed).predict(two, 500.0, given)


@pytest.mark.parametrize(("name", "value"), [("tau_s", 0.5), ("local_blend", "pear")])
def test_flow_edit_has_nothing_to_share(family, pipe, picture, name, value):
    with pytest.raises(ValueError, match=f"`{name}` decodes the edit beside the encoded image"):
        edited(pipe, family, picture, TARGET, encoding="flowedit", **{name: value})


def test_edits_blend_into_the_image_outside_of_the_regions_of_their_words(family, pipe, picture):
    mask = torch.ones(1, 1, picture.height, picture.width)
    options = {"mask_image": mask, "local_blend": ["apple", "pear"]}
    free = edited(pipe, family, picture, TARGET, mask_image=mask).images
    every = edited(pipe, family, picture, TARGET, **options, local_blend_threshold=1e-6).images
    assert_close(every, free, rtol=1e-4, atol=1e-4)
    few = edited(pipe, family, picture, [TARGET, "a pear"], **options, local_blend_threshold=0.999)
    clean = few.trajectory.latents[0]
    kept = (few.images == clean).all(dim=1)
    for row in kept:
        assert row.any()
        assert not row.all()


def test_each_edit_blends_by_its_own_words(family, pipe, picture):
    mask = torch.ones(1, 1, picture.height, picture.width)
    options = {"mask_image": mask, "local_blend": ["pear", "mug"], "local_blend_threshold": 0.98}
    both = edited(pipe, family, picture, [TARGET, "a blue mug"], num_images_per_prompt=2, **options).images
    for row, prompt in enumerate([TARGET, "a blue mug"]):
        word = options["local_blend"][row]
        alone = edited(pipe, family, picture, prompt, **{**options, "local_blend": word}).images
        assert_close(both[2 * row : 2 * row + 2], alone.expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("prompt", "words", "reason"),
    [
        (TARGET, "plum", "`local_blend` does not fit the prompts: .*plum"),
        ([TARGET, "a blue mug"], "pear", "`local_blend` has no word of the prompts of edit 1"),
        (TARGET, {"pear": 1}, "`local_blend` must be a word or a list of words"),
    ],
)
def test_words_that_nothing_can_blend_by_are_refused(family, pipe, picture, prompt, words, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        edited(pipe, family, picture, prompt, local_blend=words)


def test_a_callback_that_fails_leaves_the_transformer_as_it_was(family, pipe, picture):
    before = {name: id(vars(module).get("forward")) for name, module in pipe.transformer.named_modules()}

    def fail(*_):
        raise RuntimeError("boom")

    mask = torch.ones(1, 1, picture.height, picture.width)
    with pytest.raises(RuntimeError, match="boom"):
        edited(pipe, family, picture, TARGET, mask_image=mask, tau_s=1.0, callback_on_step_end=fail)
    assert before == {
        name: id(vars(module).get("forward")) for name, module in pipe.transformer.named_modules()
    }
