import argparse
import copy
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.learn_command import CHECKPOINT_FILE, _check_folders, add_options
from semantic_edit.mapping_networks import VARIANTS, LearningSettings, MappingNetwork
from semantic_edit.mapping_networks.checkpoint import INPUTS_FILE
from semantic_edit.pipelines import StyleDiffusionPipeline


@pytest.fixture
def learn(tmp_path, style_folder, picture_file, load_once, monkeypatch):
    """Run `semantic-edit learn` on the tiny model in an empty folder, and return its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semantic_edit.learn_command.load_pipeline", load_once)

    def run(*options):
        model = () if "--model" in options else ("--model", style_folder)
        words = ("--prompt", "a red apple on grass", "-o", "mapping", "--steps", "2")
        return main([str(part) for part in ("learn", picture_file, *words, *model, *options)])

    return run


@pytest.fixture
def calls(monkeypatch):
    """Record the arguments of the pipeline, and interrupt it."""
    seen = {}

    def learn_mapping(_pipe, image, prompt, **arguments):
        seen.update(image=image, prompt=prompt, **arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(StyleDiffusionPipeline, "learn_mapping", learn_mapping)
    return seen


def test_a_learned_picture_is_written_and_its_quality_told(learn, style_folder, capsys):
    assert learn() == 0
    network = MappingNetwork.from_pretrained("mapping")
    assert network.config.prompt == "a red apple on grass"
    assert network.config.base_model == str(style_folder)
    told = capsys.readouterr().out.splitlines()
    assert told == ["mapping", f"reconstruction: {network.config.reconstruction_psnr:.1f} dB"]


def test_a_model_that_gives_nan_leaves_nothing_behind(learn, make_style_pipe, tmp_path, only_error):
    unet = copy.deepcopy(make_style_pipe().unet)
    torch.nn.init.constant_(unet.conv_out.bias, float("nan"))
    make_style_pipe(unet=unet).save_pretrained(tmp_path / "broken")
    assert learn("--model", tmp_path / "broken") == 2
    assert "came from the inversion at step 0 (timestep 1)" in only_error()
    assert sorted(os.listdir(tmp_path)) == ["broken", "picture.png"]


def test_a_learned_picture_is_replaced_and_a_seed_repeats_it(learn):
    written = []
    for seed in ("3", "3", "4"):
        assert learn("--seed", seed) == 0
        written.append(MappingNetwork.from_pretrained("mapping").state_dict())
    first, again, other = written
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_one_that_did_not_converge_is_told_in_the_command_lines_own_words(learn, monkeypatch, capsys):
    strict = LearningSettings(converged_below=1e-9)
    monkeypatch.setattr(LearningSettings, "short", lambda: strict)
    assert learn() == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("semantic-edit: warning: the learning did not converge")
    assert warnings[0].endswith("try --schedule published")


def test_options_reach_the_pipeline_by_its_own_names(learn, calls):
    named = ("--guidance-scale", "3", "--variant", "direct", "--checkpoint", "steps")
    Image.new("L", (64, 48), 255).save("mask.png")
    closer = ("--size", "32x16", "--mask", "mask.png", "--no-focus")
    assert learn(*named, "--gradient-checkpointing", "--schedule", "published", "--seed", "9", *closer) == 130
    assert calls.pop("image").size == calls.pop("mask_image").size == (64, 48)
    settings = calls.pop("settings")
    assert settings.seed == 9
    assert settings.inner_steps == LearningSettings.published().inner_steps
    assert calls == {
        "prompt": "a red apple on grass",
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "variant": "direct",
        "checkpoint": Path("steps"),
        "gradient_checkpointing": True,
        "width": 32,
        "height": 16,
        "focus": False,
    }
    assert not Path("mapping").exists()


def test_options_left_out_stay_with_the_pipelines_defaults(learn, calls):
    assert learn() == 130
    assert calls.pop("settings") == LearningSettings.short()
    assert set(calls) == {"image", "prompt", "num_inference_steps", "gradient_checkpointing"}


def test_every_variant_can_be_typed():
    parser = argparse.ArgumentParser()
    add_options(parser)
    for variant in VARIANTS:
        typed = ["a.png", "--prompt", "an apple", "-o", "mapping", "--variant", variant]
        assert parser.parse_args(typed).variant == variant


def test_a_checkpoint_is_gone_on_from_and_refused_to_another_learning(learn, only_error, capsys):
    assert learn("--checkpoint", "steps") == 0
    assert sorted(os.listdir("steps"))[0] == "inputs.json"
    first = MappingNetwork.from_pretrained("mapping").state_dict()
    assert learn("--checkpoint", "steps") == 0
    again = MappingNetwork.from_pretrained("mapping").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert learn("--checkpoint", "steps", "--seed", "4") == 2
    assert "settings.seed: checkpoint 0, this call 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-o", "missing/mapping"), "there is no folder"),
        (("-o", "picture.png"), "is a file; choose a folder"),
        (("-o", "."), "--output . holds something other than a mapping network"),
        (("--checkpoint", "."), "--checkpoint . holds something other than a checkpoint"),
        (("--checkpoint", "mapping/steps"), "--checkpoint mapping/steps lies in --output mapping"),
        (("--size", "60x48"), "the model takes only multiples of 8"),
        (("--focus",), "--focus works on the area around a mask; pass one with --mask"),
        (("--mask", "nowhere.png"), "nowhere.png cannot be read"),
        (("--image-encoder", "picture.png"), "is a file; choose the folder of a CLIP vision model"),
        (("--model", "nowhere"), "there is no such folder, and a Hub id has the form owner/name"),
        (("--image-encoder", "nowhere"), "--image-encoder nowhere: there is no such folder"),
        (("--image-encoder", "."), "a folder without config.json is not a CLIP vision model"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(learn, tmp_path, only_error, options, reason):
    before = sorted(os.listdir(tmp_path))
    assert learn(*options) == 2
    line = only_error()
    assert line.startswith("semantic-edit: error: ")
    assert reason in line
    assert sorted(os.listdir(tmp_path)) == before


def test_another_models_folder_is_not_overwritten(learn, style_folder, only_error):
    assert learn("-o", style_folder / "unet") == 2
    assert "holds something other than a mapping network" in only_error()


def test_a_folder_is_refused_before_the_model_is_loaded(learn, monkeypatch):
    monkeypatch.setattr("semantic_edit.learn_command.load_pipeline", None)
    assert learn("-o", ".") == 2


def test_a_model_without_an_image_encoder_takes_one_from_a_folder(
    learn, model_folder, image_encoder, feature_extractor, tmp_path, only_error, capsys
):
    assert learn("--model", model_folder) == 2
    assert "no image encoder" in only_error()
    image_encoder.save_pretrained(tmp_path / "clip")
    feature_extractor.save_pretrained(tmp_path / "clip")
    assert learn("--model", model_folder, "--image-encoder", tmp_path / "clip") == 0


def test_a_damaged_image_encoder_is_one_line(learn, tmp_path, only_error):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text("{}")
    assert learn("--image-encoder", "clip") == 2
    assert only_error().startswith("semantic-edit: error: cannot load the image encoder ")


def test_killed_in_its_final_save_it_can_be_typed_again(learned, tmp_path, killed_anywhere):
    moments = killed_anywhere(tmp_path / "mapping", lambda: learned.save_pretrained(tmp_path / "mapping"))
    assert len(moments) > 10
    for left in moments:
        _check_folders(left, None)
        learned.save_pretrained(left)
        assert MappingNetwork.from_pretrained(left).config.prompt == learned.config.prompt


def test_the_checkpoints_file_is_called_as_it_is_written():
    assert CHECKPOINT_FILE == INPUTS_FILE
