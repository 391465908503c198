from __future__ import annotations

import pytest
import torch

from benchmarks.growth import STAGES, Setting, grown, line, stages
from benchmarks.memory import peak_bytes

CPU = torch.device("cpu")


def test_the_peak_is_of_what_lives_at_once():
    mib = 2**20

    def run() -> None:
        for _ in range(3):
            held = torch.zeros(mib // 4)
            more = torch.zeros(mib // 4)
            del held, more

    assert peak_bytes(run, CPU) == pytest.approx(2 * mib, rel=0.01)


def test_stages_evaluate_what_they_are_named_for(pipe, counted):
    seen = {}
    for name, run in stages(pipe, Setting(64, maps=2, batch=2, steps=5)).items():
        counted.samples = 0
        run()
        seen[name] = counted.samples
    assert seen == {"mask": 8, "inversion": 4, "decoding": 16, "VAE": 0}


def test_a_batch_takes_more_memory(pipe):
    one, two = (stages(pipe, Setting(64, maps=1, batch=batch, steps=2)) for batch in (1, 4))
    for name in STAGES:
        assert peak_bytes(two[name], CPU) > peak_bytes(one[name], CPU)


def test_one_thing_grows_at_a_time(pipe):
    start = Setting(64, maps=1, steps=2)
    settings = list(grown(start, (64, 128), (1, 2), (1, 2)))
    assert settings == [start, Setting(128, 1, 1, 2), Setting(64, 2, 1, 2), Setting(64, 1, 2, 2)]
    assert line(pipe, start, repeats=1).startswith("| 64 px, n = 1, batch 1, S = 2 | ")
