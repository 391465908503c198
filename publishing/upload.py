"""Send a folder to the Hub, in one commit or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from semantic_edit.disk.hub_ids import is_hub_id
from semantic_edit.publishing.errors import PublishError

# of requests, httpx or httpx2, whichever this version of huggingface_hub stands on
TRANSPORT_ERRORS = HfHubHTTPError.__bases__


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no "owner/name".

    Raises:
        PublishError: With the Hub's rule.
    """
    if not is_hub_id(repo_id):
        raise PublishError(
            f"{repo_id!r} cannot be a repository on the Hub. Name it owner/name, in letters, digits, '_', '-' and '.'; "
            "neither part begins or ends with '-' or '.', '--' and '..' are not allowed, nor is '.git' at the end."
        )


def upload(folder: Path, repo_id: str, private: bool, message: str) -> str:
    """Make the repository if there is none, and send every file of `folder` in one commit.

    The token is the one that huggingface_hub finds: HF_TOKEN, or that of `hf auth login`.

    Returns:
        The commit's address.

    Raises:
        PublishError: If there is no token, it may not write there, or the Hub does not answer. Then nothing of the
            folder is visible on the Hub.
    """
    api = HfApi(library_name="diffusers-semantic-edit")
    with _explained(repo_id):
        api.whoami()
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise PublishError(
                f"{repo_id} is already there and public, so --private would not hold. Make it private on the Hub, or "
                "name another repository."
            )
        # `upload_folder` may make several commits of one folder
        return api.create_commit(repo_id, _additions(folder), commit_message=message).commit_url


def _additions(folder: Path) -> list[CommitOperationAdd]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]


@contextmanager
def _explained(repo_id: str) -> Iterator[None]:
    """Say in words for users what the Hub answers; a token stands in none of its answers."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PublishError(
            "There is no access token. Log in with `hf auth login`, or set HF_TOKEN; it needs write access."
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
    ) as error:  # the last is a file's upload, at last given up
        raise PublishError(
            f"Nothing was published: the connection to the Hub failed ({type(error).__name__}: {error}). Try again."
        ) from error
