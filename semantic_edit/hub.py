"""Access to the Hub: only when it is needed, and with one sentence if it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class HubUnreachable(OSError):
    """There is no connection to the Hub, and what was asked for is not in the local cache."""


@contextmanager
def network_unless(is_local: bool) -> Iterator[None]:
    """Keep the Hub's client from using the network in the block if what is loaded is local, or there is no connection.

    `local_files_only` alone is not enough: the client still asks the Hub which program may have started it. Without a
    connection, the client would retry for half a minute before it looks into its cache.

    Raises:
        HubUnreachable: If there is no connection, and something is not in the cache.
    """
    from huggingface_hub import constants

    is_cut_off = not (is_local or constants.HF_HUB_OFFLINE or _is_hub_reachable())
    if not (is_local or is_cut_off):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except Exception as error:
        if is_cut_off and any(isinstance(cause, _uncached()) for cause in _causes(error)):
            raise HubUnreachable(
                f"The Hub cannot be reached, and not everything is in the local cache ({error})"
            ) from error
        raise
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_hub_reachable() -> bool:
    """Whether the Hub answers anything to a single request, which waits as long as one of the client's own."""
    from huggingface_hub import constants, utils

    try:
        utils.get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (OSError, _unreachable()):
        return False
    return True


def _unreachable() -> type[Exception]:
    """The client's error for a failed request: of requests, httpx or httpx2, depending on the version of the client."""
    from huggingface_hub import errors

    answered = errors.HfHubHTTPError
    return answered.__mro__[answered.__mro__.index(OSError) - 1]


def _uncached() -> tuple[type[Exception], ...]:
    """The client's errors for what is not in the local cache."""
    from huggingface_hub import errors

    return (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)


def reason_for(error: BaseException, name: str) -> str:
    """Why something could not be loaded, in one sentence.

    Args:
        name: The folder or the Hub id that was asked for.
    """
    from huggingface_hub import errors

    answered, uncached = errors.HfHubHTTPError, _uncached()
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
    if has(HubUnreachable) or has(_unreachable()):
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
