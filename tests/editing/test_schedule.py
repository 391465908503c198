import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.inversion import ddim_inverse_step, ddim_step
from semantic_edit.editing.schedule import PREDICTION_TYPES, Schedule, stable_diffusion_sigma
from tests.schedules import STABLE_DIFFUSION, tensors


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
def test_inverse_step_equals_diffusers(prediction_type):
    """For pairs that diffusers' inverse scheduler gets right: with "leading" spacing, from the second level."""
    config = {**STABLE_DIFFUSION, "prediction_type": prediction_type}
    inverse = DDIMInverseScheduler(**config)
    inverse.set_timesteps(50)
    schedule = schedule_from_scheduler(DDIMScheduler(**config), 50)
    latents, noise_pred = tensors(2)
    for level in (2, 3, 25, 50):
        expected = inverse.step(noise_pred, schedule.timestep(level), latents).prev_sample
        torch.testing.assert_close(
            ddim_inverse_step(latents, noise_pred, schedule, level), expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_steps_undo_each_other(spacing, steps, prediction_type):
    options = {"timestep_spacing": spacing, "prediction_type": prediction_type}
    scheduler = DDIMScheduler(**{**STABLE_DIFFUSION, **options})
    if prediction_type == "sample" and spacing == "linspace":
        with pytest.raises(ValueError, match="cannot be inverted"):
            schedule_from_scheduler(DDIMScheduler(**{**scheduler.config, "set_alpha_to_one": True}), steps)
    schedule = schedule_from_scheduler(scheduler, steps)
    latents, noise_pred = (one.double() for one in tensors(2))
    for level in range(1, steps + 1):
        there = ddim_inverse_step(latents, noise_pred, schedule, level)
        back = ddim_step(there, noise_pred, schedule, level)
        torch.testing.assert_close(back, latents, rtol=1e-9, atol=1e-9)


def test_add_noise_equals_diffusers(scheduler):
    schedule = schedule_from_scheduler(scheduler, 50)
    latents, noise = tensors(2)
    expected = scheduler.add_noise(latents, noise, torch.tensor([schedule.timestep(25)]))
    torch.testing.assert_close(schedule.add_noise(latents, noise, 25), expected)


def test_levels_of_a_strength():
    schedule = Schedule.of_alphas(range(1, 101), [1 - k / 200 for k in range(101)])
    assert [schedule.levels(strength) for strength in (0.8, 0.29, 0.57, 1.0, 0.001)] == [80, 29, 57, 100, 0]


def test_fingerprints_tell_schedules_apart(scheduler):
    one = schedule_from_scheduler(scheduler, 50)
    assert one.fingerprint == schedule_from_scheduler(scheduler, 50).fingerprint
    others = [
        schedule_from_scheduler(scheduler, 49),
        schedule_from_scheduler(DDIMScheduler(**{**STABLE_DIFFUSION, "prediction_type": "v_prediction"}), 50),
        schedule_from_scheduler(DDIMScheduler(**{**STABLE_DIFFUSION, "beta_end": 0.02}), 50),
        schedule_from_scheduler(DDIMScheduler(**{**STABLE_DIFFUSION, "set_alpha_to_one": True}), 50),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_schedule_checks_itself():
    with pytest.raises(ValueError, match=r"`prediction_type` must be one of .* got 'velocity'"):
        Schedule.of_alphas((1,), (1.0, 0.5), "velocity")
    for signal, noise in (((0.5,), (0.5, 0.5)), ((1.0, 0.5), (0.5,))):
        with pytest.raises(ValueError, match=rf"1 timesteps needs 2 .* got {len(signal)} and {len(noise)}"):
            Schedule((1,), signal, noise)


def test_a_flow_s_strengths_are_stable_diffusion_s_noise():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    sigmas = (1 - alphas).sqrt() / ((1 - alphas).sqrt() + alphas.sqrt())
    for fraction in (0.001, 0.25, 0.5, 0.8, 1.0):
        assert stable_diffusion_sigma(fraction) == pytest.approx(
            float(sigmas[round(1000 * fraction) - 1]), rel=1e-9
        )
    flow = Schedule.of_sigmas([*range(1, 101)], [level / 100 for level in range(101)])
    assert [flow.levels(strength) for strength in (0.5, 0.8, 1.0)] == [62, 84, 100]
    assert abs(stable_diffusion_sigma(0.5) - 0.62) < 0.005
    assert abs(stable_diffusion_sigma(0.8) - 0.84) < 0.005


def test_alphas_are_the_squared_signal():
    schedule = Schedule.of_alphas((1, 501), (1.0, 0.64, 0.36))
    assert schedule == Schedule((1, 501), (1.0, 0.8, 0.6), schedule.noise)
    assert schedule.noise == pytest.approx((0.0, 0.6, 0.8))


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_right_prediction_implies_the_noise_that_was_added(prediction_type):
    if prediction_type == "flow":
        schedule = Schedule.of_sigmas((300.0, 700.0), (0.0, 0.3, 0.7))
    else:
        schedule = Schedule.of_alphas((1, 501), (0.99, 0.64, 0.36), prediction_type)
    clean, noise = tensors(2)
    for level in (1, 2):
        noised = schedule.add_noise(clean, noise, level)
        velocity = schedule.signal[level] * noise - schedule.noise[level] * clean
        right = {"epsilon": noise, "sample": clean, "v_prediction": velocity, "flow": noise - clean}[
            prediction_type
        ]
        torch.testing.assert_close(schedule.noise_in(noised, right, level), noise)
        # and with it a step goes to the same picture and noise at the level below
        below = schedule.add_noise(clean, noise, level - 1)
        torch.testing.assert_close(ddim_step(noised, right, schedule, level), below)


def test_a_fraction_of_the_steps_is_counted_from_the_noisy_end():
    schedule = Schedule.of_alphas(range(1, 11), [1 - k / 20 for k in range(11)])
    for fraction, expected in ((0.0, 0), (0.3, 3), (0.31, 4), (0.7, 7), (1.0, 10)):
        before = [level for level in range(10, 0, -1) if schedule.is_before(level, fraction)]
        assert before == list(range(10, 10 - expected, -1))
