"""An edit as a command line and as Python, which make it again."""

import shlex

import numpy as np
import pytest
from PIL import Image

import semantic_edit
from semantic_edit.cli import main
from semantic_edit.mapping_networks import pack_network
from semantic_edit.recipes import edit_recipes, restyle_recipes
from semantic_edit.still_life.cases import edit_cases

ASKED = {
    "source_prompt": "a purple lemon on grass",
    "prompt": "-- a 'green' lemon on grass",
    "mask_threshold": 0.4,
    "preset": "default",
    "num_inference_steps": 3,
    "inpaint_strength": 0.7,
    "negative_prompt": None,
}


@pytest.mark.parametrize("has_mask", [False, True])
def test_both_make_the_same_edit(tmp_path, monkeypatch, capsys, has_mask):
    monkeypatch.chdir(tmp_path)
    (case,) = edit_cases(1, seed=1, kinds=("colour",), objects=1)
    case.image.save("picture.png")
    mask = Image.new("L", case.image.size)
    mask.paste(255, (30, 30, 90, 90))
    mask.save("mask.png")
    left_out = ("source_prompt", "mask_threshold") if has_mask else ()
    asked = {name: value for name, value in ASKED.items() if name not in left_out}
    command, python = edit_recipes(asked, 3, has_mask)
    pipe = semantic_edit.load()
    monkeypatch.setattr("semantic_edit.load", lambda: pipe)
    exec(python, {})
    made = np.asarray(Image.open("edited-again.png"))
    first, *words = shlex.split(command)
    assert first == "semantic-edit"
    assert main(words) == 0, capsys.readouterr().err
    assert np.array_equal(np.asarray(Image.open("edited-again.png")), made)


def test_a_model_is_named_in_both():
    command, python = edit_recipes({"prompt": "a pear"}, 0, False, "someone/model")
    assert "--model=someone/model" in command
    assert "semantic_edit.load('someone/model')" in python


@pytest.mark.parametrize("is_confined", [False, True])
def test_both_restyle_alike(tmp_path, monkeypatch, capsys, is_confined):
    monkeypatch.chdir(tmp_path)
    (case,) = edit_cases(1, seed=1, kinds=("colour",), objects=1)
    case.image.save("picture.png")
    pipe = semantic_edit.load(method="stylediffusion")
    network = pipe.learn_mapping(case.image, case.source_prompt, num_inference_steps=3)
    (tmp_path / "learned.zip").write_bytes(pack_network(network))
    prompts = ["-- a 'green' lemon on grass", case.prompt]
    commands, python = restyle_recipes(prompts, {"tau_v": 0.4, "tau_c": 0.5}, is_confined, has_image=True)
    exec(python, {})
    made = [np.asarray(Image.open(f"restyled-{number}.png")) for number in (1, 2)]
    unpack, command = (shlex.split(line) for line in commands.splitlines())
    assert unpack == ["python", "-m", "zipfile", "-e", "learned.zip", "learned"]
    assert main(command[1:]) == 0, capsys.readouterr().err
    for number, image in enumerate(made, start=1):
        assert np.array_equal(np.asarray(Image.open(f"restyled-{number}.png")), image)


def test_what_was_loaded_has_no_picture_to_lay_edits_over():
    commands, python = restyle_recipes(
        ["a pear"], {}, is_confined=True, has_image=False, model="someone/model"
    )
    assert "picture.png" not in commands + python
    assert "--mask=auto" in commands
    assert "--model=someone/model" in commands
    assert "semantic_edit.load('someone/model', \"stylediffusion\")" in python
