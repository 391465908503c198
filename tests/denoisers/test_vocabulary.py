"""A warning names the words that a model with a small vocabulary does not know."""

import copy
import warnings

import numpy as np
import pytest
import torch

from semantic_edit.denoisers.vocabulary import warn_of_unknown_words
from semantic_edit.pipelines import DiffEditPipeline
from semantic_edit.still_life import model_path
from semantic_edit.still_life.scenes import sample_scene


@pytest.fixture(scope="module")
def still():
    pipe = DiffEditPipeline.from_pretrained(model_path(), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def said(pipe, *texts):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_unknown_words(pipe, texts)
    return [str(one.message) for one in caught]


def test_the_still_life_model_knows_every_word_of_its_scenes(still):
    texts = [sample_scene(seed).caption(wording) for seed in range(64) for wording in (0, None)]
    assert not said(still, *texts, "", "A Pink  apple, on grass.", "2 apple")


def test_words_that_it_does_not_know(still):
    (none,) = said(still, "photograph: dog!", "")
    assert none.startswith(
        "This model knows none of the prompts' words ('dog', 'photograph'): it was trained on few"
    )
    (some,) = said(still, "a pink apple", "a green Dog on grass", "a dog")
    assert some.startswith("This model does not know 'dog': it was trained")
    (letters,) = said(still, "猫")
    assert "none of the prompts' words ('猫')" in letters
    (many,) = said(still, *(f"{one}zz" for one in "abcdefghijkl"))
    assert many.count("zz'") == 10
    assert "'jzz' and others" in many


def test_one_warning_a_call(still, recwarn):
    picture = np.zeros((128, 128, 3), dtype=np.uint8)
    options = {
        "mask_image": np.eye(8),
        "num_inference_steps": 2,
        "negative_prompt": "a cat",
        "guidance_scale": 3.0,
    }
    still(picture, "a dog on grass", **options)
    told = [str(one.message) for one in recwarn if "This model" in str(one.message)]
    assert len(told) == 1
    assert "does not know 'cat', 'dog'" in told[0]


def test_a_textual_inversion_is_known(pipe, make_pipe, tokenizer, text_encoder):
    own = make_pipe(tokenizer=copy.deepcopy(tokenizer), text_encoder=copy.deepcopy(text_encoder))
    assert said(own, "a <cube> on grass")
    own.load_textual_inversion({"<cube>": torch.randn(2, 32)}, token="<cube>")
    assert not said(own, "a <cube> on grass")


def test_a_large_vocabulary_spells_words_that_it_knows(pipe, monkeypatch):
    assert said(pipe, "a dog")
    monkeypatch.setattr("semantic_edit.denoisers.vocabulary.SMALL_VOCABULARY", pipe.tokenizer.vocab_size - 1)
    assert not said(pipe, "a dog")
