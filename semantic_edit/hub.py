"""Access to the Hub: only when it is needed, and with one sentence if it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def network_unless(is_local: bool) -> Iterator[None]:
    """Keep the Hub's client from using the network in the block if what is loaded is local.

    `local_files_only` alone is not enough: the client still asks the Hub which program may have started it.
    """
    if not is_local:
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def reason_for(error: BaseException, name: str) -> str:
    """Why something could not be loaded, in one sentence.

    Args:
        name: The folder or the Hub id that was asked for.
    """
    from huggingface_hub import errors

    answered = errors.HfHubHTTPError
    # from requests, httpx or httpx2, whichever this version of huggingface_hub uses
    unreachable = answered.__mro__[answered.__mro__.index(OSError) - 1]
    uncached = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)
    causes = list(_causes(error))
    is_uncached = any(isinstance(cause, uncached) for cause in causes)
    # in older versions, the error about the cache is also one of an answer
    others = [cause for cause in causes if not isinstance(cause, uncached)]

    def has(kind: type) -> bool:
        return any(isinstance(cause, kind) for cause in others)

    if has(errors.GatedRepoError):
        terms = f"https://huggingface.co/{name}"
        return f"accept its terms first, at {terms}, and log in with: hf auth login"
    if has(errors.RepositoryNotFoundError):
        return "the Hub has no such repository, or it is private and you must log in with: hf auth login"
    if has(errors.EntryNotFoundError):
        return str(error)  # which names the file
    if has(answered):
        response = next(cause.response for cause in others if isinstance(cause, answered))
        return f"the Hub answered with error {getattr(response, 'status_code', '')}; try again later"
    if has(unreachable):
        return "the Hub cannot be reached, and it is not in the local cache"
    if is_uncached:
        return "it is not in the local cache"
    if "meta tensor" in str(error):  # what diffusers leaves in place of a missing tensor
        return "its files lack some of its tensors"
    text = " ".join(str(error).split()).replace(f"{name!r} ", "it ", 1)
    text = text if " " in text else f"{type(error).__name__}: {text}"  # a KeyError gives only a name
    return text if len(text) <= 400 else f"{text[:397]}..."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
