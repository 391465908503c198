"""An edit walks exactly the levels that a family's own pipeline walks, by the same evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.joint import attention_calls
from semantic_edit.attention_processors.tokens import tokens_of
from semantic_edit.denoisers import PromptInput
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import PromptPair, predict_guided
from semantic_edit.editing.inversion import Walk, ddim_step, decode_latents, invert_latents, predicting
from semantic_edit.pipelines import pipeline_around
from tests.conftest import make_picture
from tests.flow.sd3 import SD3
from tests.flow.z_image import Z_IMAGE

STEPS = 4
PROMPT, OTHER = "a red apple on grass", "a photo of the table"


@contextmanager
def received(module: torch.nn.Module) -> Iterator[list[dict[str, Any]]]:
    """What the evaluations of a module in the block are given, by name."""
    calls: list[dict[str, Any]] = []

    def note(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append({**{str(place): one for place, one in enumerate(args)}, **kwargs})

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def own_walk(family, own, latents, prompt=PROMPT, negative=OTHER):
    """The latents after each step of the family's own pipeline, as ours have them, and what it evaluated."""
    reached = []

    def note(_pipe, _step, _timestep, tensors):
        reached.append(family.unpacked(tensors["latents"], latents))
        return tensors

    width, height = family.size
    with received(own.transformer) as calls:
        own(
            prompt=prompt,
            width=width,
            height=height,
            num_inference_steps=STEPS,
            latents=family.packed(latents, own),
            output_type="latent",
            callback_on_step_end=note,
            **(family.guidance if family.own_guidance is None else family.own_guidance),
            **family.own_negative(own, negative),
            **family.own,
        )
    return reached, calls


def told(denoiser, prompt, negative=None):
    """A prompt, and what to guide away from, as an edit embeds them."""
    asked = [PromptInput("prompt", prompt), PromptInput("negative_prompt", negative)]
    read = [
        denoiser.read_prompt(one, required=False, unconditional=index == 1) for index, one in enumerate(asked)
    ]
    conditional, unconditional = denoiser.embed(read, 1)
    return PromptPair(conditional, unconditional)


def guiding(family, denoiser, prompt, negative):
    """The same without the second, in families that do not guide."""
    pair = told(denoiser, prompt, negative)
    return pair if family.guides else PromptPair(pair.conditional)


def scale_of(family, pipe):
    negative = {"negative_prompt": OTHER} if family.guides else {}
    call = {"encoding": None, "num_inference_steps": STEPS, **negative, **family.guidance}
    return pipe._in_common_terms(call)["guidance_scale"]


@pytest.mark.parametrize("prompts", [(PROMPT, OTHER), (OTHER, PROMPT)], ids=["as it is", "exchanged"])
def test_a_step_is_the_pipelines_own(family, own, pipe, denoiser, latents, prompts):
    reached, _ = own_walk(family, own, latents, *prompts)
    schedule = denoiser.schedule(STEPS, tuple(latents.shape[-2:]))
    pair, here = guiding(family, denoiser, *prompts), latents
    with torch.no_grad():
        for level, expected in zip(range(STEPS, 0, -1), reached, strict=True):
            timestep = schedule.timestep(level)
            velocity = predict_guided(denoiser, here, timestep, pair, scale_of(family, pipe))
            assert_close(ddim_step(here, velocity, schedule, level), expected, rtol=1e-6, atol=1e-6)
            here = expected


def test_the_transformer_receives_what_its_own_pipeline_gives_it(family, own, pipe, denoiser, latents):
    check_received(family, own, pipe, latents)


def check_received(family, own, pipe, latents):
    """Compare what a transformer is given in a first, guided step by its own pipeline and by ours."""
    denoiser = pipe._denoiser({**family.called, **family.guidance})
    _, expected = own_walk(family, own, latents)
    schedule = denoiser.schedule(STEPS, tuple(latents.shape[-2:]))
    with torch.no_grad(), received(own.transformer) as calls:
        pair = guiding(family, denoiser, PROMPT, OTHER)
        predict_guided(denoiser, latents, schedule.timestep(STEPS), pair, scale_of(family, pipe))
    per_step = len(expected) // STEPS
    theirs, ours = (merged(map(family.received, given)) for given in (expected[:per_step], calls))
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert len(value) == len(ours[name]), name
        assert {one.dtype for one in value} == {one.dtype for one in ours[name]}, name
        for one, other in zip(in_order(value), in_order(ours[name]), strict=True):
            assert_close(other, one, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def merged(calls):
    """All tensors of some calls by name, as lists of their rows; positions are those of all rows alike."""
    rows: dict[str, list[torch.Tensor]] = {}
    for call in calls:
        for name, value in call.items():
            if name.endswith("_ids"):
                rows[name] = [value]
            elif isinstance(value, torch.Tensor):
                rows.setdefault(name, []).extend(value if value.ndim else [value])
            elif isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
                rows.setdefault(name, []).extend(value)
    return rows


def in_order(rows):
    """In an order that does not depend on which half of a batch was evaluated first."""
    return sorted((row.float() for row in rows), key=lambda row: row.flatten().tolist())


def test_a_walk_up_is_retraced_by_a_walk_down(family, denoiser, pipe, latents):
    """The corrector leaves a small part of what plain steps leave."""
    if not family.encodes:
        pytest.skip("distilled models are not inverted")
    schedule = denoiser.schedule(20, tuple(latents.shape[-2:]))
    pair = PromptPair(told(denoiser, "").conditional)
    clean = 0.3 * latents
    with torch.no_grad():
        encoder = denoiser.for_encoding()
        up = invert_latents(predicting(encoder, schedule, pair), schedule, clean, 16)
        back = decode_latents(encoder, schedule, Walk(up), pair)
        plain = clean
        for level in range(1, 17):
            _, added = schedule.step_factors(level)
            plain = plain - added * predict_guided(encoder, plain, schedule.timestep(level), pair)
        plain_back = decode_latents(encoder, schedule, Walk(torch.stack([clean] * 16 + [plain])), pair)
    error, plain_error = ((one - clean).norm() / clean.norm() for one in (back, plain_back))
    assert error < 0.02
    assert error < 0.6 * plain_error


def test_a_strength_is_a_level_of_noise(denoiser, latents):
    schedule = denoiser.schedule(50, tuple(latents.shape[-2:]))
    for strength, sigma in ((0.5, 0.617), (0.8, 0.836)):
        level = schedule.levels(strength)
        gaps = abs(schedule.noise[level + 1] - schedule.noise[level])
        assert abs(schedule.noise[level] - sigma) <= gaps
    assert schedule.levels(1.0) == 50


def test_the_scheduler_stays_as_it_is(denoiser, pipe, latents):
    before = dict(vars(pipe.scheduler))
    denoiser.schedule(7, tuple(latents.shape[-2:]))
    assert vars(pipe.scheduler).keys() == before.keys()
    assert all(value is vars(pipe.scheduler)[name] for name, value in before.items())


def test_encoding_and_decoding_are_the_pipelines_own(family, own, denoiser, picture):
    from semantic_edit.pipelines import read_images

    pixels = read_images(picture).pixels
    with torch.no_grad():
        clean = denoiser.encode(pixels)
        ours = denoiser.decode(clean)
        width, height = family.size
        theirs = own_decode(family, own, clean)
    assert clean.shape[-2:] == (height // denoiser.cell, width // denoiser.cell)
    assert_close(ours, theirs, rtol=0, atol=1e-5)


def own_decode(family, own, clean):
    """What the family's own pipeline makes of latents where its transformer says zero: its VAE's picture."""
    before = own.transformer.forward
    width, height = family.size

    def silent(*args, **kwargs):
        given = before(*args, **kwargs)
        if isinstance(given[0], list):
            return ([torch.zeros_like(one) for one in given[0]],)
        return (torch.zeros_like(given[0]),)

    own.transformer.forward = silent
    try:
        return own(
            prompt=PROMPT,
            width=width,
            height=height,
            num_inference_steps=2,
            latents=family.packed(clean, own),
            output_type="pt",
            **family.own,
        ).images.float()
    finally:
        del own.transformer.forward


def test_a_words_column_is_that_words(denoiser, own, latents):
    """The tokens are those that a text encoder receives, and the layout places them where the transformer does."""
    encoders = [
        module for name, module in own.components.items() if name.startswith("text_encoder") and module
    ]
    with ExitStack() as stack:
        given = [stack.enter_context(received(encoder)) for encoder in encoders]
        prompt = told(denoiser, PROMPT).conditional
    tokens = denoiser.tokens(PROMPT)
    read = [
        ids.tolist() for calls in given for call in calls for ids in [call.get("input_ids", call.get("0"))[0]]
    ]
    ids = list(tokens.ids)  # of what follows the beginning of a chat template, in families that have one
    assert any(ids == one[first : first + len(ids)] for one in read for first in range(len(one)))
    (place,) = tokens_of(tokens, "apple")
    changed = prompt.prompt_embeds.clone()
    changed[:, place] += torch.linspace(-1, 1, changed.shape[-1])
    other = Conditioning({**prompt.tensors, "prompt_embeds": changed})
    keys, other_keys = (keys_of_the_first_layer(denoiser, latents, one) for one in (prompt, other))
    layout = denoiser.layout(latents, prompt)
    assert keys.shape[-2] == layout.length
    moved = (keys - other_keys).abs().flatten(0, 1).amax(dim=(0, -1))
    assert int(moved.argmax()) == layout.text.start + place
    assert not moved[layout.image].any()


def keys_of_the_first_layer(denoiser, latents, given):
    """Of joint attention: (1, heads, tokens, head width)."""
    seen, length = [], denoiser.layout(latents, given).length

    def note(_name, attend, query, key, *others, **named):
        if key.shape[-2] == length:  # layers before those may refine picture and text apart
            seen.append(key)
        return attend(query, key, *others, **named)

    with (
        torch.no_grad(),
        BorrowedNetwork(denoiser.transformer) as transformer,
        attention_calls(transformer, note),
    ):
        denoiser.through(transformer).predict(latents, 500.0, given)
    return seen[0]


@pytest.mark.parametrize("family", [SD3, Z_IMAGE], indirect=True, ids=str)
def test_an_image_with_more_rows_than_the_transformer_has_places_is_refused_before_any_work(
    family, pipe, denoiser
):
    beyond = (denoiser.places + 1) * denoiser.multiple
    told = {"height": beyond, "width": denoiser.multiple, **family.called}
    reason = (
        f"would work at {denoiser.multiple} x {beyond} pixels .* up to {beyond - denoiser.multiple} pixels"
    )
    with received(pipe.transformer) as calls:
        for run in (pipe.locate, pipe.explain, pipe.__call__, pipe.invert):
            with pytest.raises(ValueError, match=reason):
                run(image=make_picture(1, 5, 90), prompt="a green pear", **told)
    assert not calls


@pytest.mark.parametrize("family", [SD3], indirect=True, ids=str)
@pytest.mark.parametrize("damaged", [{"base_image_seq_len": 4096}, {"max_shift": "high"}], ids=str)
def test_a_scheduler_whose_shift_cannot_be_computed_is_refused(family, pipe, edit, damaged):
    config = {name: one for name, one in pipe.scheduler.config.items() if not name.startswith("_")}
    scheduler = type(pipe.scheduler)(**{**config, "use_dynamic_shifting": True, **damaged})
    with pytest.raises(ValueError, match="config gives no shift of the noise levels"):
        edit(pipeline_around(family.edit, family.make(scheduler=scheduler)))
