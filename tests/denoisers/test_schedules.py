import diffusers
import pytest
import torch
from diffusers import DDIMScheduler

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.inversion import ddim_inverse_step, ddim_step
from tests.schedules import STABLE_DIFFUSION, tensors


@pytest.mark.parametrize(
    ("prediction_type", "set_alpha_to_one"),
    [
        ("epsilon", False),
        ("epsilon", True),
        ("v_prediction", False),
        ("v_prediction", True),
        ("sample", False),
    ],
)
@pytest.mark.parametrize(
    ("spacing", "steps"), [("leading", 50), ("leading", 7), ("trailing", 50), ("linspace", 1000)]
)
def test_step_equals_diffusers(spacing, steps, prediction_type, set_alpha_to_one):
    options = {"timestep_spacing": spacing, "set_alpha_to_one": set_alpha_to_one}
    scheduler = DDIMScheduler(**{**STABLE_DIFFUSION, **options, "prediction_type": prediction_type})
    schedule = schedule_from_scheduler(scheduler, steps)
    scheduler.set_timesteps(steps)
    assert list(reversed(schedule.timesteps)) == scheduler.timesteps.tolist()
    latents, noise_pred = tensors(2)
    for level in (1, 2, steps // 2, steps):
        if not schedule.timestep(level):
            continue  # diffusers' step at timestep 0 of "linspace" looks one whole stride below
        expected = scheduler.step(noise_pred, schedule.timestep(level), latents).prev_sample
        torch.testing.assert_close(
            ddim_step(latents, noise_pred, schedule, level), expected, rtol=1e-4, atol=1e-5
        )


def test_level_zero_has_the_final_alpha():
    schedule = schedule_from_scheduler(DDIMScheduler(**STABLE_DIFFUSION), 50)
    first = DDIMScheduler(**STABLE_DIFFUSION).alphas_cumprod[0]
    assert schedule.signal[0] ** 2 == pytest.approx(float(first))
    ending_on_one = DDIMScheduler(**{**STABLE_DIFFUSION, "set_alpha_to_one": True})
    clean = schedule_from_scheduler(ending_on_one, 50)
    assert (clean.signal[0], clean.noise[0]) == (1.0, 0.0)


def test_the_scheduler_is_only_read(scheduler):
    scheduler.set_timesteps(7)
    before = dict(scheduler.config)
    schedule_from_scheduler(scheduler, 50)
    assert (scheduler.num_inference_steps, dict(scheduler.config)) == (7, before)
    assert len(scheduler.timesteps) == 7


def test_zero_terminal_snr_with_v_prediction():
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    good = DDIMScheduler(**{**STABLE_DIFFUSION, **options, "prediction_type": "v_prediction"})
    schedule = schedule_from_scheduler(good, 50)
    assert (schedule.signal[-1], schedule.noise[-1]) == (0.0, 1.0)
    latents, noise_pred = tensors(2)
    there = ddim_inverse_step(latents, noise_pred, schedule, 50)
    torch.testing.assert_close(ddim_step(there, noise_pred, schedule, 50), latents, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"timestep 999 .* cannot be inverted .* use a v_prediction model"):
        schedule_from_scheduler(DDIMScheduler(**{**STABLE_DIFFUSION, **options}), 50)


def test_sample_prediction_needs_noise_at_level_zero():
    config = {**STABLE_DIFFUSION, "prediction_type": "sample", "set_alpha_to_one": True}
    with pytest.raises(ValueError, match="set_alpha_to_one=False"):
        schedule_from_scheduler(DDIMScheduler(**config), 50)


@pytest.mark.parametrize(
    "name",
    [
        "PNDMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "DEISMultistepScheduler",
        "UniPCMultistepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
    ],
)
def test_other_samplers_give_the_ddim_schedule_of_their_config(name):
    ddim = DDIMScheduler(**STABLE_DIFFUSION, prediction_type="v_prediction")
    other = getattr(diffusers, name).from_config(ddim.config)
    back = DDIMScheduler.from_config(other.config, clip_sample=False)
    assert schedule_from_scheduler(other, 20) == schedule_from_scheduler(back, 20)
    assert schedule_from_scheduler(other, 20).prediction_type == "v_prediction"


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler"])
def test_a_config_that_was_changed_later_counts(name):
    scheduler = getattr(diffusers, name)(beta_start=0.00085, beta_end=0.012, steps_offset=1)
    scheduler.register_to_config(prediction_type="v_prediction", clip_sample=False)
    assert schedule_from_scheduler(scheduler, 20).prediction_type == "v_prediction"


@pytest.mark.parametrize(
    "make",
    [
        diffusers.DDPMScheduler,
        diffusers.EulerAncestralDiscreteScheduler,
        diffusers.LCMScheduler,
        diffusers.TCDScheduler,
        diffusers.FlowMatchEulerDiscreteScheduler,
        lambda: diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        lambda: diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction"
        ),
    ],
)
def test_stochastic_and_flow_schedulers_are_refused(make):
    with pytest.raises(ValueError, match=r"cannot be inverted.*DDIMScheduler\.from_config\(pipe\.scheduler"):
        schedule_from_scheduler(make(), 50)


@pytest.mark.parametrize("option", ["clip_sample", "thresholding"])
def test_clipping_is_refused(option):
    scheduler = DDIMScheduler(**{**STABLE_DIFFUSION, option: True})
    with pytest.raises(ValueError, match=rf"{option}=True.*clip_sample=False, thresholding=False"):
        schedule_from_scheduler(scheduler, 50)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, True, "50", None])
def test_step_counts_out_of_range_are_refused(scheduler, steps):
    with pytest.raises(ValueError, match=r"`num_inference_steps` must .* got"):
        schedule_from_scheduler(scheduler, steps)


def test_an_offset_beyond_the_last_timestep_is_refused(scheduler):
    with pytest.raises(ValueError, match=r"steps_offset=1 gives no 1000 different timesteps below 1000"):
        schedule_from_scheduler(scheduler, 1000)
