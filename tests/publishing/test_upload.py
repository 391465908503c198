"""Learned images, pipelines and the model are uploaded to a Hub and loaded from it."""

import pytest

from semantic_edit.cli import main
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.publishing.published import PIPELINES
from tests.hub.conftest import READ_TOKEN, WRITE_TOKEN


@pytest.fixture
def folder(learned, tmp_path):
    learned.save_pretrained(tmp_path / "apple")
    return tmp_path / "apple"


@pytest.fixture
def publish(this_process, folder, capsys):
    """`semantic-edit publish mapping` of a learned picture, as the holder of a token; its exit code and output."""

    def publish(*options, token=WRITE_TOKEN, to="someone/apple"):
        this_process.setenv("HF_TOKEN", token) if token else None
        place = ["--to", to, "--license", "cc-by-4.0", "--base-model", "someone/model"]
        code = main(["publish", "mapping", str(folder), *place, *options])
        printed = capsys.readouterr()
        for secret in (WRITE_TOKEN, READ_TOKEN):
            assert secret not in printed.out + printed.err
        return code, printed.out, printed.err

    return publish


@pytest.mark.filterwarnings("error:The `local_dir_use_symlinks`")
def test_a_learned_picture_arrives_in_one_commit(publish, hub, learned, tmp_path):
    code, printed, _ = publish()
    assert code == 0
    assert "someone/apple (public), 3 files" in printed
    assert set(hub.files("someone/apple")) == {
        "README.md",
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    assert len(hub.commits("someone/apple")) == 2  # the Hub's own, and ours
    loaded = MappingNetwork.from_pretrained("someone/apple", cache_dir=tmp_path / "cache")
    for name, value in learned.state_dict().items():
        assert value.equal(loaded.state_dict()[name])


def test_the_advice_to_ask_for_a_traceback_can_be_followed(publish, folder, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("semantic_edit.publishing.upload.check_repo_id", broken)
    assert "boom (--traceback shows where)" in publish()[2]
    with pytest.raises(RuntimeError, match="boom"):
        publish("--traceback")
    with pytest.raises(RuntimeError, match="boom"):
        main(["publish", "--traceback", "mapping", str(folder), "--to", "a/b", "--license", "mit"])


def test_a_dry_run_shows_all_and_asks_the_hub_nothing(publish, hub, tmp_path):
    code, printed, _ = publish("--dry-run", "--private", "--output", str(tmp_path / "kept"), token=None)
    assert code == 0
    assert "someone/apple (private), 3 files" in printed
    assert (tmp_path / "kept" / "README.md").is_file()
    assert hub.requests == []


def test_a_folder_that_holds_something_is_not_written_to(publish, tmp_path):
    code, _, error = publish("--dry-run", "--output", str(tmp_path))
    assert code == 2
    assert "is not empty; choose another folder" in error


@pytest.mark.parametrize(
    ("token", "to", "reason"),
    [
        (None, "someone/apple", "No access token was found"),
        ("wrong", "someone/apple", "the access token is not valid"),
        (READ_TOKEN, "someone/apple", "may not write to someone/apple"),
        (WRITE_TOKEN, "another/apple", "may not write to another/apple"),
        (WRITE_TOKEN, "apple", "'apple' cannot be a repository on the Hub. Name it owner/name"),
        (
            WRITE_TOKEN,
            "some one/apple",
            "'some one/apple' cannot be a repository on the Hub. Name it owner/name",
        ),
    ],
)
def test_what_may_not_be_published_says_why(publish, hub, token, to, reason):
    code, _, error = publish(token=token, to=to)
    assert code == 2
    assert reason in error
    assert not hub.has_repo(to)


def test_private_holds_or_nothing_is_sent(publish, hub):
    hub.add_repo("someone/apple", {})
    code, _, error = publish("--private")
    assert code == 2
    assert "already exists and is public" in error
    assert hub.files("someone/apple") == {}


@pytest.mark.parametrize(
    ("spoiled", "outcome"),
    [
        ("/preupload/", 501),
        ("info/lfs/objects/batch", 501),  # the client would try the others again, for half a minute
        ("/commit/", "disconnect"),
        ("/commit/", 501),
    ],
)
def test_an_interrupted_upload_leaves_nothing_and_a_second_one_succeeds(publish, hub, spoiled, outcome):
    hub.fail_next(spoiled, outcome)
    code, _, error = publish()
    assert code == 2
    assert "Nothing was published" in error
    assert hub.files("someone/apple") == {}
    assert publish()[0] == 0
    assert len(hub.files("someone/apple")) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda whole: whole[: len(whole) // 2], "file should be of size|Consistency"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "is not what was saved"),
    ],
    ids=["cut short", "one bit"],
)
def test_a_tampered_file_is_refused(publish, hub, tmp_path, change, reason):
    publish()
    name = "diffusion_pytorch_model.safetensors"
    whole = hub.files("someone/apple")[name]
    hub.tamper("someone/apple", name, change(whole))
    with pytest.raises((OSError, ValueError), match=reason):
        MappingNetwork.from_pretrained("someone/apple", cache_dir=tmp_path / "cache")


def test_a_revision_that_is_not_there_is_named(publish, tmp_path):
    publish()
    with pytest.raises(OSError, match="missing-branch"):
        MappingNetwork.from_pretrained(
            "someone/apple", revision="missing-branch", cache_dir=tmp_path / "cache"
        )


def test_a_pickle_in_a_repository_is_not_read(hub, this_process, learned, tmp_path):
    learned.save_pretrained(tmp_path / "it")
    config = (tmp_path / "it" / "config.json").read_bytes()
    hub.add_repo("someone/pickled", {"config.json": config, "diffusion_pytorch_model.bin": b"\x80\x04."})
    with pytest.raises(OSError, match="safetensors"):
        MappingNetwork.from_pretrained("someone/pickled", cache_dir=tmp_path / "cache")


def test_a_push_from_python_does_not_tell_where_the_model_lay(hub, this_process, learned, tmp_path):
    learned.save_pretrained(tmp_path / "it")
    network = MappingNetwork.from_pretrained(tmp_path / "it")
    network.register_to_config(base_model=str(tmp_path))
    this_process.setenv("HF_TOKEN", WRITE_TOKEN)
    with pytest.warns(UserWarning, match="is not a repository on the Hub"):
        network.push_to_hub("someone/pushed")
    assert str(tmp_path).encode() not in b"".join(hub.files("someone/pushed").values())


@pytest.mark.parametrize("what", [*(["pipelines", name] for name in PIPELINES), ["model"]])
def test_pipelines_and_the_model_are_published_whole(hub, this_process, bundles_once, what, capsys):
    this_process.setenv("HF_TOKEN", WRITE_TOKEN)
    assert main(["publish", *what, "--to", "someone/it"]) == 0
    capsys.readouterr()
    files = hub.files("someone/it")
    assert "README.md" in files
    assert ("pipeline.py" in files) != ("unet/diffusion_pytorch_model.safetensors" in files)
    assert len(hub.commits("someone/it")) == 2
