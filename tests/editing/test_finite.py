import pytest
import torch

from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import FiniteWatch, check_finite
from semantic_edit.editing.guidance import PromptPair
from semantic_edit.editing.inversion import StepHooks, Walk, decode_latents, invert_latents, predicting

NOTHING = Conditioning({"prompt_embeds": torch.zeros(1, 3, 8), "pooled_prompt_embeds": torch.zeros(1, 5)})
LATENTS = torch.ones(1, 4, 6, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 7, 4099])
def test_one_value_anywhere_is_seen(value, dtype, count):
    largest = torch.full((count,), torch.finfo(torch.float16).max, dtype=dtype)
    check_finite("somewhere", largest)
    for place in {0, count // 2, count - 1}:
        values = largest.clone()
        values[place] = value
        with pytest.raises(FloatingPointError, match=r"^NaN or infinite values came from somewhere\. "):
            check_finite("somewhere", values)


def test_the_first_of_several_is_named_and_what_to_do():
    watch = FiniteWatch()
    watch.check()
    for name, value in (("a", 1.0), ("b", float("inf")), ("c", float("nan"))):
        watch.see(name, torch.tensor([value]))
    with pytest.raises(FloatingPointError, match=r"from b\. .* in float32 or bfloat16, or its VAE alone"):
        watch.check()


def failing_from(first):
    """A model whose predictions are NaN starting with a given evaluation."""
    calls = []

    def model(latents, timestep, prompt_embeds):
        calls.append(timestep)
        return torch.full_like(latents, float("nan") if len(calls) > first else 0.1)

    return model


def constant_model(latents, timestep, prompt_embeds):
    return torch.full_like(latents, 0.1)


@pytest.mark.parametrize("step", [0, 2, 3])
def test_both_directions_name_their_first_bad_step(scheduler, as_predictor, step):
    schedule, empty = schedule_from_scheduler(scheduler, 4), PromptPair(NOTHING)
    timestep = schedule.timestep(step + 1)
    predict = predicting(as_predictor(failing_from(step)), schedule, empty)
    with pytest.raises(FloatingPointError, match=rf"the inversion at step {step} \(timestep {timestep}\)"):
        invert_latents(predict, schedule, LATENTS, 4)
    latents, timestep = LATENTS.expand(5, -1, -1, -1, -1), schedule.timestep(4 - step)
    for mask in (
        None,
        torch.ones(1, 1, 6, 5),
        torch.zeros(1, 1, 6, 5),
    ):  # blended away with weight 0, NaN stays
        predictor = as_predictor(failing_from(step))
        with pytest.raises(FloatingPointError, match=rf"the decoding at step {step} \(timestep {timestep}\)"):
            decode_latents(predictor, schedule, Walk(latents, mask), empty)


@pytest.mark.parametrize(
    "name", ["latents", "prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds"]
)
def test_what_a_callback_returns_is_named(scheduler, as_predictor, name):
    schedule = schedule_from_scheduler(scheduler, 4)
    walk = Walk(LATENTS.expand(5, -1, -1, -1, -1))

    def spoil(step, timestep, tensors):
        return {name: torch.full_like(tensors[name], float("inf"))} if step == 3 else {}

    prompts, hooks = PromptPair(NOTHING, NOTHING), StepHooks(spoil)
    with pytest.raises(FloatingPointError, match=rf"the callback's `{name}` at step 3 \(timestep 1\)"):
        decode_latents(as_predictor(constant_model), schedule, walk, prompts, hooks=hooks)


def test_a_callback_that_writes_to_what_it_is_given_is_found_out(scheduler, as_predictor):
    schedule = schedule_from_scheduler(scheduler, 4)

    def spoil(step, timestep, tensors):
        if step == 3:
            tensors["latents"].fill_(float("nan"))
        return {}

    walk = Walk(LATENTS.expand(5, -1, -1, -1, -1))
    with pytest.raises(FloatingPointError, match="the callback of the last step"):
        decode_latents(
            as_predictor(constant_model), schedule, walk, PromptPair(NOTHING), hooks=StepHooks(spoil)
        )
