"""What is uploaded, and what never is."""

import pytest

from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.publishing.errors import PublishError
from semantic_edit.publishing.repositories import build_mapping, check_repository
from tests.publishing.test_cards import GOOD, write


@pytest.fixture
def folder(learned, tmp_path):
    learned.save_pretrained(tmp_path / "learned")
    return tmp_path / "learned"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("weights.bin", b"", "weights.bin may hold a pickle"),
        ("deep/model.PT", b"", "deep/model.PT may hold a pickle"),
        (".env", b"", ".env is hidden"),
        ("notes.txt", b"hf_" + b"a" * 34, "notes.txt holds what looks like an access token"),
    ],
)
def test_what_must_not_be_sent_is_refused(tmp_path, name, content, reason):
    write(tmp_path, GOOD)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PublishError, match=reason):
        check_repository(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, GOOD)
    (folder / "password").symlink_to("/etc/passwd")
    with pytest.raises(PublishError, match="password is a link"):
        check_repository(folder)


def test_a_mapping_network_is_sent_without_what_else_lies_in_its_folder(folder, tmp_path):
    (folder / "private.txt").write_text("mine")
    (folder / "picture.png").write_bytes(b"mine too")
    built = tmp_path / "repository"
    built.mkdir()
    build_mapping(folder, built, "someone/apple", "cc-by-4.0", "someone/model")
    names = {name for name, _ in check_repository(built)}
    assert names == {"README.md", "config.json", "diffusion_pytorch_model.safetensors"}
    card = (built / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "base_model: someone/model" in card
    assert 'load_mapping_network("someone/apple")' in card
    assert MappingNetwork.from_pretrained(built).config.base_model == "someone/model"


def test_a_base_model_that_only_this_machine_has_must_be_named(folder, tmp_path):
    network = MappingNetwork.from_pretrained(folder)
    for named in (str(tmp_path), "..", "a/..", ""):
        network.register_to_config(base_model=named)
        network.save_pretrained(folder)
        with pytest.raises(PublishError, match=r"others cannot load.*--base-model"):
            build_mapping(folder, tmp_path, "someone/apple", "cc-by-4.0")


def test_a_folder_without_a_mapping_network_is_refused(tmp_path):
    with pytest.raises(PublishError, match="does not contain a readable mapping network"):
        build_mapping(tmp_path, tmp_path, "someone/apple", "cc-by-4.0")
