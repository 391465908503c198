"""A mapping network as a zip, which anyone may have made."""

import tempfile
import zipfile

import pytest
import torch

from semantic_edit.mapping_networks import pack_network, unpack_network
from semantic_edit.mapping_networks.archive import CONFIG, TENSORS


@pytest.fixture
def packed(network, tmp_path):
    (tmp_path / "apple.zip").write_bytes(pack_network(network))
    return tmp_path / "apple.zip"


def contents(archive):
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def written(path, files, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def test_what_was_packed_comes_back(network, packed):
    assert set(contents(packed)) == {"README.md", CONFIG, TENSORS}
    again = unpack_network(packed)
    assert again.config.prompt == network.config.prompt
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_a_folder_that_was_packed_as_a_whole_is_read_too(packed, tmp_path):
    inside = written(tmp_path / "whole.zip", [(f"apple/{name}", it) for name, it in contents(packed).items()])
    assert len(unpack_network(inside).state_dict()) > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda files: files[:1], r"odd\.zip must hold config\.json, diffusion_pytorch_model\.safetensors"),
        (lambda files: [*files, ("more.bin", b"")], r"nothing else but a README\.md"),
        (lambda files: [*files, ("again/config.json", b"{}")], r"nothing else but a README\.md"),
        (lambda files: [*files, ("../../config.json", b"{}")], r"nothing else but a README\.md"),
        (lambda files: [(name, it[:-1] + b"\0") for name, it in files], "config|saved"),
        (
            lambda files: [(name, it.replace(b"apple", b"pear!")) for name, it in files],
            r"odd\.zip' is not what was saved",
        ),
        (lambda files: [(name, b"{" if name == CONFIG else it) for name, it in files], "odd"),
        (lambda files: [(name, b"" if name == TENSORS else it) for name, it in files], "odd"),
    ],
    ids=["half", "more", "twice", "outside", "changed", "other words", "no config", "no tensors"],
)
def test_any_other_zip_is_refused(packed, tmp_path, change, reason):
    odd = written(tmp_path / "odd.zip", change(list(contents(packed).items())))
    with pytest.raises((ValueError, OSError), match=reason) as refused:
        unpack_network(odd)
    assert "odd.zip" in str(refused.value)
    assert tempfile.gettempdir() not in str(refused.value)  # whoever sent it knows only its name
    assert {one.name for one in tmp_path.iterdir()} == {"apple.zip", "odd.zip"}


def test_no_zip_a_bomb_and_a_damaged_one_are_refused(packed, tmp_path, monkeypatch):
    (tmp_path / "words.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"words\.zip is not a zip; pack the folder"):
        unpack_network(tmp_path / "words.zip")
    monkeypatch.setattr("semantic_edit.mapping_networks.archive.MOST_UNPACKED", 2**20)
    files = {**contents(packed), TENSORS: bytes(2**20)}
    bomb = written(tmp_path / "bomb.zip", files.items(), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"bomb\.zip holds more than 1 MB when unpacked"):
        unpack_network(bomb)
    whole = bytearray(packed.read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "damaged.zip").write_bytes(whole)
    with pytest.raises(ValueError, match=r"damaged\.zip cannot be unpacked: Bad CRC"):
        unpack_network(tmp_path / "damaged.zip")
