"""Upload a folder to the Hub, in one commit or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.publishing.errors import PublishError

# of requests, httpx or httpx2, whichever this version of huggingface_hub uses
TRANSPORT_ERRORS = HfHubHTTPError.__bases__


def check_repo_id(repo_id: str) -> None:
    """Raise unless `repo_id` is a valid "owner/name".

    Raises:
        PublishError: Saying what the Hub requires.
    """
    if not is_hub_id(repo_id):
        raise PublishError(
            f"{repo_id!r} cannot be a repository on the Hub. Name it owner/name, in letters, digits, '_', '-' and '.'; "
            "neither part begins or ends with '-' or '.', '--' and '..' are not allowed, nor is '.git' at the end."
        )


def upload(folder: Path, repo_id: str, private: bool, message: str, kind: str = "model") -> str:
    """Create the repository if it does not exist, and upload every file of `folder` in one commit.

    The access token is the one that huggingface_hub finds: HF_TOKEN, or that of `hf auth login`.

    Args:
        folder: What to upload.
        repo_id: The repository, "owner/name".
        private: Whether the repository must be private.
        message: The commit's message.
        kind: "model", as the Hub calls every repository of code or weights, or "space".

    Returns:
        The commit's URL.

    Raises:
        PublishError: If there is no token, it may not write there, or the Hub cannot be reached. In each case nothing
            of the folder is visible on the Hub.
    """
    api = HfApi(library_name="diffusers-semantic-edit")
    with _explained(repo_id):
        _check_token(api)
        sdk = "gradio" if kind == "space" else None
        api.create_repo(repo_id, private=private or None, exist_ok=True, repo_type=kind, space_sdk=sdk)
        if private and not api.repo_info(repo_id, repo_type=kind).private:
            raise PublishError(
                f"{repo_id} already exists and is public, so --private has no effect. Make it private on the Hub, or "
                "name another repository."
            )
        # `upload_folder` may split a folder over several commits
        additions = _additions(folder)
        return api.create_commit(repo_id, additions, commit_message=message, repo_type=kind).commit_url


def _check_token(api: HfApi) -> None:
    """Ask the Hub whose token it is."""
    try:
        api.whoami()
    except OSError as error:
        # before huggingface_hub 1.0, an error of requests that the Hub's refusal caused
        if isinstance(error.__cause__, HfHubHTTPError):
            raise error.__cause__ from None
        raise


def _additions(folder: Path) -> list[CommitOperationAdd]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Turn the Hub's answers into words for users; none of them contains a token."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PublishError(
            "No access token was found. Log in with `hf auth login`, or set HF_TOKEN; it needs write access."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        reasons = {
            401: "the access token is not valid; log in again with `hf auth login`, or set HF_TOKEN",
            403: f"the access token may not write to {repo_id}; use one with write access to its owner",
        }
        reason = reasons.get(status, f"the Hub answered {status}: {error.server_message or error}")
        raise PublishError(f"Nothing was published: {reason}.") from error
    except (
        *TRANSPORT_ERRORS,
        OSError,
        RuntimeError,
    ) as error:  # RuntimeError: the upload of a file was finally given up
        raise PublishError(
            f"Nothing was published: the connection to the Hub failed ({type(error).__name__}: {error}). Try again."
        ) from error
