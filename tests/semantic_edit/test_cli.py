import copy
import functools
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, EulerAncestralDiscreteScheduler
from PIL import Image

import semantic_edit
from semantic_edit import loading
from semantic_edit.cli import main
from semantic_edit.disk import writing
from semantic_edit.options import ModelChoice
from semantic_edit.pipelines import DiffEditPipeline, DiffEditPipelineOutput
from semantic_edit.pipelines.strips import CAPTION_HEIGHT, GAP, PANEL_HEIGHT

WORDS = ("--source", "a red apple on grass", "--prompt", "a green pear on grass")


@pytest.fixture
def edit(tmp_path, model_folder, picture_file, load_once, monkeypatch):
    """Run `semantic-edit edit` on the tiny model in an empty folder, and return its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("semantic_edit.edit_command.load_pipeline", load_once)

    def run(*options, image=picture_file):
        model = () if "--model" in options else ("--model", model_folder)
        steps = () if "--steps" in options else ("--steps", "5")
        return main(
            [str(part) for part in ("edit", image, *WORDS, "-o", "out.png", *model, *steps, *options)]
        )

    return run


@pytest.fixture
def replaced(monkeypatch):
    """Replace the pipeline by a function."""

    def replace(function):
        pipe = functools.wraps(DiffEditPipeline.__call__)(lambda **arguments: function(**arguments))
        pipe.components = {}
        monkeypatch.setattr("semantic_edit.edit_command.load_pipeline", lambda *_: pipe)

    return replace


@pytest.fixture
def calls(replaced):
    """Replace the pipeline by one that records its arguments and is then interrupted."""
    seen = {}

    def pipe(**arguments):
        seen.update(arguments)
        raise KeyboardInterrupt

    replaced(pipe)
    return seen


def pixels(path):
    return np.asarray(Image.open(path))


def test_every_file_that_was_asked_for_is_written(edit, tmp_path, capsys):
    files = ("--save-mask", "mask.png", "--strip", "strip.png", "--save-trajectory", "way.safetensors")
    assert edit(*files) == 0
    assert sorted(capsys.readouterr().out.split()) == ["mask.png", "out.png", "strip.png", "way.safetensors"]
    assert sorted(os.listdir(tmp_path)) == [
        "mask.png",
        "out.png",
        "picture.png",
        "strip.png",
        "way.safetensors",
    ]
    assert Image.open("out.png").size == Image.open("mask.png").size == (64, 48)
    width = round(64 * PANEL_HEIGHT / 48)
    assert Image.open("strip.png").size == (4 * (width + GAP) + GAP, CAPTION_HEIGHT + PANEL_HEIGHT + GAP)


def test_background_keeps_its_pixels_unless_told_otherwise(edit, picture_file):
    assert edit("--save-mask", "mask.png", "--mask-threshold", "0.9") == 0
    outside = pixels("mask.png") == 0
    assert 0 < outside.mean() < 1
    assert (pixels("out.png")[outside] == pixels(picture_file)[outside]).all()
    assert edit("--no-preserve-background", "--mask-threshold", "0.9") == 0
    assert (pixels("out.png")[outside] != pixels(picture_file)[outside]).any()


def test_a_seed_repeats_an_edit(edit):
    assert edit("--seed", "3") == 0
    first = pixels("out.png")
    assert edit("--seed", "3") == 0
    assert (pixels("out.png") == first).all()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_model_that_gives_nan_ends_in_one_line_and_writes_nothing(
    edit, make_pipe, tmp_path, only_error, capsys, part
):
    broken = copy.deepcopy(make_pipe().components[part])
    for parameter in broken.parameters():
        parameter.data.fill_(float("nan"))
    make_pipe(**{part: broken}).save_pretrained(tmp_path / "broken")
    capsys.readouterr()  # transformers draws a bar, on slow machines
    Path("out.png").write_bytes(b"as it was")
    stage = {"unet": "the mask's predictions", "vae": "the VAE's encoder", "text_encoder": "--prompt"}[part]
    assert (
        edit(
            "--model", tmp_path / "broken", "--save-trajectory", "way.safetensors", "--save-mask", "mask.png"
        )
        == 2
    )
    line = only_error()
    assert line.startswith("semantic-edit: error: NaN or infinite values came from ")
    assert stage in line
    assert "run the model in float32 or bfloat16" in line
    assert Path("out.png").read_bytes() == b"as it was"
    assert sorted(os.listdir(tmp_path)) == ["broken", "out.png", "picture.png"]


def test_a_saved_trajectory_and_mask_give_the_same_edit_without_inverting(edit, monkeypatch):
    paper = ("--preset", "paper")  # which does not look at the kind of edit
    assert edit(*paper, "--save-mask", "mask.png", "--save-trajectory", "way.safetensors") == 0
    first = pixels("out.png")
    monkeypatch.setattr("semantic_edit.pipelines.diffedit_method.invert_images", None)
    assert edit(*paper, "--mask", "mask.png", "--trajectory", "way.safetensors", "--strip", "strip.png") == 0
    # up to rounding: the prompts are encoded in other batches
    assert np.abs(pixels("out.png").astype(int) - first).max() <= 1
    width = round(64 * PANEL_HEIGHT / 48)
    assert Image.open("strip.png").width == 3 * (width + GAP) + GAP  # without a soft map


def test_options_reach_the_pipeline_by_its_own_names(edit, calls):
    options = (
        "--steps",
        "7",
        "--guidance-scale",
        "3",
        "--negative",
        "fog",
        "--strength",
        "0.5",
        "--maps",
        "2",
    )
    masks = (
        "--mask-threshold",
        "0.4",
        "--mask-grow",
        "-8",
        "--mask-feather",
        "4",
        "--no-preserve-background",
    )
    assert edit(*options, *masks, "--seed", "9", "--size", "32x24", "--focus") == 130
    generator = calls.pop("generator")
    assert torch.equal(
        torch.rand(3, generator=generator), torch.rand(3, generator=torch.Generator().manual_seed(9))
    )
    assert calls.pop("image").size == (64, 48)
    assert calls == {
        "source_prompt": "a red apple on grass",
        "prompt": "a green pear on grass",
        "num_inference_steps": 7,
        "guidance_scale": 3.0,
        "negative_prompt": "fog",
        "inpaint_strength": 0.5,
        "num_maps_per_mask": 2,
        "mask_threshold": 0.4,
        "mask_grow": -8,
        "mask_feather": 4.0,
        "preserve_background": False,
        "width": 32,
        "height": 24,
        "focus": True,
    }


def test_options_left_out_stay_with_the_pipelines_defaults(calls, picture_file, tmp_path):
    assert main(["edit", str(picture_file), "--prompt", "a pear", "-o", str(tmp_path / "out.png")]) == 130
    assert set(calls) == {"image", "prompt", "source_prompt", "generator"}


def test_an_interrupt_says_so_and_keeps_the_old_file(edit, calls, only_error):
    Path("out.png").write_text("old")
    assert edit() == 130
    assert only_error() == "semantic-edit: error: interrupted"
    assert Path("out.png").read_text() == "old"


def test_a_full_disk_keeps_the_old_files_and_names_the_file(edit, tmp_path, monkeypatch, capsys):
    write_all, written = writing._write_all, []

    def fill_the_disk(file, content):
        written.append(content)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        write_all(file, content)

    Path("out.png").write_text("old")
    monkeypatch.setattr(writing, "_write_all", fill_the_disk)
    assert edit("--strip", "strip.png") == 1
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert told.endswith(f"semantic-edit: error: {tmp_path}/strip.png: No space left on device")
    assert sorted(os.listdir(tmp_path)) == ["out.png", "picture.png"]
    assert Path("out.png").read_text() == "old"


def test_traceback_is_there_for_who_asks(edit, replaced):
    def fail(**_):
        raise RuntimeError("boom")

    replaced(fail)
    assert edit() == 1
    with pytest.raises(RuntimeError, match="boom"):
        edit("--traceback")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-o", "missing/out.png"), "there is no folder"),
        (("-o", "out.txt"), "the name must end in one of .png"),
        (("-o", "picture.png"), "--output and the image are the same file"),
        (("--strip", "out.png"), "--strip and --output are the same file"),
        (("--save-trajectory", "way.pt"), "the name must end in one of .safetensors"),
        (("--mask", "nowhere.png"), "nowhere.png cannot be read: No such file"),
        (("--mask", "auto"), "--mask auto is for restyling; an edit finds its mask by itself"),
        (("--trajectory", "nowhere.safetensors"), "nowhere.safetensors cannot be read: No such file"),
        (("--trajectory", "picture.png"), "cannot be read as a safetensors file"),
        (("--size", "60x48"), "the model takes only multiples of 8"),
        (("--model", "nowhere"), "there is no such folder, and a Hub id has the form owner/name"),
        (("--model", "./nowhere/model"), "there is no such folder"),
        (("--model", "."), "a folder without model_index.json is not a diffusers model"),
        (("--model", "picture.png"), "is a file; choose the folder of a diffusers model, or a Hub id"),
        (("--device", "toaster"), "--device toaster cannot be used"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(edit, tmp_path, only_error, options, reason):
    before = sorted(os.listdir(tmp_path))
    assert edit(*options) == 2
    line = only_error()
    assert line.startswith("semantic-edit: error: ")
    assert reason in line
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    "option",
    [
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--seed", "9" * 6000),
        ("--size", "big"),
        ("--size", "0x8"),
        ("--size", f"{10**30}x8"),
        ("--steps", "0"),
        ("--steps", "1001"),
        ("--steps", "2.5"),
        ("--strength", "1.5"),
        ("--strength", "0"),
        ("--guidance-scale", "nan"),
        ("--guidance-scale", "1e308"),
        ("--guidance-scale", "-1"),
        ("--maps", "0"),
        ("--mask-threshold", "1"),
        ("--mask-grow", str(10**9)),
        ("--mask-feather", "inf"),
        ("--negative", "half \udcff"),
    ],
)
def test_a_malformed_value_is_a_usage_error(edit, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        edit(*option)
    told = capsys.readouterr().err
    assert f"argument {option[0]}" in told
    assert len(told.splitlines()) == 1
    assert told.endswith("(see semantic-edit edit --help)\n")


@pytest.mark.parametrize(
    "options", [("--mask-threshold", "0.4"), ("--maps", "3"), ("--seed", "0"), ("--seed", "7")]
)
def test_what_finds_a_mask_does_nothing_beside_a_mask(edit, only_error, options):
    Image.new("L", (64, 48), 255).save("white.png")
    assert edit("--mask", "white.png", *options) == 2
    assert only_error().endswith(
        f"{options[0]} only affects how a mask is found, and --mask already gives one"
    )


def test_an_object_is_removed(edit):
    marked = Image.new("L", (64, 48), 0)
    marked.paste(255, (24, 16, 48, 32))
    marked.save("mask.png")
    assert edit("--mask", "mask.png", "--remove", "--strip", "strip.png") == 0
    removed = np.asarray(Image.open("out.png"))
    assert edit("--mask", "mask.png") == 0
    assert not np.array_equal(np.asarray(Image.open("out.png")), removed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--remove needs --mask: an image that is white where the object and its shadow are"),
        (
            ("--mask", "m.png", "--save-trajectory", "t.safetensors"),
            "--save-trajectory does not go with --remove, which inverts the",
        ),
        (
            ("--mask", "m.png", "--trajectory", "t.safetensors"),
            "--trajectory does not go with --remove, which inverts the filled image",
        ),
    ],
)
def test_what_does_not_go_with_removing(edit, only_error, options, message):
    assert edit("--remove", *options) == 2
    assert message in only_error()


def test_source_beside_a_mask_is_told_to_do_nothing(edit, capsys):
    Image.new("L", (64, 48), 255).save("white.png")
    assert edit("--mask", "white.png") == 0
    assert "semantic-edit: warning: --source has no effect here" in capsys.readouterr().err
    assert edit("--mask", "white.png", "--source", "") == 0
    assert "--source" not in capsys.readouterr().err


def test_a_negative_prompt_without_guidance_is_refused(edit, only_error):
    assert edit("--negative", "fog", "--guidance-scale", "1") == 2
    assert "--negative has no effect with a --guidance-scale of 1 or less" in only_error()


def test_a_pipe_as_picture_mask_or_trajectory_is_refused_and_not_waited_for(edit, tmp_path, only_error):
    os.mkfifo(tmp_path / "fifo.png")
    assert edit(image="fifo.png") == 2
    assert "'fifo.png' is a pipe, and a file is needed" in only_error()
    for option in ("--mask", "--trajectory"):
        assert edit(option, "fifo.png") == 2
        assert "is a pipe" in only_error()


def test_a_device_is_written_to_and_stays_one(edit, tmp_path, capsys):
    for suffix in ("png", "safetensors"):
        Path(f"null.{suffix}").symlink_to("/dev/null")
    assert edit("-o", "null.png", "--strip", "null.png", "--save-trajectory", "null.safetensors") == 0
    assert main(["bundle", "diffedit", "-o", "/dev/null"]) == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert sorted(os.listdir(tmp_path)) == ["null.png", "null.safetensors", "picture.png"]


def test_a_changed_byte_of_a_trajectory_is_noticed(edit, capsys):
    assert edit("--save-trajectory", "way.safetensors") == 0
    capsys.readouterr()
    content = bytearray(Path("way.safetensors").read_bytes())
    content[-1] ^= 1
    Path("way.safetensors").write_bytes(content)
    assert edit("--trajectory", "way.safetensors") == 2
    assert "'way.safetensors' is not what was written" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".gif", ".bmp"])
def test_a_picture_that_is_cut_short_is_refused_in_one_line(edit, picture, tmp_path, only_error, suffix):
    path = tmp_path / f"cut{suffix}"
    picture.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert edit(image=path) == 2
    assert f"cut{suffix}" in only_error()


def test_a_trajectory_of_other_settings_is_refused_with_the_reason(edit, capsys):
    assert edit("--save-trajectory", "way.safetensors") == 0
    capsys.readouterr()
    assert edit("--trajectory", "way.safetensors", "--steps", "6") == 2
    assert "--steps: trajectory 5, this call 6" in capsys.readouterr().err


def test_an_empty_mask_returns_the_picture_with_a_warning(edit, picture_file, capsys):
    Image.new("L", (64, 48)).save("black.png")
    assert edit("--mask", "black.png") == 0
    assert "semantic-edit: warning: " in capsys.readouterr().err
    assert (pixels("out.png") == pixels(picture_file)).all()
    assert edit("--mask", "black.png", "--save-trajectory", "way.safetensors") == 2
    assert "nothing was inverted; black.png is not white anywhere" in capsys.readouterr().err


def test_a_result_that_the_safety_checker_withheld_is_not_written(edit, replaced, capsys):
    flagged = DiffEditPipelineOutput(images=[], nsfw_content_detected=[True])
    replaced(lambda **_: flagged)
    assert edit() == 2
    assert "safety checker withheld" in capsys.readouterr().err
    assert not Path("out.png").exists()


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "CMYK", "I;16"])
def test_pictures_of_other_modes_are_edited(edit, picture, tmp_path, mode):
    suffix = "tiff" if mode == "CMYK" else "png"
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    other = Image.fromarray(grey) if mode == "I;16" else picture.convert(mode)
    other.save(tmp_path / f"other.{suffix}")
    assert edit("--size", "32x32", image=tmp_path / f"other.{suffix}") == 0
    assert (Image.open("out.png").mode, Image.open("out.png").size) == ("RGB", (64, 48))


def test_what_a_file_carries_and_loses_is_told(edit, picture, capsys):
    seen = picture.convert("RGBA")
    seen.putalpha(128)
    seen.save("seen.png")
    picture.save("two.gif", save_all=True, append_images=[picture.rotate(90)])
    for name, reason in {
        "seen.png": "the image is transparent in places; they are laid over white",
        "two.gif": "the image holds 2 frames, of which only number 1 is taken",
    }.items():
        assert edit("--mask-threshold", "0.9", image=name) == 0
        assert capsys.readouterr().err == f"semantic-edit: warning: {reason}" + (
            ", and the result has no transparency.\n" if name == "seen.png" else ".\n"
        )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "https://example.com/a.png",
            "https://example.com/a.png is a web address, but files are read from this machine: download",
        ),
        (
            "photo.heic",
            "photo.heic is a HEIC picture, which Pillow reads by a plugin: pip install pillow-heif, or save",
        ),
    ],
)
def test_pictures_that_are_elsewhere_or_of_a_phone(edit, name, reason, only_error, monkeypatch):
    Path("photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert edit(image=name) == 2
    assert reason in only_error()


def test_with_its_plugin_a_phone_s_picture_is_read(edit, picture, monkeypatch):
    heic = Path("photo.heic")
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))

    def register_heif_opener():
        monkeypatch.setattr(Image, "open", lambda path: picture.copy() if path == heic else opened(path))

    opened = Image.open
    plugin = types.SimpleNamespace(register_heif_opener=register_heif_opener)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    assert edit("--mask-threshold", "0.9", image="photo.heic") == 0


def test_further_frames_of_a_mask_are_told(edit, capsys):
    frames = [Image.new("L", (64, 48), colour) for colour in (255, 0)]
    frames[0].save("mask.gif", save_all=True, append_images=frames[1:])
    assert edit("--mask", "mask.gif") == 0
    assert "--mask holds 2 frames, of which only number 1 is taken" in capsys.readouterr().err


def test_a_mask_of_zeros_and_ones_is_one(edit, picture_file, capsys):
    ones = np.zeros((48, 64), np.uint8)
    ones[10:30, 10:40] = 1
    Image.fromarray(ones).save("ones.png")
    assert edit("--mask", "ones.png") == 0
    changed = (pixels("out.png") != pixels(picture_file)).any(-1)
    assert changed[ones == 1].mean() > 0.9
    assert not changed[ones == 0].any()
    Image.fromarray(ones * 90).save("faint.png")
    assert edit("--mask", "faint.png") == 0
    assert "is nowhere brighter than half" in capsys.readouterr().err
    Image.fromarray(ones[:, :48]).save("square.png")
    assert edit("--mask", "square.png") == 2
    assert "--mask is 48 x 48 and the picture 64 x 48, which is another shape" in capsys.readouterr().err


@pytest.fixture
def photo(tmp_path):
    """A picture of many times the model's 64 x 64 pixels."""
    few = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(few).resize((451, 303), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_photograph_comes_back_at_its_size_and_what_was_done_is_told(edit, photo, capsys):
    assert edit("--mask-threshold", "0.9", "--save-mask", "mask.png", image=photo) == 0
    note = "semantic-edit: note: the image: 451 x 303 pixels, processed at 80 x 56\n"
    assert capsys.readouterr().err == note
    outside = pixels("mask.png") == 0
    assert pixels("out.png").shape == (303, 451, 3)
    assert (pixels("out.png")[outside] == pixels(photo)[outside]).all()
    assert edit("--mask-threshold", "0.9", "--size", "96x64", image=photo) == 0
    assert capsys.readouterr().err == note.replace("80 x 56", "96 x 64")


def test_a_small_mask_is_looked_at_closer_and_its_files_know_the_picture(edit, photo, capsys):
    mask = Image.new("L", (451, 303), 0)
    mask.paste(255, (300, 100, 320, 130))
    mask.save("mine.png")
    files = ("--save-mask", "mask.png", "--save-trajectory", "way.safetensors")
    assert edit("--mask", "mine.png", *files, image=photo) == 0
    note = "semantic-edit: note: the image: 66 x 66 pixels at (277, 82) of 451 x 303, processed at 64 x 64\n"
    assert capsys.readouterr().err.endswith(note)
    first = pixels("out.png")
    assert (first[pixels("mine.png") == 0] == pixels(photo)[pixels("mine.png") == 0]).all()
    assert edit("--mask", "mask.png", "--trajectory", "way.safetensors", image=photo) == 0
    assert (pixels("out.png") == first).all()
    assert capsys.readouterr().err.endswith(note)
    assert edit("--mask", "mine.png", "--no-focus", image=photo) == 0
    assert "80 x 56" in capsys.readouterr().err
    Image.open(photo).rotate(180).save("other.png")
    for option, other in (("--mask", ()), ("--trajectory", ("--trajectory", "way.safetensors"))):
        mask = "mine.png" if other else "mask.png"
        assert edit("--mask", mask, *other, image="other.png") == 2
        assert f"the {option} is of another picture than the image" in capsys.readouterr().err.lower()


def test_a_picture_turned_by_exif_comes_out_upright(edit, picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert edit(image=tmp_path / "turned.jpg") == 0
    assert Image.open("out.png").size == (48, 64)


def test_a_stochastic_scheduler_gives_way_to_ddim(make_pipe, tmp_path):
    make_pipe(scheduler=EulerAncestralDiscreteScheduler(steps_offset=1)).save_pretrained(tmp_path)
    pipe = loading.load_pipeline("diffedit", ModelChoice(str(tmp_path), dtype="bfloat16"))
    assert isinstance(pipe.scheduler, DDIMScheduler)
    assert not pipe.scheduler.config.clip_sample
    assert pipe.unet.dtype == torch.bfloat16


@pytest.mark.parametrize(("flags", "stays_offline"), [((), False), (("--offline",), True)])
def test_a_hub_id_may_use_the_network_unless_told_otherwise(
    edit, monkeypatch, only_error, flags, stays_offline
):
    asked = {}

    def unreachable(name, **options):
        asked[name] = options["local_files_only"]
        raise OSError("no route\nto the Hub")

    monkeypatch.setattr(DiffusionPipeline, "load_config", unreachable)
    assert edit("--model", "owner/name", *flags) == 2
    assert asked == {"owner/name": stays_offline}
    assert only_error().endswith("cannot load the model owner/name: no route to the Hub")


def test_a_damaged_model_is_one_line(edit, make_pipe, tmp_path, only_error):
    make_pipe().save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert edit("--model", tmp_path / "model") == 2
    assert only_error().startswith("semantic-edit: error: cannot load the model ")


def test_the_embedded_model_edits_a_scene_without_a_network(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise AssertionError("the network was asked for")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert main(["scene", "--seed", "7", "--objects", "1", "-o", "before.png"]) == 0
    source = capsys.readouterr().out.strip()
    prompt = source.replace("apple", "pear")
    assert prompt != source
    assert (
        main(
            ["edit", "before.png", "--source", source, "--prompt", prompt, "-o", "after.png", "--steps", "5"]
        )
        == 0
    )
    assert (pixels("after.png") != pixels("before.png")).any()


def test_scene_prints_what_it_drew(tmp_path, capsys):
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for file, seed in zip(files, ("3", "3", "4"), strict=True):
        assert main(["scene", "--seed", seed, "--objects", "2", "-o", str(file)]) == 0
    first, again, other = capsys.readouterr().out.splitlines()
    assert " and " in first
    assert first == again != other
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_scene_draws_the_same_at_more_pixels(tmp_path):
    for scale in ("1", "3"):
        assert main(["scene", "--seed", "4", "--scale", scale, "-o", str(tmp_path / f"{scale}.png")]) == 0
    one, three = (Image.open(tmp_path / f"{scale}.png") for scale in (1, 3))
    assert three.size == (384, 384)
    shrunk = np.float32(three.resize(one.size, Image.Resampling.BOX))
    assert np.abs(shrunk - np.float32(one)).mean() < 4


def test_scene_refuses_a_bad_place(tmp_path, only_error):
    assert main(["scene", "-o", str(tmp_path / "missing" / "a.png")]) == 2
    assert "there is no folder" in only_error()


SLOW_TO_IMPORT = {"torch", "diffusers", "transformers", "safetensors", "huggingface_hub"}
QUICK = {
    ("--help",): set(),
    ("--version",): set(),
    ("evaluate", "--help"): set(),
    ("edit", "nowhere.png", "--prompt", "x", "-o", "a.png"): set(),
    ("edit", "text.png", "--prompt", "x", "-o", "a.png"): set(),
    ("edit", "good.png", "--prompt", "x", "-o", "missing/a.png"): set(),
    ("edit", "good.png", "--prompt", "x", "-o", "a.xyz"): set(),
    ("edit", "good.png", "--prompt", "x", "-o", "a.png", "--trajectory", "nowhere.safetensors"): set(),
    ("edit", "good.png", "--prompt", "x", "-o", "a.png", "--mask", "nowhere.png"): set(),
    ("edit", "good.png", "--prompt", "x", "-o", "a.png", "--model", "nowhere"): set(),
    ("edit", "good.png", "--prompt", "x", "-o", "a.png", "--steps", "0"): set(),
    ("learn", "nowhere.png", "--prompt", "x", "-o", "a"): set(),
    ("learn", "good.png", "--prompt", "x", "-o", "a", "--image-encoder", "nowhere"): set(),
    ("restyle", "--mapping", "nowhere", "--prompt", "x", "-o", "a.png"): set(),
    ("attention", "--mapping", "nowhere", "-o", "a.png"): set(),
    ("evaluate", "--out", "a", "--data", "nowhere"): set(),
    ("publish", "mapping", "nowhere", "--license", "mit", "--to", "a/b"): set(),
    ("bundle", "diffedit", "-o", "missing/a.py"): set(),
    ("scene", "-o", "scene.png"): {"numpy"},  # the last: what one has imported, those after it have too
}


def test_what_is_typed_wrong_is_answered_before_anything_slow_is_imported(tmp_path, picture):
    picture.save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    code = (
        "import sys, contextlib, json; from semantic_edit.cli import main\n"
        "imported = []\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    with contextlib.suppress(SystemExit): main(command)\n"
        f"    imported.append(sorted({SLOW_TO_IMPORT | {'numpy'}} & set(sys.modules)))\n"
        "print(json.dumps(imported))"
    )
    command = [sys.executable, "-c", code, json.dumps(list(QUICK))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert dict(zip(QUICK, map(set, imported), strict=True)) == QUICK


def processor_seconds(arguments, folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, cwd=folder, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "share"),
    [
        (["--help"], 0.2),
        (["edit", "nowhere.png", "--prompt", "x", "-o", "a.png"], 0.2),
        (["scene", "-o", "a.png"], 0.5),  # most of which is the rendering
    ],
)
def test_an_answer_is_there_well_before_torch_would_be(tmp_path, command, share):
    """Both cost more on a slow or a busy machine, so the one is the other's measure."""
    answer = min(processor_seconds(["-m", "semantic_edit", *command], tmp_path) for _ in range(3))
    assert answer < share * processor_seconds(["-c", "import torch"], tmp_path)


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "semantic_edit", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"semantic-edit {semantic_edit.__version__}"


@pytest.mark.parametrize("name", semantic_edit.__all__)
def test_every_public_name_is_there(name):
    assert getattr(semantic_edit, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'semantic_edit' has no attribute 'Nothing'"):
        semantic_edit.Nothing  # noqa: B018
