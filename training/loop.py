"""A training loop that survives being killed: it goes on from its last checkpoint as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from semantic_edit.disk.writing import write_file

# What a loss function gets: the step's own random generator (on the CPU). It returns the loss and figures to log.
LossFunction = Callable[[torch.Generator], tuple[torch.Tensor, dict[str, float]]]


@dataclass(frozen=True)
class LoopSettings:
    """How a stage trains. ema_decay: the weight of the past in the averaged weights, which are the result."""

    steps: int
    learning_rate: float
    warmup: int = 200
    final_rate: float = 0.02  # of learning_rate, at the end of the cosine
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    checkpoint_every: int = 500
    log_every: int = 100
    seed: int = 0

    def lasting(self, steps: int | None) -> LoopSettings:
        """The same settings for another number of steps; None keeps the number."""
        return self if steps is None else replace(self, steps=steps)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def keep_freed_memory() -> None:
    """Start this process again with a C library that keeps freed memory instead of returning it to the system.

    On the CPU, returning it made a training step three to six times slower. Other systems ignore the settings.
    """
    settings = {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "268435456",
        "MALLOC_ARENA_MAX": "1",
    }
    if sys.platform == "linux" and not torch.cuda.is_available() and "MALLOC_ARENA_MAX" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **settings})


def train(
    module: nn.Module, loss_function: LossFunction, settings: LoopSettings, folder: Path
) -> dict[str, float]:
    """Train `module` in place and leave the averaged weights in it; returns the last logged figures.

    Checkpoints and the log live in `folder`. Each step draws from a generator seeded by the step's number, so a run
    that was killed and started again takes the same steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = _State(module, settings)
    checkpoint = folder / "checkpoint.safetensors"
    step = state.load(checkpoint) if checkpoint.exists() else 0
    sums: dict[str, float] = {}
    started, first, figures = time.monotonic(), step, {}
    module.train()
    while step < settings.steps:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        for group in state.optimizer.param_groups:
            group["lr"] = _rate(step, settings)
        loss, logged = loss_function(generator)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(state.parameters, 1.0)
        state.optimizer.step()
        state.update_average(step)
        step += 1
        for name, value in {"loss": loss.detach().item(), **logged}.items():
            sums[name] = sums.get(name, 0.0) + value
        if step % settings.log_every == 0 or step == settings.steps:
            taken = (
                (step - 1) % settings.log_every + 1 if step - first >= settings.log_every else step - first
            )
            figures = {name: round(total / taken, 6) for name, total in sums.items()}
            pace = (time.monotonic() - started) / (step - first)
            _log(folder, {"step": step, "of": settings.steps, "seconds_a_step": round(pace, 4), **figures})
            sums = {}
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            state.save(checkpoint, step)
    state.adopt_average()
    module.eval()
    return figures


def _rate(step: int, settings: LoopSettings) -> float:
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (settings.final_rate + (1 - settings.final_rate) * cosine)


def _log(folder: Path, row: dict[str, float]) -> None:
    line = json.dumps(row)
    print(f"{folder.name}: {line}", flush=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(line + "\n")


class _State:
    """The parameters being trained, their moving average and the optimizer, as one thing that saves and loads."""

    def __init__(self, module: nn.Module, settings: LoopSettings) -> None:
        named = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
        self.names, self.parameters = [name for name, _ in named], [value for _, value in named]
        self.averages = [value.detach().clone() for value in self.parameters]
        self.decay = settings.ema_decay
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.averages, [value.detach() for value in self.parameters], 1 - decay)

    @torch.no_grad()
    def adopt_average(self) -> None:
        for value, average in zip(self.parameters, self.averages, strict=True):
            value.copy_(average)

    def save(self, path: Path, step: int) -> None:
        tensors = {"step": torch.tensor(step)}
        for name, value, average in zip(self.names, self.parameters, self.averages, strict=True):
            moments = self.optimizer.state[value]
            tensors[f"value/{name}"], tensors[f"average/{name}"] = value.detach(), average
            tensors[f"first/{name}"], tensors[f"second/{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
        write_file(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))

    @torch.no_grad()
    def load(self, path: Path) -> int:
        with safe_open(path, framework="pt") as stored:
            step = int(stored.get_tensor("step"))
            for name, value, average in zip(self.names, self.parameters, self.averages, strict=True):
                value.copy_(stored.get_tensor(f"value/{name}"))
                average.copy_(stored.get_tensor(f"average/{name}"))
                self.optimizer.state[value] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": stored.get_tensor(f"first/{name}").to(value.device),
                    "exp_avg_sq": stored.get_tensor(f"second/{name}").to(value.device),
                }
        return step
