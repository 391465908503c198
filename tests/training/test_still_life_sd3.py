"""The still-life model in Stable Diffusion 3's layout: what it is made of, and that it understands words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from torch.testing import assert_close

import semantic_edit
from semantic_edit.still_life.judge import judged, load_judge
from training.denoising import LatentPool
from training.loop import LoopSettings
from training.pool import pool_scenes
from training.still_life_sd3 import WEIGHTS, assemble
from training.still_life_sd3.joint_maps import recorded_text_columns
from training.still_life_sd3.parts import new_pipeline
from training.still_life_sd3.transformer import train_transformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return assemble(tmp_path_factory.mktemp("still-life-sd3"))


def test_it_is_loaded_by_its_folder_alone(folder):
    pipe = semantic_edit.load(folder)
    assert type(pipe).__name__ == "StableDiffusion3DiffEditPipeline"
    assert pipe.text_encoder_3 is None
    stored = sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file())
    assert stored < 16_000_000
    assert json.loads((folder / "model_index.json").read_text())["text_encoder_3"] == [None, None]


@torch.no_grad()
@pytest.mark.slow
def test_it_draws_what_the_prompt_says(folder):
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    wanted = [("red", "apple"), ("blue", "bottle"), ("green", "pear"), ("yellow", "lemon")]
    prompts = [f"a {colour} {kind} on a light wood table" for colour, kind in wanted]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    options = {"num_inference_steps": 10, "guidance_scale": 5.0, "max_sequence_length": 256}
    pictures = pipe(prompts, generator=seeds, **options).images
    shown = [(colour, kind) for _, kind, colour, _, _ in judged(load_judge(), pictures)]
    assert sum(one == two for one, two in zip(shown, wanted, strict=True)) >= 3


@torch.no_grad()
def test_one_token_stands_for_many_equal_ones():
    """What training evaluates is what diffusers' pipeline evaluates, at a quarter of the tokens."""
    pipe = new_pipeline(WEIGHTS / "transformer")
    told = [
        pipe.encode_prompt(
            "a red apple", None, None, do_classifier_free_guidance=False, max_sequence_length=length
        )
        for length in (256, 1)
    ]
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def velocity(embeds, pooled):
        given = {"encoder_hidden_states": embeds, "pooled_projections": pooled}
        return pipe.transformer(latents, timestep=torch.tensor([500.0]), **given).sample

    (many, _, pooled, _), (one, *_) = told
    expected = velocity(many, pooled)
    with recorded_text_columns(pipe.transformer, 20, 256) as maps:
        assert_close(velocity(one, pooled), expected, rtol=0, atol=1e-4)
    assert [tuple(columns.shape) for columns in maps] == [(1, 64, 20)] * 6
    assert_close(velocity(many, pooled), expected, rtol=0, atol=0)


@pytest.mark.slow
def test_training_lowers_the_loss_and_goes_on_where_it_stopped(tmp_path):
    pool = LatentPool(torch.randn(64, 4, 16, 16).half(), torch.rand(64, 2, 16, 16).half())
    scenes = pool_scenes("train", 64)
    pipe = new_pipeline()
    train_transformer(pipe, tmp_path, pool, scenes, LoopSettings(steps=4, learning_rate=1e-3, log_every=2))
    rows = [json.loads(line) for line in (tmp_path / "transformer" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[1]["mse"] < rows[0]["mse"]
    again = new_pipeline()
    train_transformer(again, tmp_path, pool, scenes, LoopSettings(steps=4, learning_rate=1e-3, log_every=2))
    for name, value in pipe.transformer.state_dict().items():
        assert_close(again.transformer.state_dict()[name], value, rtol=0, atol=0)
