"""Change a network for a while: for one's own evaluations alone, and undone wherever the block is cut off."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch.utils.checkpoint import checkpoint

from semantic_edit.attention_processors.changes import Changes


class _Here(threading.local):
    """What is so in each thread by itself.

    acts: Whether it is in an evaluation of the borrower's.
    recomputes: Whether it goes through one again.
    """

    acts = False
    recomputes = False


class BorrowedNetwork(Changes):
    """A network whose attributes may be replaced until the block ends; called like the network.

    Stand-ins act in such calls only. Whoever calls the network itself meanwhile, from another thread or from a
    callback, is answered as if it had not been borrowed. It runs uncompiled: graphs see no stand-ins, and would be made
    anew for each.

        with lock_of(unet), BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
            borrowed(latents, timestep, text)

    The lock is an item of its own, because an interrupt may cut off anything but C's own `__exit__`.

    Attributes:
        network: The network itself, without `torch.compile`'s wrapper.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = getattr(network, "_orig_mod", network)
        self._here = _Here()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the network with all that was put in."""
        with self._acting():
            return self.network(*args, **kwargs)

    @property
    def acts(self) -> bool:
        """Whether what runs in this thread is an evaluation of the borrower's, not somebody else's."""
        return self._here.acts

    @property
    def recomputes(self) -> bool:
        """Whether it is one that a backward pass goes through once more, under gradient checkpointing."""
        return self._here.recomputes

    def __enter__(self) -> BorrowedNetwork:
        try:
            for module in self.network.modules():
                if vars(module).get("_compiled_call_impl") is not None:
                    self.replace(module, "_compiled_call_impl", None)
                if getattr(module, "gradient_checkpointing", False):
                    self.recompute(module)
            return self
        except BaseException:
            self._undo()
            raise

    def recompute(self, module: Any) -> None:
        """Let a block that can be checkpointed be so, in evaluations of the borrower's."""
        usual = module._gradient_checkpointing_func if module.gradient_checkpointing else _called
        self.replace(module, "_gradient_checkpointing_func", _Checkpoint(self, usual))
        self.replace(module, "gradient_checkpointing", True)

    @contextmanager
    def _acting(self, recomputes: bool = False) -> Iterator[None]:
        before = self._here.acts, self._here.recomputes
        try:
            self._here.acts, self._here.recomputes = True, recomputes
            yield
        finally:
            self._here.acts, self._here.recomputes = before


class StandIn:
    """What is in the place of a callable for a while. A copy or a pickle of it is that callable."""

    def __init__(self, borrowed: BorrowedNetwork, usual: Callable[..., Any]) -> None:
        self.borrowed, self.usual = borrowed, usual

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self.usual,)


class _Checkpoint(StandIn):
    """A block's checkpoint function. The backward pass may go through the block in a thread of its own."""

    def __call__(self, block: Callable[..., Any], *args: Any) -> Any:
        if not self.borrowed.acts:
            return self.usual(block, *args)
        return checkpoint(block, *args, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For the block's first run and for its second."""
        return nullcontext(), self.borrowed._acting(recomputes=True)


def _called(block: Callable[..., Any], *args: Any) -> Any:
    return block(*args)


@contextmanager
def recomputed_blocks(borrowed: BorrowedNetwork) -> Iterator[None]:
    """Keep for the backward pass what goes into each of the network's blocks, and compute the rest of it twice."""
    with borrowed.changes():
        for module in borrowed.network.modules():
            if hasattr(module, "gradient_checkpointing"):
                borrowed.recompute(module)
        yield


@contextmanager
def frozen(borrowed: BorrowedNetwork) -> Iterator[None]:
    """Let no parameter ask for gradients in the block, whoever calls the network."""
    module = borrowed.network
    asked = {name for name, parameter in module.named_parameters() if parameter.requires_grad}

    def thaw() -> None:
        for name, parameter in module.named_parameters():  # others than before, where weights are offloaded
            if name in asked:
                parameter.requires_grad_(True)

    with borrowed.changes():
        borrowed.undo_by(thaw)
        module.requires_grad_(False)
        yield
