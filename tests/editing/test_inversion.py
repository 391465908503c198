import pytest
import torch
from diffusers import DDIMScheduler

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import Guidance, PromptPair
from semantic_edit.editing.inversion import (
    StepHooks,
    Walk,
    ddim_inverse_step,
    decode_latents,
    invert_latents,
    predicting,
)
from semantic_edit.editing.schedule import PREDICTION_TYPES

NOTHING = Conditioning({"prompt_embeds": torch.zeros(1, 3, 8)})
TARGET = Conditioning({"prompt_embeds": torch.ones(1, 3, 8)})
EMPTY = PromptPair(NOTHING)


@pytest.fixture
def latents():
    return torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def linear_model(latents, timestep, prompt_embeds):
    """A prediction that depends smoothly on all three arguments."""
    return 0.3 * latents + 1e-4 * timestep + prompt_embeds.mean((1, 2))[:, None, None, None]


def constant_model(latents, timestep, prompt_embeds):
    return torch.full_like(latents, timestep / 1000)


@pytest.fixture(scope="module")
def linear(as_predictor):
    return as_predictor(linear_model)


def inverted(predictor, schedule, latents, levels):
    """The latents of every level under the empty prompt."""
    return invert_latents(predicting(predictor, schedule, EMPTY), schedule, latents, levels)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_prediction_of_the_timestep_alone_comes_back_exactly(prediction_type, latents, as_predictor):
    """The round-trip law: both directions evaluate a pair of levels at the same timestep."""
    config = {"clip_sample": False, "set_alpha_to_one": False, "prediction_type": prediction_type}
    schedule = schedule_from_scheduler(DDIMScheduler(**config), 20)
    predictor = as_predictor(constant_model)
    kept = inverted(predictor, schedule, latents, 16)
    back = decode_latents(predictor, schedule, Walk(kept), EMPTY)
    torch.testing.assert_close(back, latents, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_round_trip_improves_with_steps(prediction_type, latents, linear):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction_type)
    errors = []
    for steps in (10, 40, 160):
        schedule = schedule_from_scheduler(scheduler, steps)
        kept = inverted(linear, schedule, latents, schedule.levels(0.5))
        back = decode_latents(linear, schedule, Walk(kept), EMPTY)
        errors.append(float((back - latents).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_every_level_is_kept_and_evaluated_at_its_noisier_timestep(scheduler, latents, as_predictor):
    schedule = schedule_from_scheduler(scheduler, 10)
    seen = []

    def model(latents, timestep, prompt_embeds):
        seen.append((timestep, latents.clone()))
        return linear_model(latents, timestep, prompt_embeds)

    kept = inverted(as_predictor(model), schedule, latents, 8)
    assert kept.shape == (9, *latents.shape)
    assert torch.equal(kept[0], latents)
    assert [timestep for timestep, _ in seen] == list(schedule.timesteps[:8])
    for level, (_, inputs) in enumerate(seen):
        assert torch.equal(inputs, kept[level])


def test_decoding_walks_the_same_list_down(scheduler, latents, linear, as_predictor):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = inverted(linear, schedule, latents, 8)
    seen = []

    def model(latents, timestep, prompt_embeds):
        seen.append(timestep)
        return linear_model(latents, timestep, prompt_embeds)

    decode_latents(as_predictor(model), schedule, Walk(kept), EMPTY)
    assert seen == list(reversed(schedule.timesteps[:8]))


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_outside_the_mask_latents_end_on_the_clean_level(scheduler, latents, linear, scale):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = inverted(linear, schedule, latents, 8)
    mask = torch.zeros(1, 1, 6, 5)
    prompts, guidance = PromptPair(TARGET, NOTHING), Guidance(scale)
    everywhere_kept = decode_latents(linear, schedule, Walk(kept, mask), prompts, guidance)
    assert torch.equal(everywhere_kept, latents)
    mask[..., 2:4] = 1
    partly = decode_latents(linear, schedule, Walk(kept, mask), prompts, guidance)
    assert torch.equal(partly[..., :2], latents[..., :2])
    assert (partly[..., 2:4] - latents[..., 2:4]).abs().min() > 0


def test_the_blend_uses_the_level_that_was_reached(scheduler, latents, linear):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = inverted(linear, schedule, latents, 8)
    reached = []

    def after(step, timestep, tensors):
        reached.append(tensors["latents"])
        return {}

    walk = Walk(kept, torch.zeros(1, 1, 6, 5))
    decode_latents(linear, schedule, walk, EMPTY, hooks=StepHooks(after))
    assert len(reached) == 8
    for step, latents_there in enumerate(reached):
        assert torch.equal(latents_there, kept[7 - step])


def test_callbacks_change_what_follows_and_may_stop(scheduler, latents, linear, as_predictor):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = inverted(linear, schedule, latents, 8)
    rows = []

    def model(latents, timestep, prompt_embeds):
        rows.append(latents.shape[0])
        return linear_model(latents, timestep, prompt_embeds)

    def end_guidance(step, timestep, tensors):
        return {"negative_prompt_embeds": None} if step == 2 else {}

    hooks = StepHooks(end_guidance, should_stop=lambda: len(rows) == 6)
    decode_latents(as_predictor(model), schedule, Walk(kept), PromptPair(NOTHING, NOTHING), hooks=hooks)
    assert rows == [2, 2, 2, 1, 1, 1]


def test_a_callback_may_change_the_scale(scheduler, latents, linear):
    schedule = schedule_from_scheduler(scheduler, 10)
    walk, prompts = Walk(inverted(linear, schedule, latents, 8)), PromptPair(TARGET, NOTHING)
    expected = decode_latents(linear, schedule, walk, prompts, Guidance(3.0))
    changed = StepHooks(lambda step, timestep, tensors: {"guidance_scale": 3.0} if step == 0 else {})
    # the first step's own scale is one that a scale of 3 in the others cannot undo
    ours = decode_latents(linear, schedule, walk, prompts, Guidance(6.0), changed)
    unchanged = decode_latents(linear, schedule, walk, prompts, Guidance(6.0))
    first = StepHooks(should_stop=iter([False] + [True] * 8).__next__)
    start = decode_latents(linear, schedule, walk, prompts, Guidance(6.0), first)
    shorter = Walk(torch.stack([*walk.latents[:7], start]))
    assert torch.equal(ours, decode_latents(linear, schedule, shorter, prompts, Guidance(3.0)))
    assert not torch.equal(ours, expected)
    assert not torch.equal(ours, unchanged)


def test_guidance_that_stops_spares_the_unconditional_half(scheduler, latents, as_predictor):
    schedule = schedule_from_scheduler(scheduler, 10)
    rows = []

    def model(latents, timestep, prompt_embeds):
        rows.append(latents.shape[0])
        return linear_model(latents, timestep, prompt_embeds)

    predictor, both = as_predictor(model), PromptPair(TARGET.expand(2), NOTHING.expand(2))
    walk = Walk(latents.expand(9, 2, -1, -1, -1))
    guided = decode_latents(predictor, schedule, walk, both, Guidance([3.0, 5.0], stops=[0.5, 0.7]))
    # of ten steps the first two are not walked: three and five of the eight others are guided
    assert rows == [4] * 5 + [2] * 3
    for row, (scale, stop) in enumerate([(3.0, 0.5), (5.0, 0.7)]):
        alone = decode_latents(
            predictor,
            schedule,
            Walk(walk.latents[:, :1]),
            PromptPair(TARGET, NOTHING),
            Guidance(scale, stops=[stop]),
        )
        torch.testing.assert_close(guided[row : row + 1], alone)


def test_latents_accumulate_in_float32(scheduler, latents, linear):
    schedule = schedule_from_scheduler(scheduler, 4)
    kept = inverted(linear, schedule, latents.half(), 4)
    assert kept.dtype == torch.float32
    assert decode_latents(linear, schedule, Walk(kept.half()), EMPTY).dtype == torch.float32


@pytest.mark.parametrize("stride", [2, 3, 5])
def test_with_a_stride_every_level_is_kept_from_fewer_evaluations(scheduler, latents, as_predictor, stride):
    schedule = schedule_from_scheduler(scheduler, 10)
    seen = []

    def model(latents, timestep, prompt_embeds):
        seen.append((timestep, latents.clone()))
        return linear_model(latents, timestep, prompt_embeds)

    predict = predicting(as_predictor(model), schedule, EMPTY)
    kept = invert_latents(predict, schedule, latents, 8, stride=stride)
    assert [timestep for timestep, _ in seen] == list(schedule.timesteps[:8:stride])
    for start, (_, inputs) in zip(range(0, 8, stride), seen, strict=True):
        assert torch.equal(inputs, kept[start])
    shorter = invert_latents(predict, schedule, latents, 5, stride=stride)
    assert torch.equal(shorter, kept[:6])


def test_steps_between_evaluations_extrapolate_linearly(scheduler, latents, as_predictor):
    """A prediction that is linear in the timestep is met exactly from the second evaluation on."""
    schedule = schedule_from_scheduler(scheduler, 10)
    predict = predicting(as_predictor(constant_model), schedule, EMPTY)
    strided = invert_latents(predict, schedule, latents, 9, stride=3)
    each = strided[:4]
    for level in range(4, 10):
        noise_pred = constant_model(each[-1], schedule.timestep(level), None)
        each = torch.cat([each, ddim_inverse_step(each[-1], noise_pred, schedule, level)[None]])
    torch.testing.assert_close(strided, each)
