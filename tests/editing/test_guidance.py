import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import (
    PromptPair,
    classifier_free_guidance,
    predict_guided,
    rescale_guidance,
)


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


def of(prompt_embeds, pooled=None):
    return Conditioning({"prompt_embeds": prompt_embeds} | ({} if pooled is None else {"pooled": pooled}))


@pytest.fixture
def counting(as_predictor):
    """A model that multiplies by the mean of its embeddings, and the sizes of its batches."""
    calls = []

    def multiplied(latents, timestep, prompt_embeds):
        calls.append(latents.shape[0])
        return latents * prompt_embeds.mean((1, 2))[:, None, None, None]

    return as_predictor(multiplied), calls


def test_both_halves_are_one_evaluation(predictions, counting):
    latents = predictions[0]
    predictor, calls = counting
    negative, positive = of(torch.zeros(3, 2, 4)), of(torch.ones(3, 2, 4))
    plain = predict_guided(predictor, latents, 10, PromptPair(positive))
    guided = predict_guided(predictor, latents, 10, PromptPair(positive, negative), scale=2.0)
    unguided = predict_guided(predictor, latents, 10, PromptPair(positive, negative), scale=None)
    assert calls == [3, 6, 3]
    torch.testing.assert_close(plain, latents)
    torch.testing.assert_close(guided, 2 * latents)
    assert torch.equal(unguided, plain)


def test_each_of_a_batch_may_have_its_own_scale(predictions, counting):
    latents, (predictor, _) = predictions[0], counting
    pair = PromptPair(of(torch.ones(3, 2, 4)), of(torch.zeros(3, 2, 4)))
    scales = torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(predict_guided(predictor, latents, 10, pair, scales), scales * latents)


def test_the_model_says_how_it_is_guided(predictions, counting):
    latents, (predictor, _) = predictions[0], counting
    predictor.guide = lambda unconditional, conditional, scale: scale + unconditional - conditional
    pair = PromptPair(of(torch.ones(3, 2, 4)), of(torch.zeros(3, 2, 4)))
    torch.testing.assert_close(predict_guided(predictor, latents, 10, pair, 3.0), 3 - latents)


def test_a_pair_is_its_tensors_by_name():
    one, other = of(torch.ones(2, 3, 4), torch.ones(2, 5)), of(torch.zeros(2, 3, 4), torch.zeros(2, 5))
    tensors = PromptPair(one, other).tensors()
    assert tensors.keys() == {"prompt_embeds", "pooled", "negative_prompt_embeds", "negative_pooled"}
    assert tensors["negative_pooled"] is other.tensors["pooled"]
    alone = PromptPair(one).tensors()
    assert alone.keys() == tensors.keys()
    assert alone["negative_prompt_embeds"] is alone["negative_pooled"] is None


def test_a_pair_changes_by_name():
    one, other = of(torch.ones(2, 3, 4), torch.ones(2, 5)), of(torch.zeros(2, 3, 4), torch.zeros(2, 5))
    pair = PromptPair(one, other)
    assert pair.changed({"latents": torch.zeros(1)}) is pair
    changed = pair.changed({"negative_pooled": 7 * torch.ones(2, 5)})
    assert changed.conditional.equals(one)
    assert changed.unconditional.equals(of(torch.zeros(2, 3, 4), 7 * torch.ones(2, 5)))
    ended = pair.changed({"negative_prompt_embeds": None, "prompt_embeds": torch.zeros(2, 3, 4)})
    assert ended.unconditional is None
    assert ended.conditional.equals(of(torch.zeros(2, 3, 4), torch.ones(2, 5)))


def test_copies_of_a_pair_lie_side_by_side():
    pair = PromptPair(of(torch.arange(2.0).view(2, 1, 1)), of(torch.arange(2.0, 4).view(2, 1, 1)))
    twice = pair.repeat(2)
    assert twice.conditional.prompt_embeds.flatten().tolist() == [0, 0, 1, 1]
    assert twice.unconditional.prompt_embeds.flatten().tolist() == [2, 2, 3, 3]
    assert PromptPair(pair.conditional).repeat(2).unconditional is None
