"""The Hub's answers to the requests of the `huggingface_hub` client."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.repositories import Commit, Refused, Repository, StoredFile, card_data, git_oid, goes_to_lfs

NO_USER = "Invalid username or password."
SINCE = "2026-01-01T00:00:00.000Z"


class Account(NamedTuple):
    name: str
    role: Literal["read", "write"] = "write"


class Reply(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Call:
    """One request, as the endpoints see it."""

    method: str
    query: Mapping[str, list[str]]
    headers: Message
    body: bytes
    account: Account | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def in_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    body = json.dumps(value, default=str).encode()
    return Reply(status, body, {"Content-Type": "application/json", **(headers or {})})


@dataclass
class Hub:
    """Everything but the network.

    uploads: What each address that was given out for an LFS object expects.
    """

    endpoint: str
    tokens: dict[str, Account]
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    uploads: dict[str, tuple[Repository, str, int]] = field(default_factory=dict)

    def answer(self, method: str, url: str, headers: Message, body: bytes) -> Reply:
        try:
            return self._answer(method, url, headers, body)
        except Refused as refused:
            code = {"X-Error-Code": refused.code} if refused.code else {}
            said = {"X-Error-Message": refused.message.replace("\n", " "), **code, **refused.headers}
            errors = {"error": refused.message, "errors": [{"message": refused.message}]}
            return in_json(errors, refused.status, said)
        except (KeyError, TypeError, ValueError) as error:
            return in_json({"error": f"Malformed request: {error!r}"}, 400)

    def _answer(self, method: str, url: str, headers: Message, body: bytes) -> Reply:
        parts = urlsplit(url)
        account = self.account(headers["Authorization"])
        if headers["Authorization"] and not account:
            raise Refused(
                401, NO_USER, headers={"X-Error-Message": "Invalid credentials in Authorization header"}
            )
        call = Call(method, parse_qs(parts.query), headers, body, account)
        for methods, expression, endpoint in ROUTES:
            match = re.fullmatch(expression, parts.path)
            if match and method in methods.split():
                return endpoint(self, call, **{n: unquote(v or "") for n, v in match.groupdict().items()})
        raise Refused(404, f"The tests' Hub has no {method} {parts.path}")

    def account(self, authorization: str | None) -> Account | None:
        return self.tokens.get((authorization or "").removeprefix("Bearer "))

    def create(self, repo_id: str, kind: str, private: bool) -> Repository:
        return self.repositories.setdefault((kind, repo_id), Repository(repo_id, kind, private))

    def _visible(self, call: Call, kind: str, repo_id: str) -> Repository:
        """A repository that the caller may know of.

        The Hub tells nobody whom it does not know whether a repository exists: it answers 401, which the client takes
        for RepoNotFound where the address begins with https. Here the answer has to say so itself.
        """
        repository = self.repositories.get((kind or "models", repo_id))
        owns = repository and call.account and call.account.name == repository.owner
        if repository and (owns or not repository.private):
            return repository
        raise Refused(*(404, "Repository not found") if call.account else (401, NO_USER), "RepoNotFound")

    def _writable(self, call: Call, kind: str, repo_id: str) -> Repository:
        repository = self._visible(call, kind, repo_id)
        if not call.account:
            raise Refused(401, NO_USER, "RepoNotFound")
        self._check_writer(call.account, repository.owner, f"write to {repo_id}")
        if "create_pr" in call.query:
            raise Refused(400, "The tests' Hub takes no pull requests")
        return repository

    def _check_writer(self, account: Account, namespace: str, deed: str) -> None:
        if account.role != "write":
            raise Refused(403, f"Forbidden: you must use a write token to {deed}")
        if account.name != namespace:
            raise Refused(403, f"Forbidden: you don't have the rights to {deed}")

    def whoami(self, call: Call) -> Reply:
        if not call.account:
            raise Refused(401, NO_USER)
        token = {"displayName": "test", "role": call.account.role, "createdAt": SINCE}
        auth = {"type": "access_token", "accessToken": token}
        name = call.account.name
        return in_json({"type": "user", "id": name, "name": name, "fullname": name, "orgs": [], "auth": auth})

    def validate_card(self, call: Call) -> Reply:
        """The client makes this request before it uploads a README.md."""
        missing = not card_data(call.json["content"].encode())
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if missing else []
        return in_json({"errors": [], "warnings": warnings})

    def create_repo(self, call: Call) -> Reply:
        if not call.account:
            raise Refused(401, NO_USER)
        wanted = call.json
        kind, namespace = f"{wanted.get('type') or 'model'}s", wanted.get("organization") or call.account.name
        self._check_writer(call.account, namespace, f'create a repository under the namespace "{namespace}"')
        repo_id = f"{namespace}/{wanted['name']}"
        existed = (kind, repo_id) in self.repositories
        # Clients before 1.0 say `private`, later ones `visibility`
        private = wanted.get("private") or wanted.get("visibility") == "private"
        url = f"{self.endpoint}/{self.create(repo_id, kind, bool(private)).address}"
        if existed:
            return in_json({"error": "You already created this repo", "url": url}, 409)
        return in_json({"url": url, "name": repo_id, "id": repo_id, "private": bool(private)})

    def delete_repo(self, call: Call) -> Reply:
        wanted = call.json
        namespace = wanted.get("organization") or (call.account.name if call.account else "")
        kind, repo_id = f"{wanted.get('type') or 'model'}s", f"{namespace}/{wanted['name']}"
        self._writable(call, kind, repo_id)
        del self.repositories[kind, repo_id]
        return Reply(200)

    def preupload(self, call: Call, kind: str, repo_id: str, revision: str) -> Reply:
        """How to send each file, and which files already exist, so that the client can skip those that are the same."""
        known = self._writable(call, kind, repo_id).at(revision).files
        files = []
        for path, size in ((file["path"], file["size"]) for file in call.json["files"]):
            mode = "lfs" if goes_to_lfs(path, size) else "regular"
            found = {"oid": known[path].oid} if path in known else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **found})
        return in_json({"files": files})

    def lfs_batch(self, call: Call, kind: str, repo_id: str) -> Reply:
        """Where to send each object that does not exist yet; the address itself is the permission, without a token."""
        repository = self._writable(call, kind, repo_id)
        verify = {"href": f"{self.endpoint}/{repository.address}.git/info/lfs/objects/verify"}
        objects = []
        for wanted in call.json["objects"]:
            objects.append({"oid": wanted["oid"], "size": wanted["size"]})
            if wanted["oid"] not in repository.objects:
                name = secrets.token_hex(8)
                self.uploads[name] = (repository, wanted["oid"], wanted["size"])
                upload = {"href": f"{self.endpoint}/uploads/{name}"}
                objects[-1]["actions"] = {"upload": upload, "verify": verify}
        return in_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, call: Call, name: str) -> Reply:
        if name not in self.uploads:
            raise Refused(403, "No such upload")
        repository, oid, size = self.uploads[name]
        if len(call.body) != size or hashlib.sha256(call.body).hexdigest() != oid:
            raise Refused(400, "The content is not what was announced")
        repository.objects[oid] = call.body
        return Reply(200)

    def lfs_verify(self, call: Call, kind: str, repo_id: str) -> Reply:
        content = self._writable(call, kind, repo_id).objects.get(call.json["oid"])
        if content is None or len(content) != call.json["size"]:
            raise Refused(404, "The object was not uploaded")
        return in_json({"message": "OK"})

    def commit(self, call: Call, kind: str, repo_id: str, revision: str) -> Reply:
        repository = self._writable(call, kind, repo_id)
        if revision not in repository.branches:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        operations = [json.loads(line) for line in call.body.splitlines()]
        header = operations.pop(0)["value"]
        parent = repository.at(revision)
        if not parent.sha.startswith(header.get("parentCommit", "")):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(parent.files)
        for operation in operations:
            self._apply(repository, files, operation["key"], operation["value"])
        made = repository.commit(revision, files, header["summary"], header.get("description", ""))
        url = f"{self.endpoint}/{repository.address}/commit/{made.sha}"
        return in_json({"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""})

    def _apply(self, repository: Repository, files: dict[str, StoredFile], key: str, value: Any) -> None:
        path = value["path"]
        if key == "file":
            files[path] = StoredFile.of(base64.b64decode(value["content"]), is_lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in repository.objects:
                raise Refused(400, f"The LFS object of {path} was not uploaded: {value['oid']}")
            files[path] = StoredFile.of(repository.objects[value["oid"]], is_lfs=True)
        elif key in ("deletedFile", "deletedFolder"):
            folder = f"{path.rstrip('/')}/" if key == "deletedFolder" else None
            gone = [name for name in files if (name.startswith(folder) if folder else name == path)]
            if not gone:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise Refused(400, f"The tests' Hub knows no operation {key!r}")

    def info(self, call: Call, kind: str, repo_id: str, revision: str = "main") -> Reply:
        repository = self._visible(call, kind, repo_id)
        commit = repository.at(revision)
        data = card_data(commit.files["README.md"].content) if "README.md" in commit.files else {}
        known = {name: data[name] for name in ("library_name", "pipeline_tag") if name in data}
        siblings = [self._sibling(path, file, "blobs" in call.query) for path, file in commit.files.items()]
        found = {"id": repo_id, "modelId": repo_id, "author": repository.owner, "sha": commit.sha}
        found |= {
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
        }
        found |= {"lastModified": commit.date, "createdAt": SINCE, "cardData": data, **known}
        tags = dict.fromkeys([*data.get("tags", []), *known.values()])
        return in_json({**found, "tags": list(tags), "siblings": siblings})

    def _sibling(self, path: str, file: StoredFile, with_blob: bool) -> dict[str, Any]:
        entry = file.entry(path)
        lfs = {"lfs": {**entry["lfs"], "sha256": file.oid}} if file.is_lfs else {}
        blob = {"size": file.size, "blobId": entry["oid"], **lfs}
        return {"rfilename": path, **(blob if with_blob else {})}

    def tree(self, call: Call, kind: str, repo_id: str, revision: str, folder: str) -> Reply:
        commit = self._visible(call, kind, repo_id).at(revision)
        inside = f"{folder.strip('/')}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for path, file in sorted(commit.files.items()):
            if path.startswith(inside):
                parents = path.removeprefix(inside).split("/")[:-1]
                for depth in range(1, len(parents) + 1):
                    parent = inside + "/".join(parents[:depth])
                    oid = git_oid(parent.encode())
                    entries[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0}
                entries[path] = file.entry(path)
        if inside and not entries:
            said = {"X-Repo-Commit": commit.sha}
            raise Refused(404, f"{folder} does not exist on {revision}", "EntryNotFound", said)
        deep = call.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        return in_json([e for path, e in entries.items() if deep or "/" not in path.removeprefix(inside)])

    def paths_info(self, call: Call, kind: str, repo_id: str, revision: str) -> Reply:
        files = self._visible(call, kind, repo_id).at(revision).files
        paths = parse_qs(call.body.decode()).get("paths", [])
        return in_json([files[path].entry(path) for path in paths if path in files])

    def refs(self, call: Call, kind: str, repo_id: str) -> Reply:
        repository = self._visible(call, kind, repo_id)
        found = {
            title: [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": sha} for n, sha in names.items()]
            for title, folder, names in (
                ("branches", "heads", repository.branches),
                ("tags", "tags", repository.tags),
            )
        }
        return in_json({**found, "converts": [], "pullRequests": []})

    def history(self, call: Call, kind: str, repo_id: str, revision: str) -> Reply:
        repository = self._visible(call, kind, repo_id)
        authors = [{"user": repository.owner}]
        told = [
            {"id": c.sha, "title": c.message, "message": c.description, "date": c.date, "authors": authors}
            for c in repository.history(revision)
        ]
        return in_json(told)

    def create_branch(self, call: Call, kind: str, repo_id: str, name: str) -> Reply:
        repository = self._writable(call, kind, repo_id)
        return self._name(repository.branches, name, repository.at(call.json.get("startingPoint") or "main"))

    def create_tag(self, call: Call, kind: str, repo_id: str, revision: str) -> Reply:
        repository = self._writable(call, kind, repo_id)
        return self._name(repository.tags, call.json["tag"], repository.at(revision))

    def _name(self, names: dict[str, str], name: str, commit: Commit) -> Reply:
        if name in names:
            raise Refused(409, f"Reference already exists: {name}")
        names[name] = commit.sha
        return Reply(200)

    def resolve(self, call: Call, kind: str, repo_id: str, revision: str, path: str) -> Reply:
        """A file's content, or its description for HEAD; the client's cache names files by their ETags."""
        commit = self._visible(call, kind, repo_id).at(revision)
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound", headers)
        file = commit.files[path]
        headers |= {"ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        if file.is_lfs:
            headers |= {"X-Linked-Etag": f'"{file.oid}"', "X-Linked-Size": str(file.size)}
        if call.method == "HEAD":
            return Reply(200, headers={**headers, "Content-Length": str(file.size)})
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("Range", ""))
        return (
            self._part(file.content, *span.groups(), headers) if span else Reply(200, file.content, headers)
        )

    def _part(self, content: bytes, first: str, last: str, headers: Mapping[str, str]) -> Reply:
        size = len(content)
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start >= end:
            raise Refused(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
        return Reply(206, content[start:end], {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})


REPO = r"(?P<repo_id>(?:[^/]+/)?[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
PAGE = rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"

ROUTES: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
    ("GET", r"/api/whoami-v2", Hub.whoami),
    ("POST", r"/api/validate-yaml", Hub.validate_card),
    ("POST", r"/api/repos/create", Hub.create_repo),
    ("DELETE", r"/api/repos/delete", Hub.delete_repo),
    ("POST", rf"{API}/preupload/{REVISION}", Hub.preupload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", Hub.lfs_batch),
    ("PUT", r"/uploads/(?P<name>\w+)", Hub.lfs_upload),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/verify", Hub.lfs_verify),
    ("POST", rf"{API}/commit/{REVISION}", Hub.commit),
    ("GET", rf"{API}/revision/{REVISION}", Hub.info),
    ("GET", rf"{API}/tree/{REVISION}(?P<folder>/.+)?", Hub.tree),
    ("POST", rf"{API}/paths-info/{REVISION}", Hub.paths_info),
    ("GET", rf"{API}/refs", Hub.refs),
    ("GET", rf"{API}/commits/{REVISION}", Hub.history),
    ("POST", rf"{API}/branch/(?P<name>[^/]+)", Hub.create_branch),
    ("POST", rf"{API}/tag/{REVISION}", Hub.create_tag),
    ("GET", API, Hub.info),  # last: nothing tells a repository called `refs` from the refs of a repository
    ("GET HEAD", rf"{PAGE}/resolve/{REVISION}/(?P<path>.+)", Hub.resolve),
)
