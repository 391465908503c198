"""The processes that work together, as accelerate started them: which one this is, and which part is its own.

They talk to each other once, at the start. From then on each works alone, and none waits for one that has died.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

Part = TypeVar("Part")


@dataclass(frozen=True)
class Team:
    """The processes of one start, and this one among them.

    index: This process's number, from 0, over all machines.
    size: The number of processes.
    token: The same for all processes of one start, and another at the next.
    device: Where this process computes, unless its user chooses.
    """

    index: int = 0
    size: int = 1
    token: str = ""
    device: str | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that reports for all of them."""
        return self.index == 0

    def share(self, parts: Sequence[Part]) -> list[Part]:
        """Every part whose number is this process's, counted in turns."""
        return list(parts[self.index :: self.size])


ALONE = Team()


def join_team(on_cpu: bool = False) -> Team:
    """The team that `accelerate launch`, torchrun or the like started this process in; of one, if nothing did.

    Args:
        on_cpu: Whether to compute on CPUs even if there are accelerators.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    on_cpu = on_cpu or not torch.accelerator.is_available()
    # gloo needs no network between GPUs; what it carries is one token
    known = {"backend": "gloo"} if on_cpu or torch.cuda.is_available() else {}
    state = PartialState(cpu=on_cpu, **known)
    index, size, device = state.process_index, state.num_processes, str(state.device)
    token = [os.urandom(8).hex()]
    broadcast_object_list(token)
    state.destroy_process_group()  # a process that ends must not be missed by another
    return Team(index, size, token[0], device)
