"""Whatever is wrong with a file or an option, the command says so in one sentence and leaves everything as it was.

The files are those that the commands read; each is damaged in every way below. What a command makes of it is held to
one law: it works and writes what was asked for, or it ends with one sentence and has written nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from semantic_edit.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

PEAR = ("--prompt", "a green pear on grass")
SOURCE = ("--source", "a red apple on grass")
SECONDS = 300
RAW = re.compile(r"Traceback|--traceback shows|^\w*(Error|Exception):", re.MULTILINE)


def replaced(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def flipped(share: float) -> Callable[[Path], None]:
    """Flip one bit of the byte at a fraction of the file's length."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[min(int(share * len(content)), len(content) - 1)] ^= 4
        path.write_bytes(content)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return damage


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": replaced(b""),
    "zeros": replaced(bytes(4096)),
    "ones": replaced(b"\xff" * 4096),
    "text": replaced(b"hello\n"),
    "a list": replaced(b"[1, 2]"),
    "null": replaced(b"null"),
    "an empty object": replaced(b"{}"),
    "deep": replaced(b'{"a": ' + b"[" * 100_000),
    "no UTF-8": replaced(b'{"a": "\xe9"}'),
    "a number without end": replaced(b'{"a": ' + b"1" * 5000 + b"}"),
    "cut to a tenth": cut(0.1),
    "cut in half": cut(0.5),
    "cut by a little": cut(0.99),
    "a bit of the first byte": flipped(0.0),
    "a bit of a hundredth": flipped(0.01),
    "a bit of a third": flipped(0.33),
    "a bit of two thirds": flipped(0.67),
    "a bit of the last byte": flipped(1.0),
    "twice": lambda path: path.write_bytes(path.read_bytes() * 2),
    "a folder": instead(Path.mkdir),
    "a pipe": instead(os.mkfifo),
    "a device": instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": instead(lambda path: path.symlink_to(path)),
}
HUGE = [-1, 0, 10**9, 10**30, 1e308, "7", "", None, True, [], {}, "\ud800", "x" * 10**6]


@pytest.fixture
def folder(tmp_path, monkeypatch, load_once, model_folder, style_folder, mapping_folder, picture) -> Path:
    """One of everything that a command reads."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(style_folder, "model")
    shutil.copytree(mapping_folder, "learned")
    picture.save("picture.png")
    Image.new("L", (64, 48), 255).save("mask.png")
    return tmp_path


@contextmanager
def in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"it took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def contents(folder: Path) -> dict[str, bytes | None]:
    found = {}
    for path in folder.rglob("*"):
        is_read = path.is_file() and not path.is_symlink()
        found[path.relative_to(folder).as_posix()] = path.read_bytes() if is_read else None
    return found


def law(folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], ours: bool = True) -> int:
    """Run a command, and check what must hold for every command.

    Args:
        ours: Whether the sentence is this project's, and not that of a library that loads models.
    """
    before = contents(folder)
    capsys.readouterr()
    with in_time():
        try:
            code = main(command)
        except SystemExit as error:  # argparse's
            code = int(error.code or 0)
    printed, told = capsys.readouterr()
    lines = [line for line in re.split(r"[\r\n]+", told) if "error: " in line]
    after = contents(folder)
    assert not RAW.search(told), told
    assert not any(".semantic-edit-" in name for name in after), after.keys()
    if code == 0:
        assert lines == []
        assert all((folder / name).exists() for name in printed.split() if name in after)
    else:
        assert code == 2, told
        assert len(lines) == 1, told
        assert not ours or not re.search(r"`[a-z_]*_[a-z_]*`|numpy|torch\.|\bpipe[.(]", lines[0]), lines[0]
        changed = {name for name in before | after if before.get(name) != after.get(name)}
        assert changed <= {"steps", "steps/inputs.json"}, changed  # a learning may have begun
    return code


EDIT = ["edit", "picture.png", *SOURCE, *PEAR, "-o", "out.png", "--steps", "2", "--model", "model"]
LEARN = ["learn", "picture.png", *PEAR, "-o", "new", "--steps", "2", "--model", "model"]
RESTYLE = ["restyle", "--mapping", "learned", *PEAR, "-o", "out.png", "--model", "model"]


@pytest.mark.usefixtures("loads_once")
@pytest.mark.parametrize("damage", DAMAGE)
class TestDamaged:
    def test_a_picture(self, folder, capsys, damage):
        DAMAGE[damage](folder / "picture.png")
        law(folder, capsys, EDIT)

    def test_a_mask(self, folder, capsys, damage):
        DAMAGE[damage](folder / "mask.png")
        law(folder, capsys, [*EDIT, "--mask", "mask.png"])
        law(folder, capsys, [*RESTYLE, "--mask", "mask.png", "--image", "picture.png"])

    def test_a_trajectory(self, folder, capsys, damage):
        assert law(folder, capsys, [*EDIT, "--save-trajectory", "way.safetensors"]) == 0
        DAMAGE[damage](folder / "way.safetensors")
        assert law(folder, capsys, [*EDIT, "--trajectory", "way.safetensors"]) == 2

    @pytest.mark.parametrize("file", ["config.json", "diffusion_pytorch_model.safetensors"])
    def test_a_mapping_network(self, folder, capsys, damage, file):
        assert law(folder, capsys, RESTYLE) == 0
        expected = Path("out.png").read_bytes()
        DAMAGE[damage](folder / "learned" / file)
        if (
            law(folder, capsys, RESTYLE) == 0
        ):  # nothing that matters, such as diffusers' version in the config
            assert file == "config.json"
            assert damage.startswith("a bit")
            assert Path("out.png").read_bytes() == expected

    @pytest.mark.parametrize("file", ["step-0000.safetensors", "step-0001.safetensors", "inputs.json"])
    def test_a_checkpoint(self, folder, capsys, damage, file):
        assert law(folder, capsys, [*LEARN, "--checkpoint", "steps"]) == 0
        shutil.rmtree("new")
        DAMAGE[damage](folder / "steps" / file)
        code = law(folder, capsys, [*LEARN, "--checkpoint", "steps"])
        assert code == (0 if damage == "missing" and file != "inputs.json" else 2)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
)
def test_a_damaged_model(folder, capsys, damage, file):
    DAMAGE[damage](folder / "model" / file)
    law(folder, capsys, EDIT, ours=False)


@pytest.mark.usefixtures("loads_once")
@pytest.mark.parametrize("value", HUGE, ids=lambda value: repr(value)[:20])
def test_no_entry_of_a_mapping_networks_config_can_be_changed(folder, capsys, value):
    path = folder / "learned" / "config.json"
    stored = json.loads(path.read_text())
    for name in stored:
        if name.startswith("_") or stored[name] == value:
            continue
        path.write_text(json.dumps({**stored, name: value}))
        assert law(folder, capsys, RESTYLE) == 2, name
    path.write_text(json.dumps(stored))
    assert law(folder, capsys, RESTYLE) == 0


NUMBERS = ["", "x", "-1", "0", "1e308", "inf", "nan", "9" * 40, "0x10", "\u0661", "\udcff", "1;2"]
OPTIONS = ["--steps", "--seed", "--strength", "--maps", "--mask-threshold", "--guidance-scale", "--mask-grow"]


@pytest.mark.usefixtures("loads_once")
@pytest.mark.parametrize("option", [*OPTIONS, "--mask-feather", "--size"])
def test_a_number_that_is_none_or_too_large(folder, capsys, option):
    for value in NUMBERS:
        law(folder, capsys, [*EDIT, f"{option}={value}"])


PLACES = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to(path.with_name("later.png")),
    "read-only": lambda path: (path.touch(), path.chmod(0o444)),
}


@pytest.mark.usefixtures("loads_once")
@pytest.mark.parametrize("place", PLACES)
def test_an_odd_destination(folder, capsys, place):
    PLACES[place](folder / "odd.png")
    for option in ("--output", "--save-mask", "--strip"):
        law(folder, capsys, [*EDIT, option, "odd.png"])
    law(folder, capsys, [*RESTYLE, "-o", "odd.png"])
    law(folder, capsys, [*LEARN, "-o", "odd.png"])
    law(folder, capsys, ["scene", "-o", "odd.png"])


@pytest.mark.usefixtures("loads_once")
@pytest.mark.parametrize("suffix", sorted(Image.registered_extensions()))
def test_every_suffix_that_pillow_knows(folder, capsys, suffix):
    law(folder, capsys, [*EDIT, "-o", f"out{suffix}"])
