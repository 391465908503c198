"""No step of the loop waits for the GPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks.on_gpu.waits import places_of_waits

pytestmark = pytest.mark.gpu

TARGET = "a green pear on grass"


def test_waits_are_counted():
    assert places_of_waits(lambda: torch.ones(1, device="cuda").item()).total() >= 1
    assert not places_of_waits(lambda: torch.ones(1, device="cuda").add(1))


def test_diffedit_waits_as_often_for_many_steps_as_for_few(on_gpu, pipe, picture):
    moved = on_gpu(pipe)

    def edit(steps):
        return lambda: moved(picture, TARGET, num_inference_steps=steps, output_type="latent")

    edit(5)()
    few, many = (places_of_waits(edit(steps)) for steps in (5, 10))
    assert few == many


def test_stylediffusion_waits_for_no_layer(on_gpu, style_pipe, learned):
    """At most once per step for each of the few values that Python needs for a swap."""
    moved, network = on_gpu(style_pipe), learned.to("cuda")
    try:
        moved(TARGET, network, output_type="latent")
        seen = places_of_waits(lambda: moved(TARGET, network, output_type="latent"))
    finally:
        learned.to("cpu")
    in_layers = [place for place in seen if place.startswith(("attention_processors/control", "models/"))]
    assert not in_layers, seen
