from __future__ import annotations

import copy
import gc
import importlib.util
import pickle
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
import torch

from semantic_edit.attention_processors import locks
from semantic_edit.attention_processors.locks import lock_of


def loaded_again() -> ModuleType:
    """Load a second copy of the module, as diffusers does with a custom pipeline's file."""
    spec = importlib.util.spec_from_file_location("another_copy", locks.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_network_has_one_lock_in_all_copies_of_the_code_and_threads(make_unet, tokenizer):
    unets = [make_unet(), make_unet()]
    other = loaded_again()
    for owner in (*unets, tokenizer):
        assert other.lock_of is not lock_of
        assert other.lock_of(owner) is lock_of(owner)
    assert len({id(lock_of(owner)) for owner in (*unets, tokenizer)}) == 3
    unet = make_unet()
    with ThreadPoolExecutor(8) as pool:
        assert len({id(lock) for lock in pool.map(lambda _: lock_of(unet), range(100))}) == 1


def test_a_compiled_network_has_the_lock_of_the_network(make_unet):
    unet = make_unet()
    assert lock_of(torch.compile(unet)) is lock_of(unet)


def test_the_thread_that_holds_it_may_take_it_again_and_others_wait(make_unet):
    unet = make_unet()
    with lock_of(unet), lock_of(unet), ThreadPoolExecutor(1) as pool:
        assert not pool.submit(lock_of(unet).acquire, blocking=False).result()  # type: ignore[attr-defined]


def test_waiting_for_it_can_be_interrupted(make_unet):
    unet, taken, done = make_unet(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock_of(unet):
            taken.set()
            done.wait(20)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hold)
            taken.wait(20)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt), lock_of(unet):
                raise AssertionError("another thread holds it")
            done.set()
    finally:
        signal.signal(signal.SIGALRM, usual)


def test_it_is_in_no_copy_and_keeps_nothing_alive(make_unet):
    unet = make_unet()
    before = dict(vars(unet))
    with lock_of(unet):
        assert vars(unet) == before
        copies = [copy.deepcopy(unet), pickle.loads(pickle.dumps(unet))]
        assert all(lock_of(one) is not lock_of(unet) for one in copies)
    gone = weakref.ref(copies.pop())
    gc.collect()
    assert gone() is None
