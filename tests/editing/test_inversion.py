import pytest
import torch
from diffusers import DDIMScheduler

from semantic_edit.editing.inversion import decode_latents, invert_latents
from semantic_edit.editing.schedule import PREDICTION_TYPES, schedule_from_scheduler

EMBEDS = torch.zeros(1, 3, 8)


@pytest.fixture
def latents():
    return torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0))


def linear_model(latents, timestep, prompt_embeds):
    """A prediction that depends on all three, smoothly."""
    return 0.3 * latents + 1e-4 * timestep + prompt_embeds.mean((1, 2))[:, None, None, None]


def constant_model(latents, timestep, prompt_embeds):
    return torch.full_like(latents, timestep / 1000)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_prediction_of_the_timestep_alone_comes_back_exactly(prediction_type, latents):
    """Round trip law: both directions evaluate a pair at the same timestep."""
    config = {"clip_sample": False, "set_alpha_to_one": False, "prediction_type": prediction_type}
    schedule = schedule_from_scheduler(DDIMScheduler(**config), 20)
    kept = invert_latents(constant_model, schedule, latents, EMBEDS, 16)
    back = decode_latents(constant_model, schedule, kept, EMBEDS, guidance_scale=1.0)
    torch.testing.assert_close(back, latents, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_round_trip_improves_with_steps(prediction_type, latents):
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction_type)
    errors = []
    for steps in (10, 40, 160):
        schedule = schedule_from_scheduler(scheduler, steps)
        kept = invert_latents(linear_model, schedule, latents, EMBEDS, schedule.levels(0.5))
        back = decode_latents(linear_model, schedule, kept, EMBEDS, guidance_scale=1.0)
        errors.append(float((back - latents).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_every_level_is_kept_and_evaluated_at_its_noisier_timestep(scheduler, latents):
    schedule = schedule_from_scheduler(scheduler, 10)
    seen = []

    def model(latents, timestep, prompt_embeds):
        seen.append((timestep, latents.clone()))
        return linear_model(latents, timestep, prompt_embeds)

    kept = invert_latents(model, schedule, latents, EMBEDS, 8)
    assert kept.shape == (9, *latents.shape)
    assert torch.equal(kept[0], latents)
    assert [timestep for timestep, _ in seen] == list(schedule.timesteps[:8])
    for level, (_, inputs) in enumerate(seen):
        assert torch.equal(inputs, kept[level])


def test_decoding_walks_the_same_list_down(scheduler, latents):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = invert_latents(linear_model, schedule, latents, EMBEDS, 8)
    seen = []

    def model(latents, timestep, prompt_embeds):
        seen.append(timestep)
        return linear_model(latents, timestep, prompt_embeds)

    decode_latents(model, schedule, kept, EMBEDS, guidance_scale=1.0)
    assert seen == list(reversed(schedule.timesteps[:8]))


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_outside_the_mask_latents_end_on_the_clean_level(scheduler, latents, scale):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = invert_latents(linear_model, schedule, latents, EMBEDS, 8)
    mask = torch.zeros(1, 1, 6, 5)
    everywhere_kept = decode_latents(linear_model, schedule, kept, EMBEDS + 1, mask, EMBEDS, scale)
    assert torch.equal(everywhere_kept, latents)
    mask[..., 2:4] = 1
    partly = decode_latents(linear_model, schedule, kept, EMBEDS + 1, mask, EMBEDS, scale)
    assert torch.equal(partly[..., :2], latents[..., :2])
    assert (partly[..., 2:4] - latents[..., 2:4]).abs().min() > 0


def test_the_blend_uses_the_level_that_was_reached(scheduler, latents):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = invert_latents(linear_model, schedule, latents, EMBEDS, 8)
    reached = []

    def on_step(step, timestep, tensors):
        reached.append(tensors["latents"])
        return {}

    decode_latents(linear_model, schedule, kept, EMBEDS, torch.zeros(1, 1, 6, 5), on_step=on_step)
    for step, latents_there in enumerate(reached):
        assert torch.equal(latents_there, kept[7 - step])


def test_callbacks_change_what_follows_and_may_stop(scheduler, latents):
    schedule = schedule_from_scheduler(scheduler, 10)
    kept = invert_latents(linear_model, schedule, latents, EMBEDS, 8)
    rows = []

    def model(latents, timestep, prompt_embeds):
        rows.append(latents.shape[0])
        return linear_model(latents, timestep, prompt_embeds)

    def end_guidance(step, timestep, tensors):
        return {"negative_prompt_embeds": None} if step == 2 else {}

    decode_latents(
        model,
        schedule,
        kept,
        EMBEDS,
        None,
        EMBEDS,
        on_step=end_guidance,
        should_stop=lambda: len(rows) == 6,
    )
    assert rows == [2, 2, 2, 1, 1, 1]


def test_latents_accumulate_in_float32(scheduler, latents):
    schedule = schedule_from_scheduler(scheduler, 4)
    kept = invert_latents(linear_model, schedule, latents.half(), EMBEDS, 4)
    assert kept.dtype == torch.float32
    assert decode_latents(linear_model, schedule, kept.half(), EMBEDS).dtype == torch.float32
