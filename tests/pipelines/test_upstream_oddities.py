import pytest
import torch
from diffusers import DDIMScheduler

from semantic_edit.denoisers import schedule_from_scheduler
from semantic_edit.editing.schedule import PREDICTION_TYPES
from semantic_edit.pipelines.upstream import Regularization, auto_correlation_loss, kl_loss, regularised


@pytest.mark.parametrize("prediction_type", [one for one in PREDICTION_TYPES if one != "flow"])
def test_predicted_noise_is_what_was_added(prediction_type):
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, prediction_type=prediction_type)
    schedule = schedule_from_scheduler(scheduler, 10)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 6, 5, generator=generator)
    latents = schedule.add_noise(clean, noise, 5)
    timestep = torch.tensor([schedule.timestep(5)])
    model_output = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": scheduler.get_velocity(clean, noise, timestep),
    }
    found = schedule.noise_in(latents, model_output[prediction_type], 5)
    torch.testing.assert_close(found, noise, rtol=1e-4, atol=1e-4)


def test_losses_are_small_for_white_noise_and_large_for_a_blur():
    noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    blur = torch.nn.functional.avg_pool2d(noise, 9, stride=1, padding=4)
    generator = torch.Generator().manual_seed(1)
    same = torch.Generator().manual_seed(1)
    assert auto_correlation_loss(blur / blur.std(), generator) > 10 * auto_correlation_loss(noise, same)
    assert kl_loss(noise) < 0.01 < kl_loss(blur)


def test_regularization_works_where_gradients_are_off(scheduler):
    schedule = schedule_from_scheduler(scheduler, 10)
    with torch.inference_mode():
        prediction = torch.randn(1, 4, 16, 16)
        adjusted = regularised(lambda latents, level: prediction, schedule, Regularization(1))
        assert torch.isfinite(adjusted(torch.zeros_like(prediction), 5)).all()


def test_regularization_lowers_its_losses(scheduler):
    schedule = schedule_from_scheduler(scheduler, 10)
    prediction = 2 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = Regularization(5, generator=torch.Generator().manual_seed(0))
    adjusted = regularised(lambda latents, level: prediction, schedule, settings)(
        torch.zeros_like(prediction), 5
    )
    assert kl_loss(adjusted) < kl_loss(prediction)
    assert not adjusted.requires_grad
