"""The still-life model in SDXL's layout: its parts, its weights, and its conversion from the still-life model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch.nn import functional

from semantic_edit.still_life import model_path
from semantic_edit.still_life.clip import tokenize
from semantic_edit.still_life.judge import judged, load_judge
from semantic_edit.still_life.scenes import sample_scene
from training.still_life_xl import WEIGHTS, assemble
from training.still_life_xl.__main__ import main
from training.still_life_xl.pool import scene_pool
from training.still_life_xl.sizes import drawn_sizes
from training.still_life_xl.unet import KEPT, kept_parts, new_unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assemble(tmp_path_factory.mktemp("still-life-xl"))


@pytest.fixture(scope="module")
def xl(folder: Path) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_what_is_stored_is_small_and_holds_no_pickle():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16e6
    assert {path.suffix for path in files} <= {".json", ".txt", ".safetensors"}


def test_it_has_sdxls_layout(xl: StableDiffusionXLPipeline):
    told = xl.unet.config
    assert told.addition_embed_type == "text_time"
    widths = [xl.text_encoder.config.hidden_size, xl.text_encoder_2.config.hidden_size]
    assert widths[0] != widths[1]
    assert told.cross_attention_dim == sum(widths)
    assert xl.unet.add_embedding.linear_1.in_features == (
        xl.text_encoder_2.config.projection_dim + 6 * told.addition_time_embed_dim
    )
    assert xl.config.force_zeros_for_empty_prompt
    assert (xl.tokenizer.pad_token, xl.tokenizer_2.pad_token) == ("<|endoftext|>", "!")
    vocabulary = xl.tokenizer.get_vocab()
    assert {word: xl.tokenizer_2.get_vocab()[word] for word in vocabulary} == vocabulary


def test_its_schedule_is_sdxls(xl: StableDiffusionXLPipeline):
    config = xl.scheduler.config
    assert isinstance(xl.scheduler, EulerDiscreteScheduler)
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert (config.timestep_spacing, config.steps_offset, config.prediction_type) == ("leading", 1, "epsilon")
    other = DDIMScheduler.from_config(config)
    assert not other.config.clip_sample
    assert not other.config.set_alpha_to_one


def test_what_is_shared_is_the_still_life_models(folder: Path):
    for part in ("vae", "text_encoder", "tokenizer", "image_encoder", "feature_extractor"):
        for path in (model_path() / part).iterdir():
            assert (folder / part / path.name).read_bytes() == path.read_bytes()


def test_assembling_again_changes_nothing(folder: Path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert assemble(folder) == folder
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_it_draws_what_the_prompt_says(xl: StableDiffusionXLPipeline):
    wanted = [("red", "apple"), ("blue", "mug"), ("green", "bottle"), ("yellow", "lemon"), ("purple", "cube")]
    prompts = [f"a {colour} {kind} on a light wood table" for colour, kind in wanted]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    pictures = xl(prompts, num_inference_steps=10, generator=seeds).images
    shown = [(colour, kind) for _, kind, colour, _, _ in judged(load_judge(), pictures)]
    assert sum(one == two for one, two in zip(shown, wanted, strict=True)) >= 4


@torch.no_grad()
def test_the_pooled_embedding_says_what_the_first_encoders_does(xl: StableDiffusionXLPipeline):
    texts = [sample_scene(seed).caption() for seed in range(64)]
    _, _, pooled, _ = xl.encode_prompt(texts, do_classifier_free_guidance=False)
    told = xl.text_encoder(tokenize(xl.tokenizer, texts)).pooler_output
    likeness = functional.normalize(pooled, dim=-1) @ functional.normalize(told, dim=-1).T
    assert likeness.diagonal().mean() > 0.95
    assert (likeness.argmax(dim=-1) == torch.arange(len(texts))).float().mean() > 0.9


@pytest.mark.parametrize(
    ("part", "least"), [("first", 1e-3), ("second", 1e-5), ("pooled", 1e-7), ("sizes", 1e-4)]
)
@torch.no_grad()
def test_the_unet_minds_all_that_it_is_told(xl: StableDiffusionXLPipeline, part: str, least: float):
    states, _, pooled, _ = xl.encode_prompt(["a red apple on grass"], do_classifier_free_guidance=False)
    sizes = torch.tensor([[128.0, 128, 0, 0, 128, 128]])
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    width = xl.text_encoder.config.hidden_size

    def predicted() -> torch.Tensor:
        told = {"text_embeds": pooled, "time_ids": sizes}
        return xl.unet(latents, 801, states, added_cond_kwargs=told).sample

    before = predicted()
    {"first": states[..., :width], "second": states[..., width:], "pooled": pooled, "sizes": sizes[:, :2]}[
        part
    ].mul_(0.125)  # a picture that had a side of 16 pixels, or hardly any words
    assert (predicted() - before).square().mean() > least


@torch.no_grad()
def test_the_layouts_unet_predicts_what_the_one_it_was_made_from_does():
    start = UNet2DConditionModel.from_pretrained(model_path() / "unet")
    generator = torch.Generator().manual_seed(0)
    bridge = torch.randn(128, 192, generator=generator) / 192**0.5
    states = torch.randn(2, 20, 192, generator=generator)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    told = {
        "text_embeds": torch.randn(2, 128, generator=generator),
        "time_ids": drawn_sizes(torch.ones(2, dtype=torch.long), generator),
    }
    made = new_unet(start, bridge, pooled_width=128)
    actual = made(latents, 301, states, added_cond_kwargs=told).sample
    expected = start(latents, 301, states @ bridge.T).sample
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_sizes_are_mostly_the_pictures_own_and_true_of_reduced_ones():
    reductions = torch.tensor([1, 4]).repeat_interleave(1_000)
    whole, reduced = drawn_sizes(reductions, torch.Generator().manual_seed(0)).split(1_000)
    own = (whole == torch.tensor([128.0, 128, 0, 0, 128, 128])).all(dim=1)
    assert 0.6 < own.float().mean() < 0.8
    assert (whole[:, :2] >= whole[:, 4:]).all()
    assert (whole[:, 4:] >= 128).all()
    assert (whole[:, 2:4] == 0).all()
    assert (whole % 8 == 0).all()
    assert (reduced == torch.tensor([32.0, 32, 0, 0, 128, 128])).all()


def test_parts_are_dropped_as_often_as_is_said():
    kept = kept_parts(4_000, torch.Generator().manual_seed(0))
    rows, counts = kept.unique(dim=0, return_counts=True)
    shares = {
        tuple(row): count / len(kept) for row, count in zip(rows.tolist(), counts.tolist(), strict=True)
    }
    assert shares == pytest.approx(KEPT, abs=0.03)
    assert sum(KEPT.values()) == pytest.approx(1)


def test_the_pool_has_some_pictures_again_as_if_they_had_been_small(
    tmp_path: Path, xl: StableDiffusionXLPipeline
):
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()  # a pool that is there is not rendered again
    np.save(folder / "train-24.npy", rng.integers(0, 256, (24, 128, 128, 3), dtype=np.uint8))
    np.save(folder / "train-24-coverage.npy", rng.random((24, 2, 16, 16)).astype(np.float16))
    pool = scene_pool(xl.vae, tmp_path, 24)
    assert pool.reductions.tolist() == [1] * 24 + [4, 4, 8, 8]
    assert pool.scenes[24:] == pool.scenes[:2] * 2
    latents, coverage = pool.images.latents.float(), pool.images.coverage
    assert torch.equal(coverage[24:], coverage[:2].repeat(2, 1, 1, 1))
    gaps = [(latents[24 + 2 * place : 26 + 2 * place] - latents[:2]).square().mean() for place in range(2)]
    assert 0 < gaps[0] < gaps[1]


@pytest.mark.slow
def test_training_leaves_what_differs(tmp_path: Path):
    main(["train", "--out", str(tmp_path / "out"), "--pictures", "64", "--steps", "2"])
    main(["assemble", str(tmp_path / "xl"), "--weights", str(tmp_path / "out" / "weights")])
    pipe = StableDiffusionXLPipeline.from_pretrained(tmp_path / "xl", add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    plain = StableDiffusionPipeline.from_pretrained(model_path())
    assert pipe.unet.num_parameters() > plain.unet.num_parameters()
    picture = pipe("a red apple", num_inference_steps=2, output_type="pt").images
    assert picture.shape == (1, 3, 128, 128)
    assert torch.isfinite(picture).all()
