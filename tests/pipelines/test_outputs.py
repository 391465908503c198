"""What a call shows while it runs, and how its results are represented."""

import re

import numpy as np
import pytest

from semantic_edit.mapping_networks import LearningSettings

WORDS = {"source_prompt": "a red apple", "prompt": "a green pear", "num_inference_steps": 4}


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_a_result_is_shown_by_shapes(pipe, picture, output_type):
    done = pipe(image=picture, **WORDS, output_type=output_type)
    assert len(repr(done)) < 1000
    assert re.search(
        r"pixel_mask=Tensor \(1, 1, 48, 64\) float32.*trajectory=Trajectory\(latents=Tensor", repr(done)
    )


def test_an_inversion_and_a_learning_are_shown_by_shapes(pipe, style_pipe, picture, learned):
    assert len(repr(pipe.invert(image=picture, num_inference_steps=4, decode_latents=True))) < 1000
    assert len(repr(style_pipe("a pear", mapping_network=learned, output_attention_maps=True))) < 1000
    assert re.fullmatch(
        r"LearningReport\(4 steps, 1 pictures, latent error \S+ at worst, \S+ s\)", repr(learned.report)
    )


def names_of_bars(printed: str) -> set[str]:
    return {line.split(":")[0].strip() for line in re.split(r"[\r\n]", printed) if "%|" in line}


def test_every_progress_bar_says_what_it_counts(make_pipe, make_style_pipe, picture, learned, capsys):
    pipe, style_pipe = make_pipe(), make_style_pipe()
    for each in (pipe, style_pipe):
        each.set_progress_bar_config()
    pipe(image=picture, **WORDS)
    assert names_of_bars(capsys.readouterr().err) == {"mask, in batches", "invert", "decode"}
    style_pipe.learn_mapping(picture, "a red apple", 2, settings=LearningSettings(converged_below=100.0))
    assert names_of_bars(capsys.readouterr().err) == {"invert", "learn"}
    style_pipe("a green pear", mapping_network=learned)
    assert names_of_bars(capsys.readouterr().err) == {"decode"}


def test_a_name_of_ones_own_is_kept_and_the_set_up_is_not_touched(make_pipe, picture, capsys):
    pipe = make_pipe()
    pipe.set_progress_bar_config(desc="mine", ncols=60)
    first = pipe(image=picture, **WORDS, output_type="np").images
    assert names_of_bars(capsys.readouterr().err) == {"mine"}
    assert pipe._progress_bar_config == {"desc": "mine", "ncols": 60}
    assert isinstance(first, np.ndarray)
