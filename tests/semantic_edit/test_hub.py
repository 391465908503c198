"""What is asked of the Hub, and what is said where it does not answer."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, errors

from semantic_edit.hub import network_unless, reason_for

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
    with contextlib.suppress(ImportError):  # before huggingface_hub 1.0
        from huggingface_hub.utils import _detect_agent as agents  # which asks once a process
        agents._registry = None
print(json.dumps([codes, packets]))
"""


def guarded(commands, folder):
    """The commands' exit codes and the packets that they would have sent, in a process that has loaded nothing yet."""
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
    codes, packets = json.loads(done.stdout.splitlines()[-1])
    return codes, packets, done.stderr


def test_no_packet_leaves_without_being_asked_for(tmp_path, style_folder, mapping_folder, picture_file):
    model = ["--model", str(style_folder)]
    commands = [
        ["edit", "picture.png", "--prompt", "a pear", "-o", "a.png", "--steps", "2", *model],
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
    codes, packets, told = guarded(commands, tmp_path)
    assert packets == []
    assert codes == [0, 0, 0, 0, 2, 2, 2, 0], told
    said = [line for line in told.splitlines() if "semantic-edit: error" in line]
    assert [line.rpartition("semantic-edit: ")[2] for line in said] == [
        "error: cannot load the model owner/name: it is not in the local cache",
        "error: cannot load the mapping network owner/name: it is not in the local cache",
        "error: cannot load the image encoder owner/name: it is not in the local cache",
    ]


@pytest.mark.slow
def test_a_hub_that_is_out_of_reach_is_one_sentence(tmp_path, picture_file):
    command = ["edit", "picture.png", "--prompt", "a pear", "-o", "a.png", "--model", "owner/name"]
    codes, packets, told = guarded([command], tmp_path)
    assert codes == [2]
    assert packets
    assert told.splitlines()[-1] == (
        "semantic-edit: error: cannot load the model owner/name: the Hub cannot be reached, and it is not in the local "
        "cache"
    )


def test_the_client_is_as_before_after_loading_what_is_local():
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
            [errors.LocalEntryNotFoundError("x"), UNREACHABLE("no route")],
            "the Hub cannot be reached, and it is not in the local cache",
        ),
        (
            [errors.HfHubHTTPError("x", response=answer(503))],
            "the Hub answered with error 503; try again later",
        ),
        (
            [errors.RepositoryNotFoundError("x", response=answer(404))],
            "the Hub has no such repository, or it is private and a log-in is needed: hf auth login",
        ),
        (
            [errors.GatedRepoError("x", response=answer(403))],
            "its terms must be accepted first, at https://huggingface.co/owner/name, and a log-in is needed: "
            "hf auth login",
        ),
        ([errors.EntryNotFoundError("x")], "Something went wrong. See the stacktrace above."),
    ],
)
def test_a_failure_of_the_hub_is_one_sentence(causes, reason):
    assert reason_for(chained(*causes), "owner/name") == reason
