from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from semantic_edit.evaluation.metrics.clip import Clip, cached_clip, pipeline_clip
from semantic_edit.evaluation.metrics.unavailable import MetricUnavailable
from semantic_edit.still_life.cases import edit_cases


@pytest.fixture
def colours() -> Clip:
    """A text's embedding is the colour that it names, a picture's is its mean colour."""
    named = {"red": [1.0, 0.0, 0.0], "green": [0.0, 1.0, 0.0], "anti-red": [-1.0, 0.0, 0.0]}
    return Clip(
        lambda text: torch.tensor(named[text]),
        lambda picture: torch.from_numpy(np.asarray(picture).mean((0, 1))),
    )


def piped(**parts: Any) -> SimpleNamespace:
    """What is read of a pipeline of Stable Diffusion that has these parts."""
    whole = {"vae": ..., "scheduler": ..., "unet": ..., "tokenizer": ..., **parts}
    return SimpleNamespace(components=whole, _execution_device=torch.device("cpu"), **whole)


@pytest.fixture
def half() -> np.ndarray:
    where = np.zeros((4, 4), dtype=bool)
    where[:2] = True
    return where


def test_agreement_is_a_cosine(colours):
    assert colours.agreement("red", Image.new("RGB", (4, 4), "red")) == pytest.approx(1.0)
    assert colours.agreement("red", Image.new("RGB", (4, 4), (9, 9, 0))) == pytest.approx(0.5**0.5)
    assert colours.agreement("green", Image.new("RGB", (4, 4), "red")) == 0.0


def test_the_score_is_a_percentage_and_never_negative(colours):
    red = Image.new("RGB", (4, 4), "red")
    assert colours.score("red", red) == pytest.approx(100.0)
    assert colours.agreement("anti-red", red) == pytest.approx(-1.0)
    assert colours.score("anti-red", red) == 0.0


def test_a_region_is_seen_alone(colours, half):
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:2, :, 0], pixels[2:, :, 1] = 200, 200
    picture = Image.fromarray(pixels)
    assert colours.agreement("red", picture) == pytest.approx(0.5**0.5)
    assert colours.agreement("red", picture, half) == pytest.approx(1.0)
    assert colours.agreement("red", picture, ~half) == 0.0


def test_a_mask_of_another_size_is_refused(colours, half):
    with pytest.raises(ValueError, match="as large as the picture, 8 x 6 pixels, got 4 x 4"):
        colours.agreement("red", Image.new("RGB", (8, 6), "red"), half)


def test_the_still_life_model_agrees_with_what_is_there(still_life_parts):
    clip = pipeline_clip(still_life_parts)
    for case in edit_cases(4, seed=5, kinds=("object", "colour"), objects=1):
        assert clip.agreement(case.prompt, case.target_image) > clip.agreement(case.prompt, case.image)
        assert clip.agreement(case.source_prompt, case.image) > clip.agreement(case.prompt, case.image)


def test_towers_without_a_space_in_common_are_refused(make_style_pipe, still_life_parts):
    with pytest.raises(MetricUnavailable, match=r"text encoder \(32 wide, without its projection\)"):
        pipeline_clip(make_style_pipe())
    with pytest.raises(MetricUnavailable, match="needs a pipeline with an `image_encoder`"):
        pipeline_clip(piped(text_encoder=still_life_parts.text_encoder))


def test_stable_diffusions_text_encoder_lacks_its_projection():
    """Equal widths do not mean one space: both SD 1's pooled text and ViT-L/14's image embeddings are 768 wide."""
    config = SimpleNamespace(hidden_size=768, projection_dim=768)
    parts = {
        "unet": ...,
        "tokenizer": ...,
        "text_encoder": SimpleNamespace(config=config),
        "image_encoder": SimpleNamespace(config=config, visual_projection=...),
        "feature_extractor": ...,
    }
    with pytest.raises(MetricUnavailable, match=r"\(768 wide, without its projection\) .* share no space"):
        pipeline_clip(piped(**parts))


def test_a_vision_tower_without_its_projection_is_refused(still_life_parts):
    tower = SimpleNamespace(config=still_life_parts.image_encoder.config)
    with pytest.raises(MetricUnavailable, match="or the latter has no projection"):
        pipeline_clip(piped(**{**still_life_parts.components, "image_encoder": tower}))


@pytest.fixture(scope="module")
def whole_clip(text_encoder, image_encoder) -> CLIPModel:
    torch.manual_seed(1)
    config = CLIPConfig(
        text_config={**text_encoder.config.to_dict(), "projection_dim": 16},
        vision_config=image_encoder.config.to_dict(),
        projection_dim=16,
    )
    return CLIPModel(config).eval()


def test_a_saved_clip_agrees_with_transformers_own_however_it_is_loaded(
    whole_clip, tokenizer, feature_extractor, pictures, tmp_path
):
    for part in (whole_clip, tokenizer, feature_extractor):
        part.save_pretrained(tmp_path)
    text = "a red apple on grass"
    tokens = tokenizer([text], padding="max_length", max_length=16, return_tensors="pt").input_ids
    pixels = feature_extractor(images=pictures[0], return_tensors="pt").pixel_values
    with torch.no_grad():
        logits = whole_clip(input_ids=tokens, pixel_values=pixels).logits_per_image
    expected = (logits / whole_clip.logit_scale.exp()).item()
    assert cached_clip(name=str(tmp_path)).agreement(text, pictures[0]) == pytest.approx(expected, abs=1e-5)
    pipe = piped(
        unet=None,
        text_encoder=CLIPTextModelWithProjection.from_pretrained(tmp_path),
        tokenizer=tokenizer,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(tmp_path),
        feature_extractor=feature_extractor,
    )
    assert pipeline_clip(pipe).agreement(text, pictures[0]) == pytest.approx(expected, abs=1e-5)


def test_no_clip_is_ever_downloaded():
    with pytest.raises(MetricUnavailable, match="Fetch them once with: hf download nobody/has-this"):
        cached_clip(name="nobody/has-this")
