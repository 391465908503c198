from math import prod

import pytest
import torch
from torch import nn

from semantic_edit.mapping_networks.mapping import (
    initial_parameters,
    mapping_forward,
    parameter_shapes,
    value_embeds_of,
)


def plain_network(variant, text_tokens, text_width, image_tokens, image_width):
    """The published layers, written plainly; BatchNorm in train mode with batch 1."""
    hidden = 2 * text_tokens
    return nn.Sequential(
        *([nn.Linear(image_width, text_width)] if image_width != text_width else []),
        nn.Conv1d(image_tokens, hidden, 1),
        nn.Conv1d(hidden, hidden, 1),
        nn.BatchNorm1d(hidden),
        nn.LeakyReLU(),
        nn.Conv1d(hidden, hidden if variant == "modulate" else text_tokens, 1),
    )


def parameters_of(plain, shapes):
    """A plain network's parameters under our names: both list the layers from the first to the last."""
    values = [
        value.detach().view(shape) for value, shape in zip(plain.parameters(), shapes.values(), strict=True)
    ]
    return dict(zip(shapes, values, strict=True))


def test_published_size():
    def count(*sizes):
        return sum(prod(shape) for shape in parameter_shapes(*sizes).values())

    assert count("modulate", 77, 768, 197, 768) == 78_540
    assert count("modulate", 77, 1024, 197, 768) == 78_540 + 1024 * 768 + 1024
    assert count("direct", 77, 768, 197, 768) == 78_540 - 77 * 154 - 77


@pytest.mark.parametrize("variant", ["modulate", "direct"])
@pytest.mark.parametrize("image_width", [6, 7])
def test_equals_the_plain_layers(variant, image_width):
    sizes = (variant, 4, 6, 5, image_width)
    torch.manual_seed(0)
    plain = [plain_network(*sizes).double() for _ in range(3)]
    with torch.no_grad():
        for layer in (layer for network in plain for layer in network if isinstance(layer, nn.BatchNorm1d)):
            layer.weight.normal_()
            layer.bias.normal_()
    tokens = torch.randn(3, 5, image_width, dtype=torch.float64)
    listed = [parameters_of(network, parameter_shapes(*sizes)) for network in plain]
    stacked = {name: torch.stack([parameters[name] for parameters in listed]) for name in listed[0]}
    actual = mapping_forward(stacked, tokens)
    expected = torch.cat([network(tokens[index : index + 1]) for index, network in enumerate(plain)])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("image_width", [6, 7])
def test_starts_as_the_framework_does(image_width):
    sizes = ("modulate", 4, 6, 5, image_width)
    torch.manual_seed(3)
    expected = parameters_of(plain_network(*sizes), parameter_shapes(*sizes))
    drawn = initial_parameters(parameter_shapes(*sizes), seed=3)
    assert list(drawn) == list(expected)
    assert all(torch.equal(drawn[name], expected[name]) for name in drawn)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    initial_parameters(parameter_shapes("modulate", 4, 6, 5, 7), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_values_modulate_or_replace_the_text():
    mapped, text = torch.randn(1, 8, 6), torch.randn(3, 4, 6)
    modulated = value_embeds_of("modulate", mapped, text)
    assert torch.equal(modulated, text * mapped[:, :4] + mapped[:, 4:])
    assert torch.equal(value_embeds_of("direct", mapped[:, :4], text), mapped[:, :4].expand(3, 4, 6))


@pytest.mark.parametrize("variant", ["modulate", "direct"])
def test_values_are_computed_in_float32_and_cast_last(variant):
    shapes = parameter_shapes(variant, 4, 6, 5, 7)
    parameters = {name: value.unsqueeze(0) for name, value in initial_parameters(shapes, 0).items()}
    tokens, text = torch.randn(1, 5, 7), torch.randn(2, 4, 6, dtype=torch.float16)
    expected = mapping_forward(parameters, tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mapped = mapping_forward(parameters, tokens)
    assert torch.equal(mapped, expected)
    values = value_embeds_of(variant, mapped, text)
    assert values.dtype == torch.float16
    assert torch.equal(values, value_embeds_of(variant, mapped, text.float()).half())
