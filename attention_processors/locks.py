"""One lock for each network or tokenizer, which all threads and all copies of this code find."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

import diffusers


def lock_of(owner: Any) -> AbstractContextManager[object]:
    """The lock to hold while `owner` is changed, or while its state is used; the same thread may take it again.

    It lives beside `owner`, in no copy, pickle or state dict of it, and is found through diffusers: a pipeline's file
    that is loaded once more is another module with classes of its own.

    Args:
        owner: A network, wrapped by `torch.compile` or not, or a tokenizer.
    """
    locks = vars(diffusers).setdefault("_semantic_edit_locks", WeakKeyDictionary())
    return locks.setdefault(getattr(owner, "_orig_mod", owner), threading.RLock())
