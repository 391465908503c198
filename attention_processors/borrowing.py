"""Change a network temporarily: only for one's own evaluations, and undone wherever the block is interrupted."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch.utils.checkpoint import checkpoint

from semantic_edit.attention_processors.changes import Changes


class _Here(threading.local):
    """The state of each thread.

    acts: Whether the thread is inside an evaluation started by the borrower.
    recomputes: Whether the thread is computing part of such an evaluation again, for a backward pass.
    """

    acts = False
    recomputes = False


class BorrowedNetwork(Changes):
    """A network whose attributes may be replaced until the block ends; it is called like the network itself.

    Stand-ins act only in calls of the borrowed network. Whoever calls the network itself in the meantime, from another
    thread or from a callback, gets the same result as if it had not been borrowed. The network runs uncompiled, because
    compiled graphs would not see the stand-ins and would have to be rebuilt for each of them.

        with lock_of(unet), BorrowedNetwork(unet) as borrowed, controlled_attention(borrowed) as control:
            borrowed(latents, timestep, text)

    The lock is a separate item because an interrupt may cut off any `__exit__` that is not written in C.

    Attributes:
        network: The network itself, without the wrapper of `torch.compile`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = getattr(network, "_orig_mod", network)
        self._here = _Here()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the network with all stand-ins active."""
        with self._acting():
            return self.network(*args, **kwargs)

    @property
    def acts(self) -> bool:
        """Whether this thread is currently inside an evaluation started by the borrower."""
        return self._here.acts

    @property
    def recomputes(self) -> bool:
        """Whether this thread is computing part of such an evaluation again, for a backward pass."""
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
        """Turn on gradient checkpointing for a block that supports it, in the borrower's evaluations only."""
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
    """Takes the place of a callable for a while. Copying or pickling it yields the callable itself."""

    def __init__(self, borrowed: BorrowedNetwork, usual: Callable[..., Any]) -> None:
        self.borrowed, self.usual = borrowed, usual

    def __reduce__(self) -> tuple[Any, ...]:
        return copy.copy, (self.usual,)


class _Checkpoint(StandIn):
    """A block's checkpoint function. The backward pass may recompute the block in another thread."""

    def __call__(self, block: Callable[..., Any], *args: Any) -> Any:
        if not self.borrowed.acts:
            return self.usual(block, *args)
        return checkpoint(block, *args, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The contexts for the block's first run and for its second."""
        return nullcontext(), self.borrowed._acting(recomputes=True)


def _called(block: Callable[..., Any], *args: Any) -> Any:
    return block(*args)


@contextmanager
def recomputed_blocks(borrowed: BorrowedNetwork) -> Iterator[None]:
    """Keep only the inputs of the network's blocks for the backward pass, which then computes the rest again."""
    with borrowed.changes():
        for module in borrowed.network.modules():
            if hasattr(module, "gradient_checkpointing"):
                borrowed.recompute(module)
        yield


@contextmanager
def frozen(borrowed: BorrowedNetwork) -> Iterator[None]:
    """Let no parameter require gradients during the block, whoever calls the network."""
    module = borrowed.network
    asked = {name for name, parameter in module.named_parameters() if parameter.requires_grad}

    def thaw() -> None:
        for name, parameter in module.named_parameters():  # looked up anew: offloading replaces them
            if name in asked:
                parameter.requires_grad_(True)

    with borrowed.changes():
        borrowed.undo_by(thaw)
        module.requires_grad_(False)
        yield
