"""Repositories in memory, as git and LFS would hold them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import yaml

LARGE = 10 * 1024 * 1024
BINARY = (
    ".bin",
    ".ckpt",
    ".gz",
    ".jpg",
    ".npy",
    ".npz",
    ".parquet",
    ".png",
    ".pt",
    ".safetensors",
    ".webp",
    ".zip",
)
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in BINARY).encode()


@dataclass(eq=False)
class Refused(Exception):
    """An answer with an error; the client chooses its exception by `code`."""

    status: int
    message: str
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredFile:
    """oid, size: As announced, for the content that was uploaded, even if a test has changed it since."""

    content: bytes
    is_lfs: bool
    oid: str
    size: int

    @classmethod
    def of(cls, content: bytes, is_lfs: bool) -> StoredFile:
        oid = hashlib.sha256(content).hexdigest() if is_lfs else git_oid(content)
        return cls(content, is_lfs, oid, len(content))

    def entry(self, path: str) -> dict[str, Any]:
        """The file as an entry of a tree; git stores only a pointer to what is in LFS."""
        line = {"type": "file", "path": path, "oid": self.oid, "size": self.size}
        if not self.is_lfs:
            return line
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n"
        lfs = {"oid": self.oid, "size": self.size, "pointerSize": len(pointer)}
        return {**line, "oid": git_oid(pointer.encode()), "lfs": lfs}


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    message: str
    description: str
    date: str
    files: Mapping[str, StoredFile]


@dataclass
class Repository:
    """objects: Every LFS object that was uploaded, committed or not."""

    repo_id: str
    kind: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": StoredFile.of(GIT_ATTRIBUTES, False)}, "initial commit")

    @property
    def address(self) -> str:
        return self.repo_id if self.kind == "models" else f"{self.kind}/{self.repo_id}"

    @property
    def owner(self) -> str:
        return self.repo_id.partition("/")[0]

    def commit(
        self, branch: str, files: Mapping[str, StoredFile], message: str, description: str = ""
    ) -> Commit:
        parent = self.branches.get(branch)
        tree = sorted((path, file.oid) for path, file in files.items())
        content = repr((self.repo_id, len(self.commits), parent, message, tree))
        sha = hashlib.sha1(content.encode()).hexdigest()
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.commits[sha] = Commit(sha, parent, message, description, date, dict(files))
        self.branches[branch] = sha
        return self.commits[sha]

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a tag, or a hash of at least seven digits."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        found = [commit for name, commit in self.commits.items() if name.startswith(sha)]
        if len(sha) < 7 or len(found) != 1:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def history(self, revision: str) -> Iterator[Commit]:
        """Newest first."""
        commit: Commit | None = self.at(revision)
        while commit:
            yield commit
            commit = self.commits[commit.parent] if commit.parent else None


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def goes_to_lfs(path: str, size: int) -> bool:
    return size > LARGE or path.lower().endswith(BINARY)


def card_data(readme: bytes) -> dict[str, Any]:
    """The metadata at the head of a card.

    Raises:
        Refused: If it is not YAML that the Hub accepts.
    """
    head = re.match(r"---\r?\n(.*?)\r?\n---\r?(\n|$)", readme.decode(), re.DOTALL)
    try:
        data = (yaml.safe_load(head.group(1)) if head else None) or {}
    except yaml.YAMLError as error:
        raise Refused(400, f"YAML Metadata Error: {error}") from error
    if not isinstance(data, dict):
        raise Refused(400, "YAML Metadata Error: not a mapping")
    return data
