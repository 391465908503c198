import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from semantic_edit.editing.guidance import classifier_free_guidance, predict_guided, rescale_guidance


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 4, 5, 6, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("guidance_rescale", [0.0, 0.3, 1.0])
def test_rescale_equals_diffusers(predictions, guidance_rescale):
    guided, text = predictions
    torch.testing.assert_close(
        rescale_guidance(3 * guided, text, guidance_rescale),
        rescale_noise_cfg(3 * guided, text, guidance_rescale),
    )


def test_guidance_of_one_is_the_conditional_prediction(predictions):
    uncond, text = predictions
    torch.testing.assert_close(classifier_free_guidance(uncond, text, 1.0), text)
    torch.testing.assert_close(classifier_free_guidance(uncond, text, 0.0), uncond)


def test_both_halves_are_one_evaluation(predictions):
    latents = predictions[0]
    calls = []

    def predict_noise(latents, timestep, prompt_embeds):
        calls.append(latents.shape[0])
        return latents * prompt_embeds.mean((1, 2))[:, None, None, None]

    negative, positive = torch.zeros(3, 2, 4), torch.ones(3, 2, 4)
    plain = predict_guided(predict_noise, latents, 10, positive)
    guided = predict_guided(predict_noise, latents, 10, positive, negative, guidance_scale=2.0)
    assert calls == [3, 6]
    torch.testing.assert_close(plain, latents)
    torch.testing.assert_close(guided, 2 * latents)
