from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.loop import LoopSettings, train

SETTINGS = LoopSettings(steps=24, learning_rate=1e-2, warmup=4, checkpoint_every=8, log_every=8)


class Killed(Exception):
    pass


def _fit(folder: Path, kill_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    layer, taken = nn.Linear(3, 1), 0

    def loss(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal taken
        taken += 1
        if taken == kill_at:
            raise Killed
        points = torch.randn(16, 3, generator=generator)
        return (layer(points) - points.sum(dim=1, keepdim=True)).square().mean(), {}

    train(layer, loss, SETTINGS, folder)
    return layer


def test_a_killed_run_ends_with_the_same_weights(tmp_path: Path):
    whole = _fit(tmp_path / "whole")
    with pytest.raises(Killed):
        _fit(tmp_path / "killed", kill_at=14)
    resumed = _fit(tmp_path / "killed")
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_a_finished_run_takes_no_more_steps(tmp_path: Path):
    first = _fit(tmp_path)
    again = _fit(tmp_path, kill_at=1)  # would raise at the first step
    assert torch.equal(first.weight, again.weight)


def test_training_learns_and_logs(tmp_path: Path):
    _fit(tmp_path)
    rows = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(rows) == 3
    losses = [float(row.split('"loss": ')[1].split("}")[0].split(",")[0]) for row in rows]
    assert losses[-1] < losses[0]
