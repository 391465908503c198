import dataclasses

import pytest

from semantic_edit.mapping_networks import LearningSettings


def test_published_schedule():
    published = LearningSettings.published()
    assert [published.updates_at(step, 30) for step in (0, 1, 10, 29)] == [100, 91, 37, 6]
    assert sum(published.updates_at(step, 30) for step in range(30)) == 1015
    assert published.learning_rate_at(0) == 1e-2
    assert published.learning_rate_at(29) == pytest.approx(1e-2 * 0.71)
    assert published.stop_below_at(29) == pytest.approx(1e-5 + 2e-5 * 29)


def test_the_shorter_schedules_take_few_updates():
    for settings, expected in (
        (LearningSettings.none(), [0] * 30),
        (LearningSettings.short(), [1] * 30),
        (LearningSettings.long(), [2] * 15 + [4] * 15),
    ):
        assert [settings.updates_at(step, 30) for step in range(30)] == expected


def test_the_rate_never_reaches_zero():
    assert LearningSettings.published().learning_rate_at(250) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_steps": -1}, "`inner_steps` must be an integer from 0 to 100000, got -1"),
        ({"inner_steps": 2.5}, "`inner_steps` must be an integer .* got 2.5"),
        (
            {"late_inner_steps": -1},
            "`late_inner_steps` must be an integer from 0 to 100000, or nothing, got -1",
        ),
        ({"start": "nowhere"}, "`start` must be one of guidance, random, got 'nowhere'"),
        ({"seed": True}, "`seed` must be an integer from 0 to 9223372036854775807, got True"),
        ({"inner_decay": -0.1}, "`inner_decay` must be a number from 0 to 1000, got -0.1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a number above 0 and up to 1000, got 0.0"),
        ({"adam_beta1": 1.0}, "`adam_beta1` must be a number from 0 and below 1, got 1.0"),
        ({"adam_beta2": -0.1}, "`adam_beta2` must be a number from 0 and below 1, got -0.1"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number .* got 'fast'"),
        ({"stop_below": float("nan")}, "`stop_below` must be a number from 0 to .* got nan"),
        ({"stop_on": "time"}, "`stop_on` must be one of loss, latent_error, got 'time'"),
        ({"stop_on": None}, "`stop_on` must be one of"),
        ({"combine": 1}, "`combine` must be True or False, got 1"),
        ({"combine": True, "stop_on": "loss"}, "`combine` needs `stop_on=\"latent_error\"`, got 'loss'"),
        ({"latent_weight": 0, "attention_weight": 0}, "must not both be 0"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LearningSettings(), **change)
