import os
import shutil

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.files import UsageError
from semantic_edit.loading import load_pipeline_for
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines import StyleDiffusionPipeline, StyleDiffusionPipelineOutput
from semantic_edit.pipelines.strips import CAPTION_HEIGHT, GAP, PANEL_HEIGHT
from semantic_edit.still_life import model_path

PEAR, BLUE = "a green pear on grass", "a blue apple on grass"
PANEL_WIDTH = round(64 * PANEL_HEIGHT / 48)


@pytest.fixture
def run(tmp_path, style_folder, mapping_folder, picture_file, load_once, monkeypatch):
    """Run a command on the tiny model and the learned picture in an empty folder, and return its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semantic_edit.loading.load_pipeline", load_once)

    def run(command, *options):
        mapping = () if "--mapping" in options else ("--mapping", mapping_folder)
        model = () if "--model" in options else ("--model", style_folder)
        return main([str(part) for part in (command, *mapping, *model, "-o", "out.png", *options)])

    return run


@pytest.fixture
def restyle(run):
    return lambda *options: run("restyle", *(() if "--prompt" in options else ("--prompt", PEAR)), *options)


@pytest.fixture
def calls(monkeypatch):
    """Record the arguments of the pipeline, and interrupt it."""
    seen = {}

    def call(_pipe, prompt, mapping_network, **arguments):
        seen.update(prompt=prompt, **arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(StyleDiffusionPipeline, "__call__", call)
    return seen


def named_after(mapping_folder, base_model, folder):
    """A copy of a mapping network that was learned with another model."""
    network = MappingNetwork.from_pretrained(mapping_folder)
    network.register_to_config(base_model=base_model)
    network.save_pretrained(folder)


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("option", [("--local-blend", "half \udcff"), ("--reweight", "half \udcff=2")])
def test_a_word_that_is_no_text_is_a_usage_error(restyle, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        restyle(*option)
    assert f"argument {option[0]}: text in UTF-8 is needed, got 'half \\udcff'" in capsys.readouterr().err


def test_one_prompt_writes_one_picture(restyle, tmp_path, capsys):
    assert restyle("--save-reconstruction", "source.png") == 0
    assert capsys.readouterr().out.split() == ["out.png", "source.png"]
    assert sorted(os.listdir(tmp_path)) == ["out.png", "picture.png", "source.png"]
    assert Image.open("out.png").size == Image.open("source.png").size == (64, 48)
    assert (pixels("out.png") != pixels("source.png")).any()


def test_several_prompts_write_numbered_pictures_and_a_strip_of_all(restyle, tmp_path, capsys):
    assert restyle("--prompt", PEAR, "--prompt", BLUE, "--strip", "strip.png") == 0
    assert capsys.readouterr().out.split() == ["out-1.png", "out-2.png", "strip.png"]
    assert sorted(os.listdir(tmp_path)) == ["out-1.png", "out-2.png", "picture.png", "strip.png"]
    assert (pixels("out-1.png") != pixels("out-2.png")).any()
    assert Image.open("strip.png").size == (
        3 * (PANEL_WIDTH + GAP) + GAP,
        CAPTION_HEIGHT + PANEL_HEIGHT + GAP,
    )


def test_a_prompt_may_be_the_pictures_own(restyle):
    own = "a red apple on grass"
    assert restyle("--prompt", own, "--prompt", own, "--strip", "strip.png") == 0
    assert Image.open("strip.png").width == 3 * (PANEL_WIDTH + GAP) + GAP


def test_outside_a_mask_the_pictures_own_pixels_stay(restyle, picture_file):
    mask = Image.new("L", (64, 48))
    mask.paste(255, (0, 0, 32, 48))
    mask.save("mask.png")
    assert restyle("--mask", "mask.png", "--image", picture_file) == 0
    same = (pixels("out.png") == pixels(picture_file)).all(axis=-1)
    assert same[:, 32:].all()
    assert not same[:, :32].all()


def test_a_mask_is_found_where_the_descriptions_differ(restyle, picture_file):
    assert restyle("--mask", "auto", "--image", picture_file) == 0
    same = (pixels("out.png") == pixels(picture_file)).all(axis=-1)
    assert same.any()
    assert not same.all()
    assert restyle("--image", picture_file, "-o", "again.png") == 0
    assert (pixels("again.png") == pixels("out.png")).all()
    assert (
        restyle("--mask", "auto", "-o", "alone.png", "--strip", "strip.png", "--mask-threshold", "0.6") == 0
    )
    assert Image.open("strip.png").width == 3 * (PANEL_WIDTH + GAP) + GAP  # with the mask
    assert (pixels("alone.png") != pixels("out.png")).any()


def test_options_reach_the_pipeline_by_its_own_names(restyle, calls, picture_file):
    Image.new("L", (64, 48), 255).save("mask.png")
    taus = ("--tau-v", "0.1", "--tau-c", "0.2", "--tau-s", "0.3", "--tau-u", "0")
    words = ("--reweight", "pear=2", "--reweight", "grass=-.5", "--local-blend", "pear", "--local-blend", "a")
    guidance = ("--edit-type", "refine", "--guidance-scale", "3", "--negative-prompt", "photo")
    mask = ("--mask", "mask.png", "--mask-grow", "-8", "--mask-feather", "4", "--image", picture_file)
    assert restyle(*taus, *words, *guidance, *mask) == 130
    assert calls.pop("mask_image").size == (64, 48)
    assert calls.pop("image").size == (64, 48)
    assert calls == {
        "prompt": [PEAR],
        "tau_v": 0.1,
        "tau_c": 0.2,
        "tau_s": 0.3,
        "tau_u": 0.0,
        "edit_type": "refine",
        "reweight": {"pear": 2.0, "grass": -0.5},
        "local_blend": ["pear", "a"],
        "guidance_scale": 3.0,
        "negative_prompt": "photo",
        "mask_grow": -8,
        "mask_feather": 4.0,
        "preserve_background": True,
    }


def test_another_picture_than_the_learned_one_is_refused(restyle, picture_file, only_error):
    Image.new("L", (64, 48), 255).save("mask.png")
    Image.open(picture_file).resize((8, 8)).save("small.png")
    assert restyle("--mask", "mask.png", "--image", "small.png") == 2
    assert "--image must be the learned picture, 64 x 48 pixels" in only_error()
    Image.new("RGB", (64, 48)).save("black.png")
    assert restyle("--mask", "mask.png", "--image", "black.png") == 2
    assert "they are of one size and look different" in only_error()


def test_options_left_out_stay_with_the_pipelines_defaults(restyle, calls):
    assert restyle() == 130
    assert set(calls) == {"prompt"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-o", "missing/out.png"), "there is no folder"),
        (("-o", "out.txt"), "the name must end in one of .png"),
        (("--strip", "out.png"), "--strip and --output are the same file"),
        (
            ("--prompt", PEAR, "--prompt", BLUE, "--strip", "out-2.png"),
            "--strip and image 2 of --output are the same file",
        ),
        (("--mask", "nowhere.png"), "nowhere.png cannot be read: No such file"),
        (("--mask", "picture.png", "-o", "picture.png"), "--output and --mask are the same file"),
        (("--mask", "./auto"), "auto cannot be read: No such file"),
        (("--mask-threshold", "0.5"), "--mask-threshold only affects how a mask is found, by --mask auto"),
        (("--mask-feather", "2"), "--mask-feather has no effect without --mask"),
        (("--reweight", "mug=2"), "--reweight does not fit the prompts: 'mug' is not in"),
        (("--local-blend", "mug"), "--local-blend does not fit the prompts: 'mug' is not in"),
        (
            ("--negative", "fog", "--guidance-scale", "1"),
            "--negative has no effect with a --guidance-scale of 1",
        ),
        (("--prompt", "a pear", "--edit-type", "replace"), "Replacing needs prompts with equally many words"),
        (("--mapping", "nowhere"), "--mapping nowhere: there is no such folder, and a Hub id has the form"),
        (("--mapping", "."), "a folder without config.json is not a mapping network"),
        (("--mapping", "picture.png"), "is a file; choose the folder of a mapping network, or a Hub id"),
        (("--model", "nowhere"), "--model nowhere: there is no such folder"),
        (("--model", str(model_path())), "does not fit this call"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(restyle, tmp_path, only_error, options, reason):
    before = sorted(os.listdir(tmp_path))
    assert restyle(*options) == 2
    line = only_error()
    assert line.startswith("semantic-edit: error: ")
    assert reason in line
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "option",
    [
        ("--tau-v", "1.5"),
        ("--tau-u", "x"),
        ("--reweight", "pear"),
        ("--reweight", "pear=inf"),
        ("--reweight", "pear=1e9"),
        ("--guidance-scale", "nan"),
    ],
)
def test_a_malformed_value_is_a_usage_error(restyle, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        restyle(*option)
    assert f"argument {option[0]}: " in capsys.readouterr().err


def test_files_are_read_before_the_model_is_loaded(restyle, monkeypatch, tmp_path):
    monkeypatch.setattr("semantic_edit.loading.load_pipeline", None)
    assert restyle("--mask", "nowhere.png") == 2
    assert restyle("--mapping", tmp_path) == 2


def test_a_damaged_mapping_network_is_one_line(restyle, mapping_folder, tmp_path, only_error):
    shutil.copytree(mapping_folder, tmp_path / "mapping")
    weights = tmp_path / "mapping" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert restyle("--mapping", "mapping") == 2
    assert only_error().startswith("semantic-edit: error: cannot load the mapping network ")


@pytest.mark.parametrize(("flags", "stays_offline"), [((), False), (("--offline",), True)])
def test_a_mapping_network_may_come_from_the_hub(restyle, monkeypatch, only_error, flags, stays_offline):
    asked = {}

    def unreachable(name, **options):
        asked[name] = options["local_files_only"]
        raise OSError("no route to the Hub")

    monkeypatch.setattr(MappingNetwork, "from_pretrained", unreachable)
    assert restyle("--mapping", "owner/name", *flags) == 2
    assert asked == {"owner/name": stays_offline}
    assert only_error().endswith("cannot load the mapping network owner/name: no route to the Hub")


@pytest.mark.parametrize(
    ("base_model", "loaded"),
    [
        ("owner/name", "owner/name"),
        ("/nowhere/model", None),
        ("", None),
        ("{there}", "{there}"),
        ("{relative}", None),
    ],
)
def test_the_model_that_the_picture_was_learned_with_is_taken_if_it_can_be_had(
    tmp_path, mapping_folder, style_folder, monkeypatch, capsys, base_model, loaded
):
    places = {"there": style_folder, "relative": os.path.relpath(style_folder)}
    base_model, loaded = (name and name.format(**places) for name in (base_model, loaded))
    named_after(mapping_folder, base_model, tmp_path / "mapping")
    asked = []

    def load(_pipeline, choice, use_safetensors=False):
        asked.append((choice.model, choice.offline, use_safetensors))
        raise KeyboardInterrupt

    monkeypatch.setattr("semantic_edit.loading.load_pipeline", load)
    mapping = ("--mapping", str(tmp_path / "mapping"), "-o", str(tmp_path / "out.png"))
    assert main(["restyle", *mapping, "--prompt", PEAR]) == 130
    is_named = loaded is not None
    assert asked == [
        (loaded, is_named, is_named)
    ]  # nobody typed it: the network is not asked, no pickle is read
    note = f"semantic-edit: note: using the model that the image was learned with, {style_folder}"
    assert (note in capsys.readouterr().err) == (base_model == str(style_folder))


def test_a_network_from_the_hub_names_no_folder_here(mapping_folder, style_folder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "semantic_edit.loading.load_pipeline", lambda _class, choice: asked.append(choice.model)
    )
    named_after(mapping_folder, str(style_folder), tmp_path / "mapping")
    load_pipeline_for(MappingNetwork.from_pretrained(tmp_path / "mapping"), "someone/apple")
    assert asked == [None]


def test_a_model_that_a_folder_names_is_not_downloaded(tmp_path, mapping_folder, monkeypatch, only_error):
    named_after(mapping_folder, "owner/name", tmp_path / "mapping")
    asked = []

    def unreachable(name, *, local_files_only, **_):
        asked.append((name, local_files_only))
        raise OSError("not in the cache")

    monkeypatch.setattr(DiffusionPipeline, "load_config", unreachable)
    command = ["restyle", "--mapping", str(tmp_path / "mapping"), "--prompt", PEAR]
    command += ["-o", str(tmp_path / "out.png")]
    assert main(command) == 2
    assert only_error().endswith(
        "(the image was learned with it; --model owner/name looks for it on the Hub)"
    )
    assert main([*command, "--model", "owner/name"]) == 2
    only_error()
    network = MappingNetwork.from_pretrained(tmp_path / "mapping")
    with pytest.raises(UsageError, match="cannot load the model owner/name: not in the cache"):
        load_pipeline_for(network, "someone/apple")  # from the Hub, with the model that it was learned with
    assert asked == [("owner/name", True), ("owner/name", False), ("owner/name", False)]


def test_a_result_that_the_safety_checker_withheld_is_not_written(restyle, monkeypatch, tmp_path, capsys):
    flagged = StyleDiffusionPipelineOutput(images=[], nsfw_content_detected=[False, True])
    monkeypatch.setattr(StyleDiffusionPipeline, "__call__", lambda *_, **__: flagged)
    assert restyle("--prompt", PEAR, "--prompt", BLUE) == 2
    assert "safety checker withheld the result of prompt 2" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["picture.png"]


@pytest.mark.parametrize(("prompt", "words"), [((), 5), (("--prompt", "a pear"), 2)])
def test_attention_draws_a_panel_for_each_word(run, prompt, words, capsys):
    assert run("attention", *prompt) == 0
    assert capsys.readouterr().out.split() == ["out.png"]
    width, height = Image.open("out.png").size
    assert width == (words + 1) * (PANEL_WIDTH + GAP) + GAP
    assert height == CAPTION_HEIGHT + PANEL_HEIGHT + GAP


def test_attention_draws_over_the_learned_picture_or_over_its_edit(run):
    assert run("restyle", "--prompt", PEAR, "--strip", "strip.png") == 0
    panels = np.split(pixels("strip.png")[CAPTION_HEIGHT:, GAP:], 2, axis=1)
    for prompt, panel in zip(((), ("--prompt", PEAR)), panels, strict=True):
        assert run("attention", *prompt) == 0
        drawn = pixels("out.png")[CAPTION_HEIGHT:, GAP : GAP + panel.shape[1]]
        # up to rounding: the picture is alone here, and beside its edit there
        assert np.abs(drawn.astype(int) - panel).max() <= 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-o", "out.txt"), "the name must end in one of .png"),
        (("--prompt", " "), "there are no words to draw; pass some with --prompt"),
        (("--mapping", "nowhere"), "--mapping nowhere: there is no such folder"),
    ],
)
def test_attention_refuses_bad_input_in_one_line(run, tmp_path, only_error, options, reason):
    assert run("attention", *options) == 2
    assert reason in only_error()
    assert os.listdir(tmp_path) == ["picture.png"]
