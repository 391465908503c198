"""Every stage runs on a handful of pictures, from rendering to the assembled folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from semantic_edit.still_life.clip import MAX_TOKENS
from semantic_edit.still_life.rendering import COLOURS
from semantic_edit.still_life.scenes import sample_scene
from semantic_edit.still_life.solids import KINDS
from training.still_life import judge
from training.still_life.__main__ import main
from training.still_life.towers import write_tokenizer


@pytest.mark.slow
def test_all_stages_lead_to_a_model_that_diffusers_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judge, "WEIGHTS", tmp_path / "judge.safetensors")
    main(["all", "--out", str(tmp_path), "--pictures", "600", "--steps", "2"])
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "model" / "assembled")
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red apple", num_inference_steps=2, output_type="pt").images
    assert picture.shape == (1, 3, 128, 128)
    assert torch.isfinite(picture).all()
    assert (tmp_path / "judge.safetensors").exists()


def test_the_tokenizer_gives_each_word_one_token_and_captions_fit(tmp_path: Path):
    tokenizer = write_tokenizer(tmp_path)
    for word in (*KINDS, *COLOURS, "marble", "on", "lemon", "a", "an"):
        assert tokenizer.tokenize(word) == [f"{word}</w>"]
    assert tokenizer.tokenize("apple, lemon.") == ["apple</w>", ",</w>", "lemon</w>", ".</w>"]
    captions = [sample_scene(seed).caption(wording) for seed in range(150) for wording in (0, 1, seed + 2)]
    lengths = [len(ids) for ids in tokenizer(captions).input_ids]
    assert max(lengths) <= MAX_TOKENS
