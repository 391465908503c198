"""What is asked of the Hub, and what is said where it does not answer, and where nothing needs saying."""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, errors

from semantic_edit.cli import main
from semantic_edit.hub import HubUnreachable, network_unless, reason_for

GUARDED = """
import contextlib, json, socket, sys
packets = []

def guard(name):
    def refuse(*arguments, **_):
        packets.append([name, repr(arguments[-1])])
        raise OSError(101, "Network is unreachable")
    return refuse

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, guard(name))
for name in ("getaddrinfo", "create_connection"):
    setattr(socket, name, guard(name))
from semantic_edit.cli import main

codes = []
for command in json.loads(sys.argv[1]):
    codes.append(main(command))
    for stream in (sys.stdout, sys.stderr):
        print("-----", file=stream, flush=True)
    with contextlib.suppress(ImportError):  # before huggingface_hub 1.0
        from huggingface_hub.utils import _detect_agent as agents  # which asks once a process
        agents._registry = None
print(json.dumps([codes, packets]))
"""


def guarded(commands, folder):
    """The commands' exit codes, what each printed and told, and the packets that they would have sent.

    One after the other, in a process that has loaded nothing yet.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    environment |= {"HF_HOME": str(folder / "hub"), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, json.dumps(commands)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=True,
    )
    *printed, last = done.stdout.split("-----\n")
    codes, packets = json.loads(last)
    return codes, printed, done.stderr.split("-----\n")[:-1], packets


def test_no_packet_leaves_and_no_word_is_told_without_need(
    tmp_path, style_folder, mapping_folder, picture_file
):
    model = ["--model", str(style_folder)]
    words = ["--source", "a red apple on grass", "--prompt", "a blue pear on grass"]
    commands = [
        ["edit", "picture.png", *words, "-o", "a.png", "--steps", "2", "--mask-threshold", "0.9", *model],
        [
            "restyle",
            "--mapping",
            str(mapping_folder),
            "--prompt",
            "a green pear on grass",
            "-o",
            "b.png",
            *model,
        ],
        ["learn", "picture.png", "--prompt", "an apple", "-o", "learned", "--steps", "2", *model],
        ["bundle", "diffedit", "-o", "diffedit.py"],
        ["edit", "picture.png", "--prompt", "a pear", "-o", "d.png", "--offline", "--model", "owner/name"],
        ["restyle", "--mapping", "owner/name", "--prompt", "a pear", "-o", "e.png", "--offline"],
        ["learn", "picture.png", "--prompt", "x", "-o", "f", "--offline", "--image-encoder", "owner/name"],
        [
            "publish",
            "mapping",
            str(mapping_folder),
            "--license",
            "mit",
            "--base-model",
            "a/b",
            "--to",
            "a/c",
            "--dry-run",
        ],
    ]
    codes, printed, told, packets = guarded(commands, tmp_path)
    assert packets == []
    assert codes == [0, 0, 0, 0, 2, 2, 2, 0], told
    assert (printed[0], told[0]) == ("a.png\n", "")
    assert (printed[1], told[1]) == ("b.png\n", "")
    assert (printed[3], told[3]) == ("diffedit.py\n", "")
    assert told[4:7] == [
        "semantic-edit: error: cannot load the model owner/name: it is not in the local cache\n",
        "semantic-edit: error: cannot load the mapping network owner/name: it is not in the local cache\n",
        "semantic-edit: error: cannot load the image encoder owner/name: it is not in the local cache\n",
    ]


@pytest.mark.slow
def test_a_hub_that_is_out_of_reach_is_one_sentence(tmp_path, picture_file):
    command = ["edit", "picture.png", "--prompt", "a pear", "-o", "a.png", "--model", "owner/name"]
    codes, _, (told,), packets = guarded([command], tmp_path)
    assert codes == [2]
    assert packets
    assert told.splitlines()[-1] == (
        "semantic-edit: error: cannot load the model owner/name: the Hub cannot be reached, and it is not in the local "
        "cache"
    )


@pytest.fixture
def nowhere(this_process):
    """Sets an address at which no Hub answers, and which fails at once."""
    with socket.socket() as held:  # bound, so that nobody else takes it, and not listening
        held.bind(("127.0.0.1", 0))
        this_process.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{held.getsockname()[1]}")
        yield this_process


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["edit", "picture.png", "--model", "owner/name"], "model"),
        (["restyle", "--mapping", "owner/name"], "mapping network"),
        (["attention", "--mapping", "owner/name"], "mapping network"),
        (["learn", "picture.png", "--image-encoder", "owner/name"], "image encoder"),
    ],
)
def test_a_command_tries_a_hub_that_is_out_of_reach_once(
    nowhere, hub, picture_file, only_error, command, kind
):
    nowhere.chdir(picture_file.parent)
    assert main([*command, "--prompt", "a pear", "-o", "out.png"]) == 2
    assert only_error() == (
        f"semantic-edit: error: cannot load the {kind} owner/name: the Hub cannot be reached, and it is not in the "
        "local cache"
    )
    assert hub.requests == []  # where the client's later tries would have gone


def test_without_a_connection_the_client_looks_only_into_its_cache(nowhere):
    with network_unless(is_local=False):
        assert constants.HF_HUB_OFFLINE is True
    match = r"not everything is in the local cache \(x\)"
    with pytest.raises(HubUnreachable, match=match), network_unless(is_local=False):
        raise OSError("x") from errors.LocalEntryNotFoundError("it")
    with pytest.raises(ValueError, match=r"^damaged$"), network_unless(is_local=False):
        raise ValueError("damaged")  # something that is in the cache
    assert constants.HF_HUB_OFFLINE is False


def test_with_a_connection_the_client_uses_it(hub, this_process):
    with network_unless(is_local=False):
        assert constants.HF_HUB_OFFLINE is False
    assert [request.method for request in hub.requests] == ["HEAD"]
    hub.fail_next("HEAD", 500)  # any answer shows that it is there
    with network_unless(is_local=False):
        assert constants.HF_HUB_OFFLINE is False
    with pytest.raises(OSError, match=r"^it$"), network_unless(is_local=False):
        raise errors.LocalEntryNotFoundError("it")


def test_the_client_is_as_before_after_loading_what_is_local(monkeypatch):
    monkeypatch.setattr("semantic_edit.hub._is_hub_reachable", lambda: True)
    before = constants.HF_HUB_OFFLINE
    with network_unless(is_local=True):
        assert constants.HF_HUB_OFFLINE is True
    assert constants.HF_HUB_OFFLINE is before
    with network_unless(is_local=False):
        assert constants.HF_HUB_OFFLINE is before
    with pytest.raises(KeyboardInterrupt), network_unless(is_local=True):
        raise KeyboardInterrupt
    assert constants.HF_HUB_OFFLINE is before


def answer(status):
    return SimpleNamespace(status_code=status, headers={}, request=None)


def chained(*causes):
    error = OSError("Something went wrong. See the stacktrace above.")
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


UNREACHABLE = next(
    kind for kind in errors.HfHubHTTPError.__mro__ if kind.__module__.split(".")[0] != "huggingface_hub"
)


@pytest.mark.parametrize(
    ("causes", "reason"),
    [
        ([], "Something went wrong. See the stacktrace above."),
        ([errors.LocalEntryNotFoundError("x")], "it is not in the local cache"),
        ([errors.OfflineModeIsEnabled("x")], "it is not in the local cache"),
        (
            [HubUnreachable("x"), errors.LocalEntryNotFoundError("x")],
            "the Hub cannot be reached, and it is not in the local cache",
        ),
        (
            [errors.LocalEntryNotFoundError("x"), UNREACHABLE("no route")],
            "the Hub cannot be reached, and it is not in the local cache",
        ),
        (
            [errors.HfHubHTTPError("x", response=answer(503))],
            "the Hub answered with error 503; try again later",
        ),
        (
            [errors.RepositoryNotFoundError("x", response=answer(404))],
            "the Hub has no such repository, or it is private and you must log in with: hf auth login",
        ),
        (
            [errors.GatedRepoError("x", response=answer(403))],
            "accept its terms first, at https://huggingface.co/owner/name, and log in with: hf auth login",
        ),
        ([errors.EntryNotFoundError("x")], "Something went wrong. See the stacktrace above."),
    ],
)
def test_a_failure_of_the_hub_is_one_sentence(causes, reason):
    assert reason_for(chained(*causes), "owner/name") == reason
