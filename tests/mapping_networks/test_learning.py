import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from semantic_edit.mapping_networks import (
    LearningSettings,
    mapping_forward,
    parameter_shapes,
    value_embeds_of,
)
from semantic_edit.mapping_networks.combination import combination_weights
from semantic_edit.mapping_networks.mapping import initial_parameters

PUBLISHED = LearningSettings.published()
LONG = LearningSettings.long()
# the toy cannot be reconstructed, and the warning about that is tested by itself
pytestmark = pytest.mark.filterwarnings("ignore:The learning did not converge")


def plain_network(toy, variant):
    """The published layers as torch modules with their default initialisation."""
    tokens, width = toy.text_embeds.shape[1:]
    image_tokens, image_width = toy.image_tokens.shape[1:]
    torch.manual_seed(0)
    return nn.Sequential(
        *([nn.Linear(image_width, width)] if image_width != width else []),
        nn.Conv1d(image_tokens, 2 * tokens, 1),
        nn.Conv1d(2 * tokens, 2 * tokens, 1),
        nn.BatchNorm1d(2 * tokens),
        nn.LeakyReLU(),
        nn.Conv1d(2 * tokens, 2 * tokens if variant == "modulate" else tokens, 1),
    ).to(toy.dtype)


def plain_step(toy, network, latents, step, variant, inner_steps=100, stops=True):
    """One step of the published algorithm for one image, with nothing shared or skipped; trains `network` in place.

    Returns the (latent, attention) losses before and after, the number of updates and the next latents.
    """
    level, tokens = toy.levels - step, toy.text_embeds.shape[1]

    def losses():
        mapped = network(toy.image_tokens)
        values = mapped
        if variant == "modulate":
            values = toy.text_embeds * mapped[:, :tokens] + mapped[:, tokens:]
        noise, maps = toy.evaluate(latents, level, values, torch.arange(1))
        with torch.no_grad():
            unconditional = toy.evaluate_unconditional(latents, level)
        reached = toy.step_back(latents, unconditional + 7.5 * (noise - unconditional), level)
        pairs = zip(maps, toy.source_maps(level), strict=True)
        attention = sum(functional.mse_loss(own, kept) for own, kept in pairs)
        return functional.mse_loss(reached, toy.trajectory[level - 1]), attention, reached

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2 * (1 - step / 100))
    for update in range(math.ceil(inner_steps * math.exp(-0.1 * step))):
        latent, attention, _ = losses()
        if update == 0:
            before = (latent.item(), attention.item())
        loss = latent + attention
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if stops and loss.item() < 1e-5 + 2e-5 * step:
            break
    with torch.no_grad():
        latent, attention, reached = losses()
    return before, (latent.item(), attention.item()), update + 1, reached


def assert_same_step(report, plain, tolerance):
    before, after, updates, _ = plain
    assert report.updates == (updates,)
    assert (report.latent_before[0], report.attention_before[0]) == pytest.approx(before, rel=tolerance)
    assert (report.latent_after[0], report.attention_after[0]) == pytest.approx(after, rel=tolerance)


def assert_same_network(toy, result, step, network, tolerance):
    # by what they give: biases in front of the normalisation change nothing and drift with rounding
    parameters = {name: value[:, step] for name, value in result.parameters.items()}
    mapped = mapping_forward(parameters, toy.image_tokens)
    torch.testing.assert_close(mapped, network(toy.image_tokens), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("variant", "image_width"), [("modulate", 7), ("direct", 6)])
def test_published_schedule_equals_a_plain_loop(make_toy, variant, image_width):
    toy = make_toy(levels=3, dtype=torch.float64, image_width=image_width)
    result = toy.learn(variant=variant, settings=PUBLISHED)
    network, latents = plain_network(toy, variant), toy.trajectory[-1]
    for step, report in enumerate(result.report.steps):
        plain = plain_step(toy, network, latents, step, variant)
        assert_same_step(report, plain, 1e-9)
        assert_same_network(toy, result, step, network, 1e-9)
        latents = plain[-1]
    torch.testing.assert_close(result.latents, latents, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("variant", "dtype", "inner_steps", "tolerance"),
    [
        ("modulate", torch.float64, 15, 1e-9),
        ("modulate", torch.float32, 5, 1e-5),
        ("direct", torch.float32, 5, 1e-5),
    ],
)
def test_every_step_of_thirty_equals_a_plain_one(make_toy, tmp_path, variant, dtype, inner_steps, tolerance):
    """Each plain step starts from our previous one, because Adam would amplify rounding over 30 independent steps."""
    toy = make_toy(levels=30, dtype=dtype)
    settings = dataclasses.replace(PUBLISHED, inner_steps=inner_steps)
    result = toy.learn(variant=variant, settings=settings, checkpoint=tmp_path)
    network, latents = plain_network(toy, variant), toy.trajectory[-1]
    for step, report in enumerate(result.report.steps):
        assert_same_step(report, plain_step(toy, network, latents, step, variant, inner_steps), tolerance)
        assert_same_network(toy, result, step, network, 1e-3)
        ours = load_file(tmp_path / f"step-{step:04d}.safetensors")
        latents = ours.pop("latents")
        names = parameter_shapes(variant, *toy.text_embeds.shape[1:], *toy.image_tokens.shape[1:])
        with torch.no_grad():
            for name, value in zip(names, network.parameters(), strict=True):
                value.copy_(ours[name].view_as(value))


def test_published_schedule_costs_what_it_should(make_toy):
    toy = make_toy(levels=30)
    settings = dataclasses.replace(PUBLISHED, stop_below=0.0, stop_growth=0.0)
    report = toy.learn(settings=settings).report
    assert report.backward_evaluations == (1015,)
    assert report.forward_evaluations == (1015 + 30 + 30,)  # the unconditional branch's and the final ones
    assert len([call for call in toy.calls if call[3]]) == 1015
    assert len([call for call in toy.calls if call[0] == "unconditional"]) == 30
    assert len(toy.calls) == 1075


def test_the_long_schedule_costs_what_it_should(make_toy):
    toy = make_toy(levels=30)
    result = toy.learn(settings=dataclasses.replace(LONG, stop_below=0.0))
    assert result.report.backward_evaluations == (90,)
    # besides the updates' the unconditional branch's, the last network's and the combination's
    assert result.report.forward_evaluations == (90 + 3 * 30,) == (len(toy.calls),)
    assert len([call for call in toy.calls if call[3]]) == 90


def test_nothing_may_be_learned(make_toy):
    toy = make_toy(levels=3)
    result = toy.learn(settings=LearningSettings.none())
    assert result.report.backward_evaluations == (0,)
    assert result.report.forward_evaluations == (6,)
    for step in result.report.steps:
        assert step.latent_before == step.latent_after
    drawn = initial_parameters({name: value.shape[2:] for name, value in result.parameters.items()}, seed=0)
    for name, value in result.parameters.items():
        assert all(torch.equal(value[0, step], drawn[name]) for step in range(3))


def test_the_loss_falls(make_toy):
    toy = make_toy(images=2, levels=1)
    report = toy.learn(settings=PUBLISHED).report
    (step,) = report.steps
    for before, after in zip(step.latent_before, step.latent_after, strict=True):
        assert after < 0.25 * before


def test_the_loop_is_closed(make_toy):
    """Each step starts where the one before ended, and replaying the learned networks gives the same latents."""
    toy = make_toy(images=2, levels=5)
    seen = {}

    def evaluate_unconditional(latents, level):
        seen[level] = latents.clone()
        return toy.evaluate_unconditional(latents, level)

    result = toy.learn(evaluate_unconditional=evaluate_unconditional, settings=LONG)
    assert torch.equal(seen[5], toy.trajectory[-1])
    assert not torch.equal(seen[4], toy.trajectory[-2])
    latents = toy.trajectory[-1]
    for step, level in enumerate(range(5, 0, -1)):
        torch.testing.assert_close(latents, seen[level], rtol=0, atol=1e-5)
        parameters = {name: value[:, step] for name, value in result.parameters.items()}
        values = value_embeds_of("modulate", mapping_forward(parameters, toy.image_tokens), toy.text_embeds)
        noise = toy.evaluate(latents, level, values, torch.arange(2))[0]
        unconditional = toy.evaluate_unconditional(latents, level)
        latents = toy.step_back(latents, unconditional + 7.5 * (noise - unconditional), level)
    torch.testing.assert_close(latents, result.latents, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(LONG, inner_steps=12, stop_below=0.03, combine=False),
        dataclasses.replace(LONG, inner_steps=6, stop_below=0.05),
        dataclasses.replace(PUBLISHED, inner_steps=12, stop_below=0.05),
    ],
)
def test_a_batch_equals_each_picture_alone(make_toy, settings):
    """Up to rounding, in double precision because Adam amplifies it so much."""
    toy = make_toy(images=3, levels=4, dtype=torch.float64)
    together = toy.learn(settings=settings)
    updates = [step.updates for step in together.report.steps]
    assert any(len(set(row)) > 1 for row in updates)  # some picture stopped before another
    for index in range(3):
        alone = toy.alone(index).learn(settings=settings)
        assert [step.updates[0] for step in alone.report.steps] == [row[index] for row in updates]
        assert alone.report.forward_evaluations == together.report.forward_evaluations[index : index + 1]
        torch.testing.assert_close(alone.latents[0], together.latents[index], rtol=0, atol=1e-9)
        tokens = toy.image_tokens[index].expand(4, -1, -1)
        ours, theirs = (mapping_forward(one, tokens) for one in (alone.image(0), together.image(index)))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_combining_is_never_worse_than_what_it_combines(make_toy):
    toy = make_toy(images=3, levels=1)
    settings = dataclasses.replace(LONG, stop_below=0.0)

    def losses(**changes):
        changed = dataclasses.replace(settings, **changes)
        (step,) = toy.learn(settings=changed).report.steps
        return [sum(pair) for pair in zip(step.latent_after, step.attention_after, strict=True)]

    combined, plain = losses(), [losses(combine=False, inner_steps=count) for count in (1, 2, 3)]
    assert all(
        ours <= other for other_losses in plain for ours, other in zip(combined, other_losses, strict=True)
    )
    assert sum(combined) < 0.9 * sum(plain[-1])


def test_combining_keeps_the_best_where_an_update_harms(make_toy):
    toy = make_toy(levels=1)
    settings = dataclasses.replace(LONG, learning_rate=50.0, stop_below=0.0)
    (step,) = toy.learn(settings=settings).report.steps
    assert step.latent_after[0] + step.attention_after[0] <= step.latent_before[0] + step.attention_before[0]


def test_combination_weights_solve_the_least_squares():
    torch.manual_seed(0)
    residuals = torch.randn(2, 4, 50, dtype=torch.float64)
    weights = combination_weights(residuals)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, dtype=torch.float64))
    for own, residual in zip(weights, residuals, strict=True):
        along = torch.linalg.lstsq((residual[1:] - residual[:1]).T, -residual[0]).solution
        torch.testing.assert_close(own[1:], along, rtol=0, atol=1e-3)  # the ridge
    same = torch.ones(1, 3, 50)  # no direction at all
    torch.testing.assert_close(combination_weights(same), torch.tensor([[1.0, 0.0, 0.0]]))


def test_stopping_on_the_loss_acts_after_the_update(make_toy):
    toy = make_toy(images=2, levels=2)
    result = toy.learn(settings=dataclasses.replace(PUBLISHED, stop_below=1e9))
    assert [step.updates for step in result.report.steps] == [(1, 1), (1, 1)]
    assert [step.forward_evaluations for step in result.report.steps] == [(3, 3), (3, 3)]


def test_stopping_on_the_latent_error_acts_before_the_update(make_toy):
    toy = make_toy(images=2, levels=2)
    result = toy.learn(settings=dataclasses.replace(LONG, stop_below=1e9))
    assert [step.updates for step in result.report.steps] == [(0, 0), (0, 0)]
    assert [step.forward_evaluations for step in result.report.steps] == [(2, 2), (2, 2)]
    assert not any(differentiated for *_, differentiated in toy.calls[1::2]) or len(toy.calls) == 4
    for step in result.report.steps:
        assert step.latent_before == step.latent_after
    for value in result.parameters.values():
        assert torch.equal(value[:, 0], value[:, 1])  # each step starts from a copy of the one before


def test_pictures_that_stopped_are_not_evaluated(make_toy):
    toy = make_toy(images=3, levels=1)
    free = toy.learn(settings=dataclasses.replace(LONG, stop_below=0.0))
    errors = sorted(free.report.steps[0].latent_before)
    toy.calls.clear()
    stop_below = (errors[0] + errors[1]) / 2  # as it starts, one picture is good enough
    result = toy.learn(settings=dataclasses.replace(LONG, stop_below=stop_below))
    (step,) = result.report.steps
    stopped = step.updates.index(0)
    rows = [call[2] for call in toy.calls if call[0] == "conditional"]
    assert rows[0] == [0, 1, 2]
    assert all(stopped not in later for later in rows[1:])
    assert step.forward_evaluations[stopped] == 2


def test_only_the_networks_get_gradients(make_toy):
    toy = make_toy()
    for weight in toy.weights.values():
        weight.requires_grad_()
    result = toy.learn(
        trajectory=toy.trajectory.detach(),
        source_maps=lambda level: [layer.detach() for layer in toy.maps[level]],
    )
    assert all(weight.grad is None for weight in toy.weights.values())
    assert not any(value.requires_grad for value in (*result.parameters.values(), result.latents))


def test_learning_works_inside_no_grad(make_toy):
    toy = make_toy()
    expected = toy.learn()
    with torch.no_grad():
        actual = toy.learn()
    assert torch.equal(actual.latents, expected.latents)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_of_a_half_precision_model_are_float32(make_toy, dtype):
    toy = make_toy(levels=2)

    def evaluate(latents, level, values, rows):
        assert values.dtype == dtype
        noise, maps = toy.evaluate(latents, level, values.float(), rows)
        return noise.to(dtype), [layer.to(dtype) for layer in maps]

    result = toy.learn(evaluate=evaluate, text_embeds=toy.text_embeds.to(dtype))
    assert {value.dtype for value in result.parameters.values()} == {torch.float32}
    expected = toy.learn()
    torch.testing.assert_close(result.latents, expected.latents, rtol=0.1, atol=0.1)


def test_without_attention_loss_no_maps_are_asked_for(make_toy):
    toy = make_toy()

    def source_maps(level):
        raise AssertionError

    result = toy.learn(
        source_maps=source_maps,
        evaluate=lambda *args: (toy.evaluate(*args)[0], []),
        settings=dataclasses.replace(LONG, attention_weight=0.0),
    )
    assert result.report.steps[0].attention_after == (0.0,)


def test_the_attention_loss_brings_the_maps_closer(make_toy):
    toy = make_toy(levels=1)
    settings = dataclasses.replace(PUBLISHED, inner_steps=40, stop_below=0.0, stop_growth=0.0)
    heavy = toy.learn(settings=dataclasses.replace(settings, attention_weight=10.0)).report
    light = toy.learn(settings=dataclasses.replace(settings, attention_weight=1e-6)).report
    assert heavy.steps[0].attention_after < light.steps[0].attention_after


def test_the_report_follows_the_learning(make_toy):
    toy, seen = make_toy(images=2, levels=3), []
    with pytest.warns(UserWarning, match=r"did not converge for picture 0 .* latents is 1e-12 or more"):
        result = toy.learn(settings=dataclasses.replace(LONG, converged_below=1e-12), on_step=seen.append)
    report = result.report
    assert report.steps == tuple(seen)
    assert [(step.step, step.level) for step in seen] == [(0, 3), (1, 2), (2, 1)]
    assert report.converged == (False, False)
    error = (result.latents - toy.trajectory[0]).square().mean(dim=(1, 2, 3))
    assert report.latent_errors == pytest.approx(error.tolist())
    assert report.seconds == sum(step.seconds for step in seen) > 0


@pytest.mark.filterwarnings("error")
def test_a_learning_that_converged_says_nothing(make_toy):
    settings = dataclasses.replace(LONG, converged_below=100.0)
    assert make_toy().learn(settings=settings).report.converged == (True,)


def test_a_loss_that_is_not_finite_is_an_error(make_toy):
    toy = make_toy(images=3)

    def evaluate(latents, level, values, rows):
        noise, maps = toy.evaluate(latents, level, values, rows)
        return torch.where(rows.view(-1, 1, 1, 1) == 1, torch.nan, noise), maps

    with pytest.raises(FloatingPointError, match="loss at step 0 is NaN or infinite for picture 1"):
        toy.learn(evaluate=evaluate)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_gradient_that_is_not_finite_is_an_error(make_toy):
    toy = make_toy()

    def evaluate(latents, level, values, rows):
        noise, maps = toy.evaluate(latents, level, values, rows)
        return noise + (noise - noise).abs().sqrt(), maps  # sqrt at 0

    with pytest.raises(FloatingPointError, match="A gradient of the learning at step 0 is NaN or infinite"):
        toy.learn(evaluate=evaluate)


def test_a_denoiser_without_gradients_is_refused(make_toy):
    toy = make_toy()

    def evaluate(*args):
        with torch.no_grad():
            return toy.evaluate(*args)

    with pytest.raises(ValueError, match="`evaluate` must be differentiable in `value_embeds`"):
        toy.learn(evaluate=evaluate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": torch.zeros(5, 2, 2, 3)}, r"`trajectory` must have shape .* got \(5, 2, 2, 3\)"),
        ({"trajectory": torch.zeros(1, 1, 2, 2, 3)}, r"at least one level, got \(1, 1, 2, 2, 3\)"),
        (
            {"text_embeds": torch.zeros(2, 4, 6)},
            r"`text_embeds` must have shape \(1, tokens, width\), .* \(2, 4, 6\)",
        ),
        ({"image_tokens": torch.zeros(5, 7)}, r"`image_tokens` must have shape \(1, .* got \(5, 7\)"),
        ({"variant": "add"}, "`variant` must be one of modulate, direct, got 'add'"),
        (
            {"source_maps": lambda level: [torch.zeros(1, 2, 3, 5)]},
            r"maps of shapes \[\(1, 2, 3, 4\), .* at level 4, where `source_maps` has \[\(1, 2, 3, 5\)\]",
        ),
    ],
)
def test_arguments_that_disagree_are_refused(make_toy, change, message):
    with pytest.raises(ValueError, match=message):
        make_toy().learn(**change)


def test_what_was_learned_fills_a_network(make_toy, make_network):
    toy = make_toy(levels=3)
    result = toy.learn()
    network = make_network().fill(result.image(0), toy.image_tokens[0], toy.trajectory[:, 0])
    assert torch.equal(network.conv_out_weight[2], result.parameters["conv_out_weight"][0, 2])
    assert network.value_embeds(2, toy.text_embeds).shape == (1, 4, 6)
