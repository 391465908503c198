from types import SimpleNamespace

import pytest

from semantic_edit.disk.fitting import (
    check_agrees,
    compared_if_known,
    compared_models,
    compared_schedules,
    compared_sizes,
    listed_differences,
)

SCHEDULE = SimpleNamespace(num_inference_steps=10, prediction_type="epsilon", fingerprint="ab")


def test_what_agrees_passes():
    check_agrees("trajectory", [("model", "ab", "ab"), ("latent shape", (4, 8, 8), (4, 8, 8))], "Try again.")


def test_each_difference_is_listed_with_both_values_and_the_hint():
    compared = [("steps", 3, 50), ("model", "ab", "ab"), ("text width", 6, 768)]
    message = (
        r"The `mapping_network` does not fit this call \(steps: mapping network 3, this call 50; "
        r"text width: mapping network 6, this call 768\)\. Learn it again\."
    )
    with pytest.raises(ValueError, match=message):
        check_agrees("mapping_network", compared, "Learn it again.")


def test_long_values_are_shortened_but_compared_whole():
    listed = listed_differences("checkpoint", [("prompt", "a" * 99 + "b", "a" * 99 + "c")], quoted=True)
    assert listed == f"prompt: checkpoint '{'a' * 56}..., this call '{'a' * 56}..."


@pytest.mark.parametrize(
    ("own", "differing"),
    [
        ((10, "epsilon", "ab"), set()),
        ((10, "epsilon", "cd"), {"noise schedule"}),
        ((20, "epsilon", "cd"), {"`num_inference_steps`"}),  # which explains the fingerprint
        ((10, "sample", "cd"), {"prediction_type"}),
        ((20, "sample", "ab"), {"`num_inference_steps`", "prediction_type"}),
    ],
)
def test_a_schedules_fingerprint_speaks_where_nothing_plainer_does(own, differing):
    assert {what for what, old, new in compared_schedules(own, SCHEDULE) if old != new} == differing


@pytest.mark.parametrize(
    ("own", "wanted", "compared"),
    [
        ("ab", "cd", [("model", "ab", "cd")]),
        ("ab+12+34", "ab+56", [("model", "ab", "ab")]),  # adapters
        ("", "cd", []),
        ("ab", "", []),
        ("+12", "cd", []),
    ],
)
def test_models_are_compared_without_adapters_where_both_are_known(own, wanted, compared):
    assert compared_models("model", own, wanted) == compared


def test_what_the_call_does_not_know_is_not_compared():
    assert compared_if_known("VAE scaling factor", 0.18, None) == []
    assert compared_if_known("VAE scaling factor", 0.18, 0.0) == [("VAE scaling factor", 0.18, 0.0)]


def test_sizes_are_compared_name_by_name_if_both_are_known():
    own, wanted = {"a": (1, 2), "b": [3, 4]}, {"b": (3, 4), "a": (1, 3)}
    assert compared_sizes(own, wanted) == [("`a`", (1, 2), (1, 3)), ("`b`", (3, 4), (3, 4))]
    assert compared_sizes(own, {"b": (3, 4)})[0] == ("`a`", (1, 2), ())
    assert compared_sizes(own, {}) == compared_sizes({}, wanted) == []
