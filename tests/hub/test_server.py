"""The tests' Hub behaves like the real one towards the real client."""

import contextlib
import hashlib
import json
import re
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.conftest import OTHER_TOKEN, READ_TOKEN, WRITE_TOKEN
from tests.hub.server import HubServer

APPLE = "someone/apple"
CARD = b"---\nlibrary_name: diffusers\ntags:\n- apple\n---\n# An apple\n"
WEIGHTS = bytes(range(256)) * 40
FILES = {"README.md": CARD, "config.json": b"{}", "unet/w.safetensors": WEIGHTS}
UNTRIED = 501  # a status that the client does not try again
CUT_OFF = r"disconnected|reset|closed|aborted|Broken pipe"


@pytest.fixture
def client(hub, this_process):
    """A client with a token, or without one if the token is False."""

    def client(token=WRITE_TOKEN):
        return HfApi(endpoint=hub.endpoint, token=token)

    return client


@pytest.fixture
def folder(tmp_path):
    for path, data in FILES.items():
        (tmp_path / "apple" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "apple" / path).write_bytes(data)
    return tmp_path / "apple"


@pytest.fixture
def apple(hub):
    """A repository with `FILES`, in its second commit."""
    return hub.add_repo(APPLE, FILES)


def status(error):
    return error.value.response.status_code


def paths_of(hub, pattern):
    return [request.path for request in hub.requests if re.search(pattern, str(request))]


def downloaded(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.is_file()
    }


def test_a_repository_is_created_once(hub, client):
    url = client().create_repo("apple")
    assert (url.repo_id, url.repo_type, str(url)) == (APPLE, "model", f"{hub.endpoint}/{APPLE}")
    assert client().repo_exists(APPLE)
    assert not client().repo_exists("someone/pear")
    with pytest.raises(HfHubHTTPError, match="already created") as error:
        client().create_repo(APPLE)
    assert status(error) == 409
    assert client().create_repo(APPLE, exist_ok=True).repo_id == APPLE
    assert list(client().list_repo_files(APPLE)) == [".gitattributes"]


def test_a_repository_is_deleted(hub, client, apple):
    client().delete_repo(APPLE)
    assert not hub.has_repo(APPLE)
    with pytest.raises(RepositoryNotFoundError):
        client().delete_repo(APPLE)


def test_whoami_tells_the_role(client):
    found = client(READ_TOKEN).whoami()
    assert (found["name"], found["auth"]["accessToken"]["role"]) == ("someone", "read")


def test_a_folder_becomes_one_commit(hub, client, folder):
    client().create_repo(APPLE)
    commit = client().upload_folder(repo_id=APPLE, folder_path=folder, commit_message="An apple")
    assert hub.files(APPLE) == FILES
    assert [commit.message for commit in hub.commits(APPLE)] == ["initial commit", "An apple"]
    assert commit.oid == hub.commits(APPLE)[-1].sha
    assert commit.repo_url.repo_id == APPLE
    stored = hub.commits(APPLE)[-1].files
    assert {path for path, file in stored.items() if file.is_lfs} == {"unet/w.safetensors"}
    assert len(paths_of(hub, "^PUT ")) == len(paths_of(hub, "/verify$")) == 1


def test_what_is_large_goes_to_lfs(hub, client, apple, monkeypatch):
    monkeypatch.setattr("tests.hub.repositories.LARGE", 3)
    for name, content in (("short.txt", b"one"), ("long.txt", b"three")):
        client().upload_file(repo_id=APPLE, path_in_repo=name, path_or_fileobj=content)
    stored = hub.commits(APPLE)[-1].files
    assert (stored["short.txt"].is_lfs, stored["long.txt"].is_lfs) == (False, True)


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_what_is_pushed_can_be_pulled(hub, client, folder, tmp_path, kind):
    client().create_repo(APPLE, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
    client().upload_folder(repo_id=APPLE, folder_path=folder, repo_type=kind)
    assert hub.files(APPLE, repo_type=kind) == FILES
    client(False).snapshot_download(APPLE, repo_type=kind, local_dir=tmp_path / "pulled")
    assert {p: d for p, d in downloaded(tmp_path / "pulled").items() if p in FILES} == FILES
    assert not hub.has_repo(APPLE, "dataset" if kind == "model" else "model")


def test_what_is_there_is_not_sent_again(hub, client, folder):
    client().create_repo(APPLE)
    for name in ("first", "second"):
        client().upload_folder(repo_id=APPLE, folder_path=folder, commit_message=name)
    assert [commit.message for commit in hub.commits(APPLE)] == ["initial commit", "first"]
    client().upload_file(repo_id=APPLE, path_in_repo="copy.safetensors", path_or_fileobj=WEIGHTS)
    assert hub.files(APPLE)["copy.safetensors"] == WEIGHTS
    assert len(paths_of(hub, "^PUT ")) == 1


def test_a_commit_adds_changes_and_deletes(hub, client, apple):
    operations = [
        CommitOperationAdd("config.json", b"[]"),
        CommitOperationAdd("vae/w.safetensors", b"0"),
        CommitOperationDelete("README.md"),
        CommitOperationDelete("unet/"),
    ]
    commit = client().create_commit(APPLE, operations, commit_message="m", parent_commit=apple.sha)
    assert hub.files(APPLE) == {"config.json": b"[]", "vae/w.safetensors": b"0"}
    assert hub.files(APPLE, apple.sha) == FILES
    assert [commit.commit_id for commit in client().list_repo_commits(APPLE)][:2] == [commit.oid, apple.sha]


def test_a_commit_on_what_is_no_longer_the_newest_is_refused(hub, client, apple):
    client().upload_file(repo_id=APPLE, path_in_repo="config.json", path_or_fileobj=b"[]")
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        client().upload_file(
            repo_id=APPLE, path_in_repo="config.json", path_or_fileobj=b"1", parent_commit=apple.sha
        )
    assert status(error) == 412
    assert hub.files(APPLE)["config.json"] == b"[]"


def test_commits_that_make_no_sense_are_refused(client, apple):
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        client().delete_file("nothing.txt", APPLE)
    for revision in ("no-branch", apple.sha):
        with pytest.raises(RevisionNotFoundError):
            client().upload_file(repo_id=APPLE, path_in_repo="a", path_or_fileobj=b"a", revision=revision)
    with pytest.raises(BadRequestError, match="no pull requests"):
        client().upload_file(repo_id=APPLE, path_in_repo="a", path_or_fileobj=b"a", create_pr=True)
    with pytest.raises(ValueError, match="Invalid metadata"):
        client().upload_file(repo_id=APPLE, path_in_repo="README.md", path_or_fileobj=b"---\na: [\n---\n")


def test_a_commit_cannot_name_what_was_not_uploaded(hub, client, apple):
    addition = CommitOperationAdd("new.safetensors", b"never sent")
    addition._is_uploaded, addition._upload_mode = True, "lfs"
    with pytest.raises(BadRequestError, match=r"LFS object of new\.safetensors was not uploaded"):
        client().create_commit(APPLE, [addition], commit_message="m")
    assert hub.files(APPLE) == FILES


def test_only_what_was_announced_can_be_uploaded(hub, client, apple):
    wanted = {"oid": hashlib.sha256(b"green").hexdigest(), "size": 5}
    headers = {"Authorization": f"Bearer {WRITE_TOKEN}"}
    session = huggingface_hub.utils.get_session()
    batch = f"{hub.endpoint}/{APPLE}.git/info/lfs/objects/batch"

    def actions_for(wanted):
        answer = session.post(batch, headers=headers, json={"objects": [wanted]})
        return answer.json()["objects"][0]["actions"]

    longer = actions_for({**wanted, "size": 6})["upload"]["href"]
    assert session.put(longer, data=b"green").status_code == 400
    actions = actions_for(wanted)
    for content in (b"bean!", b"gree", b"greener"):
        assert session.put(actions["upload"]["href"], data=content).status_code == 400
        assert session.post(actions["verify"]["href"], headers=headers, json=wanted).status_code == 404
    assert session.put(actions["upload"]["href"], data=b"green").status_code == 200
    assert session.post(actions["verify"]["href"], headers=headers, json=wanted).status_code == 200
    assert session.put(f"{hub.endpoint}/uploads/0123", data=b"green").status_code == 403


def test_half_a_request_does_nothing(hub, client, apple):
    deletion = b'{"key": "header", "value": {"summary": "m"}}\n'
    lines = (
        f"POST /api/models/{APPLE}/commit/main HTTP/1.1",
        f"Authorization: Bearer {WRITE_TOKEN}",
        f"Content-Length: {len(deletion) + 1}",
    )
    with socket.create_connection(("127.0.0.1", int(hub.endpoint.rpartition(":")[2]))) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + deletion)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert paths_of(hub, "/commit/main")
    assert hub.commits(APPLE)[-1] == apple


def test_the_card_is_read(client, apple):
    info = client(False).model_info(APPLE, files_metadata=True)
    assert (info.id, info.sha, info.private, info.author) == (APPLE, apple.sha, False, "someone")
    assert (info.library_name, info.tags) == ("diffusers", ["apple", "diffusers"])
    assert info.card_data.tags == ["apple"]
    by_name = {sibling.rfilename: sibling for sibling in info.siblings}
    assert by_name.keys() == {".gitattributes", *FILES}
    assert by_name["unet/w.safetensors"].lfs.size == len(WEIGHTS)
    assert by_name["config.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"  # git's own


def test_trees_list_folders_and_what_is_in_them(client, apple):
    assert {entry.path for entry in client().list_repo_tree(APPLE)} == {
        ".gitattributes",
        "README.md",
        "config.json",
        "unet",
    }
    assert [entry.path for entry in client().list_repo_tree(APPLE, "unet")] == ["unet/w.safetensors"]
    assert set(client().list_repo_files(APPLE, revision=apple.sha[:7])) == {".gitattributes", *FILES}
    with pytest.raises(EntryNotFoundError):
        list(client().list_repo_tree(APPLE, "vae"))
    found = client().get_paths_info(APPLE, ["config.json", "nothing", "unet/w.safetensors"])
    assert [(file.path, file.size) for file in found] == [("config.json", 2), ("unet/w.safetensors", 10240)]


def test_branches_and_tags_name_commits(hub, client, apple):
    client().create_tag(APPLE, tag="v1")
    client().create_branch(APPLE, branch="wild/fruit")
    client().upload_file(repo_id=APPLE, path_in_repo="a", path_or_fileobj=b"a", revision="wild/fruit")
    refs = client().list_repo_refs(APPLE)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": apple.sha}
    heads = {name: hub.commits(APPLE, name)[-1].sha for name in ("main", "wild/fruit")}
    assert {ref.name: ref.target_commit for ref in refs.branches} == heads
    assert client().model_info(APPLE, revision="v1").sha == apple.sha == heads["main"] != heads["wild/fruit"]
    with pytest.raises(HfHubHTTPError, match="already exists"):
        client().create_tag(APPLE, tag="v1")


def test_old_commits_can_be_pulled(hub, client, apple, tmp_path):
    client().upload_file(repo_id=APPLE, path_in_repo="unet/w.safetensors", path_or_fileobj=b"newer")
    for revision, weights in (("main", b"newer"), (apple.sha, WEIGHTS)):
        path = client().hf_hub_download(
            APPLE, "unet/w.safetensors", revision=revision, cache_dir=tmp_path / "one"
        )
        assert Path(path).read_bytes() == weights
        folder = client().snapshot_download(APPLE, revision=revision, cache_dir=tmp_path / "all")
        assert Path(folder).name == hub.commits(APPLE, revision)[-1].sha
        assert (Path(folder) / "unet/w.safetensors").read_bytes() == weights


def test_downloads_need_one_look_at_what_is_cached(hub, client, apple, tmp_path):
    for _ in range(2):
        client().hf_hub_download(APPLE, "config.json", cache_dir=tmp_path)
    assert paths_of(hub, "^GET .*config.json") == [f"/{APPLE}/resolve/main/config.json"]
    assert len(paths_of(hub, "^HEAD .*config.json")) == 2


@pytest.mark.parametrize(
    ("span", "part"),
    [
        ("0-4", slice(0, 5)),
        ("10000-", slice(10000, None)),
        ("-7", slice(-7, None)),
        ("5-99999", slice(5, None)),
    ],
)
def test_parts_of_files_are_served(hub, client, apple, span, part):
    answer = get(hub, f"{APPLE}/resolve/main/unet/w.safetensors", {"Range": f"bytes={span}"})
    assert answer.status_code == 206
    assert answer.content == WEIGHTS[part]
    start, stop, _ = part.indices(len(WEIGHTS))
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"


def test_parts_beyond_the_end_are_refused(hub, client, apple):
    assert get(hub, f"{APPLE}/resolve/main/config.json", {"Range": "bytes=2-"}).status_code == 416


def get(hub, path, headers):
    return huggingface_hub.utils.get_session().get(f"{hub.endpoint}/{path}", headers=headers)


def test_the_client_finds_its_own_exceptions(client, apple, tmp_path):
    api = client()
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("someone/pear")
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("someone/pear", "config.json", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.snapshot_download("someone/pear", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(APPLE)
    for revision in ("v9", apple.sha[:6]):
        with pytest.raises(RevisionNotFoundError):
            api.snapshot_download(APPLE, revision=revision, cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(APPLE, "config.json", revision="v9", cache_dir=tmp_path)
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(APPLE, "nothing.json", cache_dir=tmp_path)
    assert not api.file_exists(APPLE, "nothing.json")
    # What is known to be missing need not be asked for again
    assert list(tmp_path.rglob(".no_exist/*/nothing.json"))


def test_strangers_may_not_write(hub, client, apple):
    wrong, nobody = client("no-such-token"), client(False)
    for api, name in ((wrong, "pear"), (nobody, "someone/pear")):
        with pytest.raises(HfHubHTTPError, match="Invalid username or password") as error:
            api.create_repo(name)
        assert status(error) == 401
        assert not isinstance(error.value, RepositoryNotFoundError)
        with pytest.raises(HfHubHTTPError, match="Invalid username or password") as error:
            api.upload_file(repo_id=APPLE, path_in_repo="a", path_or_fileobj=b"a")
        assert status(error) == 401
    with pytest.raises(OSError, match="Invalid user token"):  # clients before 1.0 name it otherwise
        wrong.whoami()
    assert hub.files(APPLE) == FILES
    assert not hub.has_repo("someone/pear")


def test_a_token_to_read_may_not_write(hub, client, apple):
    api = client(READ_TOKEN)
    assert api.model_info(APPLE).sha == apple.sha
    for attempt in (
        lambda: api.create_repo("pear"),
        lambda: api.upload_file(repo_id=APPLE, path_in_repo="a", path_or_fileobj=b"a"),
        lambda: api.delete_repo(APPLE),
    ):
        with pytest.raises(HfHubHTTPError, match="you must use a write token") as error:
            attempt()
        assert status(error) == 403
    assert hub.files(APPLE) == FILES
    assert not hub.has_repo("someone/pear")


def test_nobody_writes_under_the_name_of_another(hub, client, apple):
    api = client(OTHER_TOKEN)
    for attempt in (
        lambda: api.create_repo("someone/pear"),
        lambda: api.upload_file(repo_id=APPLE, path_in_repo="a.png", path_or_fileobj=b"a"),
    ):
        with pytest.raises(HfHubHTTPError, match="you don't have the rights") as error:
            attempt()
        assert status(error) == 403
    assert hub.files(APPLE) == FILES
    assert not paths_of(hub, "^PUT ")


def test_private_repositories_are_there_for_their_owner_only(hub, client, tmp_path):
    client().create_repo(APPLE, private=True)
    client().upload_file(repo_id=APPLE, path_in_repo="a.txt", path_or_fileobj=b"a")
    for token, answered in ((OTHER_TOKEN, 404), (False, 401)):
        with pytest.raises(RepositoryNotFoundError) as error:
            client(token).model_info(APPLE)
        assert status(error) == answered
        with pytest.raises(RepositoryNotFoundError):
            client(token).hf_hub_download(APPLE, "a.txt", cache_dir=tmp_path)
    assert client(READ_TOKEN).model_info(APPLE).private
    assert Path(client(READ_TOKEN).hf_hub_download(APPLE, "a.txt", cache_dir=tmp_path)).read_text() == "a"


def test_an_upload_that_fails_leaves_nothing_and_can_be_tried_again(hub, client, folder):
    client().create_repo(APPLE)
    hub.fail_next("^PUT ", UNTRIED)
    with pytest.raises(RuntimeError, match=r"Error while uploading 'unet/w\.safetensors'"):
        client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == {}
    assert not paths_of(hub, "/commit/")
    client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == FILES


def test_an_upload_survives_a_bad_moment(hub, client, folder):
    client().create_repo(APPLE)
    hub.fail_next(lambda request: request.method == "PUT", 503)
    client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == FILES
    assert len(paths_of(hub, "^PUT ")) == 2


def test_an_upload_that_is_cut_off_is_made_again(hub, client, folder):
    client().create_repo(APPLE)
    hub.fail_next("^PUT ", "disconnect")
    with contextlib.suppress(RuntimeError):  # not all clients try again by themselves
        client().upload_folder(repo_id=APPLE, folder_path=folder)
    client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == FILES
    assert len(paths_of(hub, "^PUT ")) == 2


@pytest.mark.parametrize("outcome", [UNTRIED, "disconnect"])
def test_a_commit_that_fails_leaves_nothing_and_can_be_tried_again(hub, client, folder, outcome):
    client().create_repo(APPLE)
    hub.fail_next("/commit/", outcome)
    with pytest.raises(Exception, match=f"{UNTRIED}|{CUT_OFF}"):
        client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == {}
    client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == FILES
    assert len(paths_of(hub, "^PUT ")) == 1


def test_a_commit_may_be_made_though_its_answer_is_lost(hub, client, folder):
    client().create_repo(APPLE)
    hub.fail_next("/commit/", "lost")
    with pytest.raises(Exception, match=CUT_OFF):
        client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert hub.files(APPLE) == FILES
    client().upload_folder(repo_id=APPLE, folder_path=folder)
    assert len(hub.commits(APPLE)) == 2


def test_failures_end_when_their_times_are_up(hub, client, apple):
    hub.fail_next("/api/models/", UNTRIED, times=2)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError, match="501"):
            client().model_info(APPLE)
    assert client().whoami()["name"] == "someone"
    assert client().model_info(APPLE).sha == apple.sha
    for times in (100, 0):
        hub.fail_next("/api/models/", UNTRIED, times)
    assert client().model_info(APPLE).sha == apple.sha


def test_tampered_files_keep_their_announcement(hub, client, apple, tmp_path):
    hub.tamper(APPLE, "unet/w.safetensors", WEIGHTS[::-1])
    before = client().get_paths_info(APPLE, "unet/w.safetensors")
    assert before[0].lfs.sha256 == apple.files["unet/w.safetensors"].oid
    path = client().hf_hub_download(APPLE, "unet/w.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == WEIGHTS[::-1]  # the client compares sizes, no digests
    hub.tamper(APPLE, "unet/w.safetensors", WEIGHTS[:-1])
    with pytest.raises(OSError, match="Consistency check failed"):
        client().hf_hub_download(APPLE, "unet/w.safetensors", cache_dir=tmp_path, force_download=True)


def test_the_log_knows_who_was_known_but_no_token(hub, client, folder):
    client().create_repo(APPLE)
    client().upload_folder(repo_id=APPLE, folder_path=folder)
    client(False).model_info(APPLE)
    with pytest.raises(HfHubHTTPError):
        client("no-such-token").model_info(APPLE)
    asked = [request.authorised for request in hub.requests if str(request) == f"GET /api/models/{APPLE}"]
    assert asked == [False, False]
    assert [request.authorised for request in hub.requests if request.path.endswith("/commit/main")] == [True]
    told = repr(hub.requests)
    assert not [token for token in (WRITE_TOKEN, "no-such-token") if token in told]


def test_nobody_answers_once_the_context_is_left(this_process, tmp_path):
    with HubServer(tmp_path, {}) as server:
        server.add_repo(APPLE, FILES)
        api = HfApi(endpoint=server.endpoint, token=False)
        api.model_info(APPLE)
    with pytest.raises(Exception, match=rf"refused|{CUT_OFF}"):
        api.model_info(APPLE)


def test_this_process_takes_it_for_the_hub(hub, this_process, apple):
    folder = huggingface_hub.snapshot_download(APPLE)
    assert folder.startswith(str(hub.home))
    assert huggingface_hub.model_info(APPLE).sha == apple.sha
    this_process.setenv("HF_TOKEN", WRITE_TOKEN)
    assert huggingface_hub.whoami()["name"] == "someone"


def test_a_fresh_process_takes_it_for_the_hub(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    program = (
        "import huggingface_hub as h, json\n"
        "h.create_repo('apple')\n"
        "h.upload_file(repo_id='someone/apple', path_in_repo='a.png', path_or_fileobj=b'a')\n"
        "print(json.dumps([h.whoami()['name'], h.hf_hub_download('someone/apple', 'a.png')]))\n"
    )
    command, environment = [sys.executable, "-c", program], hub.environment(token=WRITE_TOKEN)
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    name, path = json.loads(told)
    assert name == "someone"
    assert path.startswith(str(hub.home))
    assert hub.files(APPLE) == {"a.png": b"a"}
    assert "HF_TOKEN" not in hub.environment()


def test_a_card_without_metadata_is_warned_of(client, apple):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        client().upload_file(repo_id=APPLE, path_in_repo="README.md", path_or_fileobj=b"# An apple\n")
    with (
        warnings.catch_warnings(action="error") if sys.version_info >= (3, 11) else warnings.catch_warnings()
    ):
        client().upload_file(repo_id=APPLE, path_in_repo="README.md", path_or_fileobj=CARD)
