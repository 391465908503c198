import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from semantic_edit.disk.reading import plain_text, several, whole_number
from semantic_edit.disk.sealed import read_sealed, sealed, tensor_digest

KIND = "semantic_edit.thing/1"
RULES = {"steps": several(whole_number(0, 10), 0, 5), "prompt": plain_text()}
FIELDS = {"steps": [1, 2], "prompt": "an apple"}
TENSORS = {"latents": torch.arange(6.0).view(2, 3), "half": torch.tensor([1.5], dtype=torch.float16)}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "thing.safetensors").write_bytes(sealed(KIND, FIELDS, TENSORS))
    return tmp_path / "thing.safetensors"


def read(path):
    return read_sealed(path, KIND, RULES, "thing")


def changed(path, fields=None, tensors=None, **metadata):
    """Write the file again, changed, without knowing how it is sealed."""
    with safe_open(path, "pt") as file:
        stored = file.metadata()
    text = stored["fields"] if fields is None else json.dumps({**json.loads(stored["fields"]), **fields})
    kept = {
        name: value for name, value in {**stored, "fields": text, **metadata}.items() if value is not None
    }
    save_file({**load_file(path), **(tensors or {})}, path, metadata=kept)


def test_what_was_sealed_comes_back(path):
    fields, tensors = read(path)
    assert fields == FIELDS
    assert tensors.keys() == TENSORS.keys()
    for name, value in tensors.items():
        assert value.dtype == TENSORS[name].dtype
        assert torch.equal(value, TENSORS[name])


def test_every_changed_byte_is_noticed(path):
    content = path.read_bytes()
    for index in range(len(content)):
        path.write_bytes(content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :])
        try:
            fields, tensors = read(path)
        except ValueError as error:
            refused = str(error)
        else:  # blanks around JSON mean nothing
            refused = repr(str(path))
            assert fields == FIELDS
            assert all(torch.equal(value, TENSORS[name]) for name, value in tensors.items())
        assert repr(str(path)) in refused


def test_every_cut_is_noticed(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"thing\.safetensors' cannot be read as a safetensors file"):
            read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {"prompt": "a pear"}},
        {"fields": {"more": 1}},
        {"tensors": {"latents": torch.zeros(2, 3)}},
        {"tensors": {"latents": TENSORS["latents"].view(3, 2)}},
        {"tensors": {"half": TENSORS["half"].float()}},
        {"tensors": {"more": torch.zeros(1)}},
        {"digest": ""},
        {"digest": None},
        {"digest": "0" * 32},
    ],
)
def test_a_change_is_noticed(path, change):
    changed(path, **change)
    with pytest.raises(
        ValueError, match=r"thing\.safetensors' is not what was written: it has been damaged or changed"
    ):
        read(path)


@pytest.mark.parametrize("kind", [None, "semantic_edit.thing/2", "", "{"])
def test_another_kind_of_file_is_refused(path, kind):
    changed(path, format=kind)
    with pytest.raises(
        ValueError, match=r"is not a thing: its format is .*, expected 'semantic_edit\.thing/1'"
    ):
        read(path)


@pytest.mark.parametrize("fields", [None, "", "[]", "{", "[" * 100_000, "3"])
def test_fields_that_are_no_object_are_refused(path, fields):
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "fields": fields}
    save_file(
        load_file(path), path, metadata={name: value for name, value in metadata.items() if value is not None}
    )
    with pytest.raises(ValueError, match=r"the description in '.*thing\.safetensors' (is|must)"):
        read(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"steps": [1]}, "lacks prompt"),
        ({**FIELDS, "more": 1}, "unknown entries more"),
        (
            {**FIELDS, "steps": [10**30]},
            "'steps' of the thing '.*thing.safetensors' must be a list of 0 to 5",
        ),
        ({**FIELDS, "prompt": None}, "'prompt' of the thing .* must be text"),
    ],
)
def test_fields_that_somebody_sealed_are_checked_all_the_same(path, fields, reason):
    path.write_bytes(sealed(KIND, fields, TENSORS))
    with pytest.raises(ValueError, match=reason):
        read(path)


def test_no_safetensors_file_is_one_sentence(tmp_path):
    for content in (
        b"",
        b"hello",
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 3) + b"[1]",
    ):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match=r"other' (cannot be read as a safetensors file|is not a thing)"):
            read(tmp_path / "other")
    with pytest.raises(ValueError, match="is a folder, and a file is needed"):
        read(tmp_path)


def test_the_digest_tells_every_bit():
    tensor = torch.zeros(2, 3)
    changed = tensor.clone()
    changed[1, 2] = -0.0
    others = [changed, tensor.view(3, 2), tensor.half(), tensor.bfloat16(), tensor.int()]
    assert len({tensor_digest(value) for value in [tensor, *others]}) == 6
    assert tensor_digest(tensor.T.contiguous().T) == tensor_digest(tensor)
