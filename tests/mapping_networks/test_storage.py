import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from diffusers.models import modeling_utils
from diffusers.utils import hub_utils
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from semantic_edit.disk import writing
from semantic_edit.mapping_networks import MappingNetwork, model_card

WEIGHTS = "diffusion_pytorch_model.safetensors"
EXAMPLE = Path(__file__).parents[2] / "model_cards" / "mapping-network.md"


@pytest.fixture
def folder(network, tmp_path):
    network.save_pretrained(tmp_path / "apple")
    return tmp_path / "apple"


def test_the_tensors_can_be_read_by_whoever_reads_the_config(folder):
    modes = {path.name: path.stat().st_mode for path in folder.iterdir()}
    assert len(set(modes.values())) == 1, modes


def assert_same(loaded, network):
    assert {name: value for name, value in loaded.config.items() if name[0] != "_"} == {
        name: value for name, value in network.config.items() if name[0] != "_"
    }
    stored = network.state_dict()
    assert loaded.state_dict().keys() == stored.keys()
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name])


@pytest.mark.parametrize("variant", ["modulate", "direct"])
def test_saving_and_loading_give_the_same_network(make_network, tmp_path, variant):
    network = make_network(variant=variant)
    network.save_pretrained(tmp_path / "apple")
    assert sorted(path.name for path in (tmp_path / "apple").iterdir()) == [
        "README.md",
        "config.json",
        WEIGHTS,
    ]
    loaded = MappingNetwork.from_pretrained(tmp_path / "apple", local_files_only=True)
    assert_same(loaded, network)
    text = torch.randn(2, 4, 6)
    assert torch.equal(loaded.value_embeds(1, text), network.value_embeds(1, text))
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "apple" / WEIGHTS).read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [{"torch_dtype": torch.float16}, {"dtype": torch.bfloat16}, {"use_safetensors": True}]
)
def test_loading_keeps_float32(folder, network, options):
    assert_same(MappingNetwork.from_pretrained(folder, **options), network)


def test_a_half_precision_copy_is_another_network(folder):
    save_file({name: value.half() for name, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    with pytest.raises(ValueError, match="is not what was saved"):
        MappingNetwork.from_pretrained(folder)


def test_loading_info_and_subfolders_are_the_hosts(folder, network):
    loaded, info = MappingNetwork.from_pretrained(folder.parent, subfolder="apple", output_loading_info=True)
    assert_same(loaded, network)
    assert info["missing_keys"] == []


def test_a_config_is_read_as_every_supported_version_of_diffusers_asks_for_it(folder):
    """Before 0.41 with one argument more."""
    read = MappingNetwork._dict_from_json_file
    assert read(folder / "config.json", dduf_entries=None) == read(folder / "config.json")


@pytest.mark.slow
def test_loading_in_another_process(folder, network):
    code = (
        "import sys, torch; from semantic_edit.mapping_networks import MappingNetwork as M; "
        "print(M.from_pretrained(sys.argv[1]).value_embeds(1, torch.ones(1, 4, 6)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == network.value_embeds(1, torch.ones(1, 4, 6)).tolist()


def change_weights(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("trajectory"), r"do not fit .*\(trajectory: missing\)"),
        (lambda tensors: tensors.update(other=torch.zeros(1)), r"\(other: not one of this network's\)"),
        (
            lambda tensors: tensors.update(image_tokens=torch.zeros(5, 9)),
            r"\(image_tokens: got \(5, 9\), the config asks for \(5, 7\)\)",
        ),
        (
            lambda tensors: tensors.update(conv_in_weight=torch.zeros(2, 8, 5)),
            r"conv_in_weight: got \(2, 8, 5\), the config asks for \(3, 8, 5\)",
        ),
    ],
)
def test_other_tensors_are_refused_with_both_sides(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(ValueError, match=message):
        MappingNetwork.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 3, "novelty": 1}, "format version 3, .* reads up to 2: upgrade"),
        ({"novelty": 1}, "lacks nothing and has unknown entries novelty"),
        ({"timesteps": None}, "lacks timesteps and has unknown entries"),
        (
            {"num_text_tokens": "4"},
            "'num_text_tokens' of a mapping network must be an integer from 1 to 8192, got '4'",
        ),
    ],
)
def test_another_config_is_refused(folder, change, message):
    stored = {**json.loads((folder / "config.json").read_text()), **change}
    kept = {name: value for name, value in stored.items() if value is not None or name not in change}
    (folder / "config.json").write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=message):
        MappingNetwork.from_pretrained(folder)


def test_pickles_are_neither_read_nor_written(folder, network, tmp_path):
    torch.save(load_file(folder / WEIGHTS), folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(OSError, match=f"no file named {WEIGHTS}"):
        MappingNetwork.from_pretrained(folder)
    with pytest.raises(ValueError, match="can only be loaded from safetensors"):
        MappingNetwork.from_pretrained(folder, use_safetensors=False)
    with pytest.raises(ValueError, match="can only be saved as safetensors"):
        network.save_pretrained(tmp_path / "pickle", safe_serialization=False)


def test_a_truncated_file_is_refused(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-40])
    with pytest.raises(OSError, match="Unable to load weights"):
        MappingNetwork.from_pretrained(folder)


def test_saving_again_replaces_the_network(folder, make_network):
    other = make_network(prompt="a green pear")
    other.save_pretrained(folder)
    assert_same(MappingNetwork.from_pretrained(folder), other)
    assert "a green pear" in (folder / "README.md").read_text()


def test_an_interrupted_save_leaves_the_old_network(folder, network, make_network, monkeypatch):
    def interrupted(file, content):
        file.write(content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_write_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_network(prompt="a green pear").save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", WEIGHTS]
    assert_same(MappingNetwork.from_pretrained(folder), network)


def test_a_full_disk_leaves_no_folder_and_names_the_file(network, tmp_path, monkeypatch):
    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "_write_all", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*apple/README\.md'"):
        network.save_pretrained(tmp_path / "new" / "apple")
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_event_the_folder_holds_the_old_network_or_the_new_one(
    folder, network, make_network, tmp_path, killed_anywhere
):
    other, seen = make_network(prompt="a green pear"), set()
    other.save_pretrained(tmp_path / "other")  # which tells it its digest
    for left in killed_anywhere(folder, lambda: other.save_pretrained(folder)):
        loaded = MappingNetwork.from_pretrained(left, local_files_only=True)
        assert_same(loaded, network if loaded.config.prompt == network.config.prompt else other)
        seen.add(loaded.config.prompt)
        assert sorted(os.listdir(left)) == ["README.md", "config.json", WEIGHTS]
    assert len(seen) == 2


def test_killed_at_any_event_of_a_first_save_it_can_be_saved_again(network, tmp_path, killed_anywhere):
    moments = killed_anywhere(tmp_path / "new", lambda: network.save_pretrained(tmp_path / "new"))
    assert len(moments) > 10
    for left in moments:
        network.save_pretrained(left)
        assert_same(MappingNetwork.from_pretrained(left), network)
        assert sorted(os.listdir(left)) == ["README.md", "config.json", WEIGHTS]


def test_the_card_tells_what_it_is(folder):
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "diffusers"
    assert card.data.base_model == "someone/still-life"
    assert "mapping-network" in card.data.tags
    for part in (
        '# A picture to edit with words: "a red apple on grass"',
        "| base model | someone/still-life |",
        "| reconstruction, PSNR | 40.2 dB |",
        "| reconstruction, SSIM | not measured |",
        "| learning | inner_steps 3, learning_rate 0.01, stop_on latent_error |",
        f'learned = pipe.load_mapping_network("{folder}")',
    ):
        assert part in card.text, part
    code = card.text.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) == 5
    compile(code, "card", "exec")


@pytest.mark.parametrize(
    ("prompt", "base_model"),
    [
        ('a "red" apple\n---\nlicense: mit', "/home/someone/models/still-life"),
        ("", ""),
        ("un café | `rm` <b>{title}</b> \\ 'x'", "stable diffusion\nlicense: mit"),
    ],
)
def test_no_prompt_or_base_model_breaks_the_card(config, prompt, base_model):
    text = model_card({**config, "prompt": prompt, "base_model": base_model}, "someone/apple")
    header = yaml.safe_load(text.split("---\n")[1])
    assert "base_model" not in header
    assert "license" not in header
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert len([line for line in text.split("\n") if line.startswith("|")]) == 16


def test_the_example_card_is_what_the_code_writes(config):
    assert EXAMPLE.read_text(encoding="utf-8") == model_card(config, "someone/red-apple"), (
        "write the card again: `model_card(CONFIG, 'someone/red-apple')` of this folder's conftest.py"
    )


@pytest.fixture
def uploads(monkeypatch):
    """What would have been uploaded to the Hub: for each upload, the repository and the contents of its files."""
    sent = []

    def upload_folder(repo_id, folder_path, **options):
        contents = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        sent.append((repo_id, contents, options))
        return "address"

    def create_repo(repo_id, **options):
        return type("Repo", (), {"repo_id": f"someone/{repo_id}" if "/" not in repo_id else repo_id})

    monkeypatch.setattr(hub_utils, "upload_folder", upload_folder)
    for module in (hub_utils, modeling_utils):
        monkeypatch.setattr(module, "create_repo", create_repo)
        monkeypatch.setattr(module, "load_or_create_model_card", lambda *args, **options: ModelCard("empty"))
    return sent


@pytest.mark.parametrize("way", ["push_to_hub", "save_pretrained"])
def test_pushing_sends_our_card(network, uploads, tmp_path, way):
    if way == "push_to_hub":
        network.push_to_hub("someone/red-apple", commit_message="An apple")
    else:
        network.save_pretrained(tmp_path / "red-apple", push_to_hub=True, commit_message="An apple")
        assert (tmp_path / "red-apple" / "config.json").is_file()
    ((repo_id, contents, options),) = uploads
    assert repo_id == "someone/red-apple"
    assert sorted(contents) == ["README.md", "config.json", WEIGHTS]
    assert contents["README.md"].decode() == model_card(network.config, "someone/red-apple")
    assert options["commit_message"] == "An apple"
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert_same(MappingNetwork.from_pretrained(tmp_path), network)


NOT_AS_SAVED = (
    r"The mapping network in '.*apple' is not what was saved: its config or its tensors have been damaged"
)


def test_a_network_of_the_first_format_is_read(make_network, tmp_path):
    """It has the noisiest level alone, so the source is not put back."""
    old = make_network(format_version=1)
    assert old.walk is None
    old.save_pretrained(tmp_path)
    assert torch.equal(load_file(tmp_path / WEIGHTS)["latents"], old.noisiest)
    assert_same(MappingNetwork.from_pretrained(tmp_path), old)


def test_a_value_that_was_changed_is_noticed(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["trajectory"][0, 0, 0, 0] += 1e-6
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match=NOT_AS_SAVED):
        MappingNetwork.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a green apple on grass"},
        {"negative_prompt": "fog"},
        {"guidance_scale": 7.0},
        {"base_model": "someone/else"},
        {"base_fingerprint": ""},
        {"learning": {}},
        {"reconstruction_psnr": None},
        {"digest": ""},
        {"digest": "0" * 32},
    ],
)
def test_an_entry_of_the_config_that_was_changed_is_noticed(folder, change):
    stored = json.loads((folder / "config.json").read_text())
    assert {**stored, **change} != stored
    (folder / "config.json").write_text(json.dumps({**stored, **change}))
    with pytest.raises(ValueError, match=NOT_AS_SAVED):
        MappingNetwork.from_pretrained(folder)


def test_a_config_without_a_digest_is_refused(folder):
    stored = json.loads((folder / "config.json").read_text())
    del stored["digest"]
    (folder / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=NOT_AS_SAVED):
        MappingNetwork.from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is malformed JSON at line 1, column 1"),
        ("{", "is malformed JSON"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("[" * 100_000, "is JSON that cannot be read"),
        ("{}", "lacks guidance_scale, image_width"),
    ],
)
def test_a_config_that_is_none_is_refused_with_its_name(folder, text, reason):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"apple/config\.json'.* {reason}"):
        MappingNetwork.from_pretrained(folder)


def test_a_pipe_as_config_does_not_hang(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises((ValueError, OSError), match=r"config\.json"):
        MappingNetwork.from_pretrained(folder)


def test_a_base_model_that_is_named_afterwards_is_kept(folder, tmp_path):
    network = MappingNetwork.from_pretrained(folder)
    network.register_to_config(base_model="someone/else")
    network.save_pretrained(tmp_path / "again")
    assert MappingNetwork.from_pretrained(tmp_path / "again").config.base_model == "someone/else"


def test_a_config_does_not_tell_where_it_was_loaded_from(folder, tmp_path):
    MappingNetwork.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert str(folder) not in (tmp_path / "again" / "config.json").read_text()
