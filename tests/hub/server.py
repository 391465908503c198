"""A Hugging Face Hub on 127.0.0.1, for tests to push to and pull from with the real client.

Files travel through plain LFS: the server never announces Xet. A client that has `hf_xet` uses it by default, so
its process needs HF_HUB_DISABLE_XET=1, which `HubServer.environment` sets.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from tests.hub.endpoints import Account, Hub, Reply, in_json
from tests.hub.repositories import Commit, Repository, StoredFile, goes_to_lfs

Outcome = int | Literal["disconnect", "lost"]


class Request(NamedTuple):
    """authorised: Whether it carried a token that the Hub knows; the token itself is kept nowhere."""

    method: str
    path: str
    authorised: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Failure:
    matches: Callable[[Request], bool]
    outcome: Outcome
    times: int


class HubServer:
    """A server that runs inside its context.

    Args:
        home: The folder that `environment` names as HF_HOME.
        tokens: The accounts, by token.

    Attributes:
        requests: Every request that came in, oldest first.
        connections: Open connections, including those that clients keep for their next request.
    """

    def __init__(self, home: Path, tokens: Mapping[str, Account]) -> None:
        self.home = home
        self.requests: list[Request] = []
        self.connections: set[socket.socket] = set()
        self._failures: dict[str | Callable[[Request], bool], Failure] = {}
        self._lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        self._hub = Hub(self.endpoint, dict(tokens))

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        for connection in list(self.connections):
            shut(connection)

    def environment(self, token: str | None = None) -> dict[str, str]:
        """The whole environment of a process that knows this Hub and no other, and has this token or none."""
        other = re.compile(r"HF_|HUGGING_?FACE|TRANSFORMERS_(OFFLINE|CACHE)|.*_PROXY$", re.IGNORECASE)
        environment = {name: value for name, value in os.environ.items() if not other.match(name)}
        environment |= {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.home), "NO_PROXY": "127.0.0.1"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return environment if token is None else {**environment, "HF_TOKEN": token}

    def add_repo(
        self, repo_id: str, files: Mapping[str, bytes], private: bool = False, repo_type: str = "model"
    ) -> Commit:
        """Create a repository with `files` in one commit, after the initial one that the Hub makes in each."""
        with self._lock:
            repository = self._hub.create(repo_id, f"{repo_type}s", private)
            stored = {path: StoredFile.of(data, goes_to_lfs(path, len(data))) for path, data in files.items()}
            repository.objects |= {file.oid: file.content for file in stored.values() if file.is_lfs}
            return repository.commit("main", {**repository.at("main").files, **stored}, "seed")

    def has_repo(self, repo_id: str, repo_type: str = "model") -> bool:
        return (f"{repo_type}s", repo_id) in self._hub.repositories

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """Without `.gitattributes`, which the Hub adds to each repository."""
        files = self._repository(repo_id, repo_type).at(revision).files
        return {path: file.content for path, file in files.items() if path != ".gitattributes"}

    def commits(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> list[Commit]:
        """Oldest first; the first is the Hub's own, of `.gitattributes`."""
        return list(self._repository(repo_id, repo_type).history(revision))[::-1]

    def tamper(self, repo_id: str, path: str, data: bytes, repo_type: str = "model") -> None:
        """Serve other bytes for a file of the newest commit, under the ETag and the size that it had."""
        with self._lock:
            repository = self._repository(repo_id, repo_type)
            commit = repository.at("main")
            files = {**commit.files, path: replace(commit.files[path], content=data)}
            repository.commits[commit.sha] = replace(commit, files=files)

    def fail_next(self, match: str | Callable[[Request], bool], outcome: Outcome, times: int = 1) -> None:
        """Make the next matching requests fail.

        The client repeats an LFS upload up to five times, after 1, 2, 4, 8 and 8 seconds, where the answer was 408,
        429, 500, 502, 503 or 504, and clients of some versions where the connection broke. None repeats a commit.

        Args:
            match: An expression to be found in "METHOD /path", or a predicate.
            outcome: A status to answer; "disconnect" hangs up before reading the request's body; "lost" carries the
                request out and hangs up instead of answering.
            times: 0 calls off what was said of the same `match` before.
        """
        found = re.compile(match).search if isinstance(match, str) else None
        matches = (lambda request: found(str(request)) is not None) if found else match
        with self._lock:
            self._failures[match] = Failure(matches, outcome, times)

    def _repository(self, repo_id: str, repo_type: str) -> Repository:
        return self._hub.repositories[f"{repo_type}s", repo_id]

    def received(self, method: str, path: str, authorization: str | None) -> Outcome | None:
        """Log a request, and return how it is to fail, if it is."""
        request = Request(method, path, self._hub.account(authorization) is not None)
        with self._lock:
            self.requests.append(request)
            for failure in self._failures.values():
                if failure.times and failure.matches(request):
                    failure.times -= 1
                    return failure.outcome
        return None

    def answer(self, *request: Any) -> Reply:
        with self._lock:
            return self._hub.answer(*request)


def shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each body waits 40 ms for an acknowledgement of its headers

    def __init__(self, hub: HubServer, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def handle(self) -> None:
        self.hub.connections.add(self.connection)
        with contextlib.suppress(ConnectionError):  # clients that die are what some tests are about
            super().handle()
        self.hub.connections.remove(self.connection)

    def serve(self) -> None:
        outcome = self.hub.received(self.command, urlsplit(self.path).path, self.headers["Authorization"])
        if outcome == "disconnect":
            return self.hang_up()
        body = self.read_body()
        if isinstance(outcome, int):
            return self.send(in_json({"error": "A test asked for this failure"}, outcome))
        reply = self.hub.answer(self.command, self.path, self.headers, body)
        return self.hang_up() if outcome == "lost" else self.send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def read_body(self) -> bytes:
        """Close the connection, so that half a request is not taken for a whole one."""
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError("The client hung up within a request.")
        return body

    def send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def hang_up(self) -> None:
        self.close_connection = True
        shut(self.connection)

    def log_message(self, *args: Any) -> None:
        """Log nothing to stderr: requests are in `HubServer.requests`."""
