"""The weights that ship with the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch.nn import functional

from semantic_edit.denoisers import denoiser_of
from semantic_edit.still_life import edit_cases, model_path
from semantic_edit.still_life.clip import PAIRS, embed_images
from semantic_edit.still_life.judge import judged, load_judge
from semantic_edit.still_life.pixels import as_pixels
from semantic_edit.still_life.scenes import sample_scene


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(model_path())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_folder_is_small_and_holds_no_pickle():
    files = [path for path in model_path().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 48e6
    assert {path.suffix for path in files} <= {".json", ".txt", ".safetensors", ".md"}


def test_its_schedule_is_stable_diffusions(pipe: StableDiffusionPipeline):
    scheduler = pipe.scheduler
    assert isinstance(scheduler, DDIMScheduler)
    assert (scheduler.config.beta_start, scheduler.config.beta_end) == (0.00085, 0.012)
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert scheduler.config.steps_offset == 1
    assert not scheduler.config.clip_sample
    assert not scheduler.config.set_alpha_to_one


def test_it_draws_what_the_prompt_says(pipe: StableDiffusionPipeline):
    wanted = [("red", "apple"), ("blue", "mug"), ("green", "bottle"), ("yellow", "lemon"), ("purple", "cube")]
    prompts = [f"a {colour} {kind} on a light wood table" for colour, kind in wanted]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    pictures = pipe(prompts, num_inference_steps=10, generator=seeds).images
    shown = [(colour, kind) for _, kind, colour, _, _ in judged(load_judge(), pictures)]
    assert sum(one == two for one, two in zip(shown, wanted, strict=True)) >= 4


@torch.no_grad()
def test_the_autoencoder_keeps_the_picture(pipe: StableDiffusionPipeline):
    pixels = as_pixels(np.stack([sample_scene(seed).render() for seed in range(16)]))
    error = (pipe.vae(pixels).sample - pixels).square().mean(dim=(1, 2, 3)) / 4
    assert -10 * error.log10().mean() > 28


def test_the_tiny_clip_names_objects_and_colours(pipe: StableDiffusionPipeline):
    scenes = [sample_scene(seed, objects=1) for seed in range(48)]
    texts = denoiser_of(pipe).pooled_text([f"a photo of a {colour} {kind}" for colour, kind in PAIRS])
    texts = functional.normalize(texts, dim=-1)
    pictures = embed_images(pipe.image_encoder, as_pixels(np.stack([scene.render() for scene in scenes])))
    best = [PAIRS[choice] for choice in (pictures @ texts.T).argmax(dim=-1).tolist()]
    right = [
        pair == (scene.objects[0].colour, scene.objects[0].kind)
        for pair, scene in zip(best, scenes, strict=True)
    ]
    assert sum(right) >= 36


def test_the_judge_knows_renders_and_tells_edits_apart():
    scenes = [sample_scene(seed) for seed in range(64)]
    answers = judged(load_judge(), [Image.fromarray(scene.render()) for scene in scenes])
    right = [
        answer[:3] == (scene.surface, scene.objects[0].kind, scene.objects[0].colour)
        and (answer[3] == "nothing") == (len(scene.objects) == 1)
        for answer, scene in zip(answers, scenes, strict=True)
    ]
    assert sum(right) >= 60
    for case in edit_cases(4, seed=5, kinds=("object",), objects=1):
        before, after = judged(load_judge(), [case.image, case.target_image])
        assert before[1] == case.source_word
        assert after[1] == case.target_word
