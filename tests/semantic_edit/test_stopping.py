"""A command that receives a signal, in a process of its own."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from semantic_edit.stopping import stoppable

SLOW_WRITE = """
import os, sys, time
from semantic_edit.cli import main
from semantic_edit.disk import writing

def slowly(file, content):
    file.write(content[:10])
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))

writing._write_all = slowly
sys.exit(main(["scene", "-o", sys.argv[1]]))
"""


def heed_signals():
    """Restore the default handlers: the tests may run under something that ignores signals, such as nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def started(path, seconds=60.0, **options):
    command = [sys.executable, "-c", SLOW_WRITE, str(path), str(seconds)]
    options.setdefault("preexec_fn", heed_signals)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes, **options)
    assert process.stdout.readline() == "writing\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "the terminal was closed"),
    ],
)
def test_asked_to_end_it_says_so_in_one_line_and_leaves_nothing_behind(tmp_path, number, code, reason):
    (tmp_path / "a.png").write_bytes(b"old")
    process = started(tmp_path / "a.png")
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (code, f"semantic-edit: error: {reason}\n")
    assert os.listdir(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    process = started(
        tmp_path / "a.png", 0.5, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )  # as under nohup
    process.send_signal(signal.SIGHUP)
    _, told = process.communicate(timeout=60)
    assert "only part of the file" in told  # it went on, and noticed what this test had done
    assert process.returncode == 1


def test_handlers_come_back_and_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    seen = []

    def elsewhere():
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_whoever_reads_the_output_may_stop_reading(tmp_path):
    code = (
        "import sys; from semantic_edit.cli import main\n"
        "sys.stdin.read(); sys.exit(main(['scene', '-o', sys.argv[1]]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a.png")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    _, told = process.communicate("", timeout=60)
    assert (process.returncode, told) == (141, "")
    assert (tmp_path / "a.png").is_file()
