"""One lock for each network or tokenizer, shared by all threads and all copies of this code."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import diffusers


def lock_of(owner: Any) -> AbstractContextManager[object]:
    """The lock to hold while changing `owner` or relying on its state; a thread that holds it may take it again.

    The lock is kept outside `owner`, so no copy, pickle or state dict contains it. It is found through diffusers
    because a pipeline's file that is loaded again becomes a new module with classes and globals of its own.

    Args:
        owner: A network, wrapped by `torch.compile` or not, or a tokenizer.
    """
    locks = vars(diffusers).setdefault("_semantic_edit_locks", WeakKeyDictionary())
    return locks.setdefault(getattr(owner, "_orig_mod", owner), threading.RLock())
