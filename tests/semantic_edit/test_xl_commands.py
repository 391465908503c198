"""The commands with a model of SDXL's layout, whose family nobody has to name."""

import json

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image

from semantic_edit.cli import main
from semantic_edit.loading import load_mapping, load_pipeline, load_pipeline_for
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.options import ModelChoice
from semantic_edit.pipelines import (
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
)

BEFORE, AFTER = "a red apple on grass", "a green pear on grass"


@pytest.fixture
def run(tmp_path, picture_file, monkeypatch):
    """Run a command in an empty folder, and return its exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: main([str(word) for word in words])


def test_an_edit_is_the_pipeline_s(run, xl_folder, picture):
    words = ["--source", BEFORE, "--prompt", AFTER, "--steps", "2", "--model", xl_folder]
    assert run("edit", "picture.png", *words, "-o", "out.png", "--save-trajectory", "way.safetensors") == 0
    pipe = StableDiffusionXLDiffEditPipeline.from_pretrained(xl_folder)
    generator = torch.Generator().manual_seed(0)
    edit = pipe(picture, AFTER, BEFORE, num_inference_steps=2, generator=generator)
    difference = np.abs(np.asarray(edit.images[0]).astype(int) - np.asarray(Image.open("out.png")))
    assert difference.max() <= 1
    assert run("edit", "picture.png", *words, "-o", "again.png", "--trajectory", "way.safetensors") == 0


def test_a_picture_is_learned_restyled_and_looked_into(run, xl_folder, capsys):
    learn = ["learn", "picture.png", "--prompt", BEFORE, "--steps", "2", "-o", "learned"]
    assert run(*learn, "--model", xl_folder) == 0
    assert MappingNetwork.from_pretrained("learned").config.base_model == str(xl_folder)
    # the model that it was learned with is found by itself
    assert run("restyle", "--mapping", "learned", "--prompt", AFTER, "-o", "out.png") == 0
    assert run("attention", "--mapping", "learned", "-o", "words.png") == 0
    assert f"using the model that the image was learned with, {xl_folder}" in capsys.readouterr().err


def test_a_network_and_a_model_of_two_families_do_not_fit(
    run, xl_folder, xl_mapping_folder, style_folder, mapping_folder, only_error
):
    for mapping, model, pipeline in (
        (mapping_folder, xl_folder, "StyleDiffusionPipeline"),
        (xl_mapping_folder, style_folder, "StableDiffusionXLStyleDiffusionPipeline"),
    ):
        words = ["--prompt", AFTER, "--model", model, "-o", "out.png"]
        assert run("restyle", "--mapping", mapping, *words) == 2
        error = only_error()
        assert "error: The --mapping was made with a model of another family" in error
        assert f"in a {pipeline}, or learn the picture again" in error


def test_a_network_from_the_hub_gets_the_pipeline_of_its_model(xl_folder, xl_mapping_folder):
    pipe = load_pipeline_for(
        load_mapping(str(xl_mapping_folder)), "someone/apple", ModelChoice(str(xl_folder))
    )
    assert type(pipe) is StableDiffusionXLStyleDiffusionPipeline


def test_a_comparison_gets_diffusers_own_pipeline(xl_folder):
    assert type(load_pipeline(None, ModelChoice(str(xl_folder)))) is StableDiffusionXLPipeline


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        (
            EulerAncestralDiscreteScheduler(timestep_spacing="trailing", steps_offset=1),
            "is that of SDXL Turbo",
        ),
        (
            EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
            "of the EDM kind",
        ),
    ],
)
def test_a_scheduler_of_another_kind_does_not_give_way_to_ddim(
    run, make_xl_edit_pipe, tmp_path, scheduler, reason, capsys
):
    make_xl_edit_pipe(scheduler=scheduler).save_pretrained(tmp_path / "model")
    capsys.readouterr()
    assert run("edit", "picture.png", "--prompt", AFTER, "-o", "out.png", "--model", tmp_path / "model") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_a_comparison_runs(run, xl_folder, picture, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    picture.save(tmp_path / "data" / "picture.png")
    row = {"image": "picture.png", "source_prompt": BEFORE, "prompt": AFTER}
    (tmp_path / "data" / "prompts.jsonl").write_text(json.dumps(row) + "\n")
    words = [
        "--data",
        "data",
        "--methods",
        "diffedit",
        "word-swap",
        "stylediffusion",
        "--points",
        "1",
        "--steps",
        "2",
    ]
    code = run("evaluate", "--out", "results", *words, "--model", xl_folder)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "StyleDiffusion: 1 of 1 pictures" in printed.out
