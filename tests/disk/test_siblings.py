import re

import diffusers
import pytest

from semantic_edit.disk.models import (
    FLUX,
    QWEN_IMAGE,
    STABLE_DIFFUSION_3,
    Z_IMAGE,
    family_of_folder,
    unserved_folder,
)
from semantic_edit.disk.siblings import SIBLINGS

FLOWS = (STABLE_DIFFUSION_3, FLUX, QWEN_IMAGE, Z_IMAGE)
OF_THE_SAME_MODELS = ("Pipeline", "Img2ImgPipeline", "InpaintPipeline")


def index_of(family, pipeline):
    parts = {name: ["diffusers", "X"] for name in family.needed}
    return {"_class_name": pipeline, **parts, "transformer": ["diffusers", family.network]}


def test_there_is_a_pipeline_of_each():
    for name in SIBLINGS:
        assert any(one.startswith(name) and one.endswith("Pipeline") for one in dir(diffusers)), name


@pytest.mark.parametrize(
    ("pipeline", "family", "words"),
    [
        ("FluxKontextPipeline", FLUX, "which follows instructions .* use FLUX.1 dev or schnell instead"),
        ("FluxKontextInpaintPipeline", FLUX, "which follows instructions"),
        ("FluxFillPipeline", FLUX, "whose transformer reads an image and a mask beside the latents"),
        ("FluxControlImg2ImgPipeline", FLUX, "whose transformer reads a control image"),
        ("FluxControlNetPipeline", FLUX, "whose ControlNet an edit would not follow; .* as a FluxPipeline"),
        ("QwenImageEditPlusPipeline", QWEN_IMAGE, "which follows instructions .* use Qwen-Image instead"),
        ("QwenImageLayeredPipeline", QWEN_IMAGE, "which paints several layers at once"),
        ("ZImageOmniPipeline", Z_IMAGE, "whose transformer reads images beside the text"),
        ("StableDiffusion3ControlNetPipeline", STABLE_DIFFUSION_3, "as a StableDiffusion3Pipeline"),
    ],
)
def test_a_folder_is_refused_by_its_pipelines_name(pipeline, family, words):
    for name in (pipeline, ["code", pipeline]):
        index = index_of(family, name)
        assert family_of_folder(index) is None
        assert re.fullmatch(f"is the model of a {pipeline}, .*{words}.*", unserved_folder(index))


@pytest.mark.parametrize("family", FLOWS, ids=lambda one: one.name)
@pytest.mark.parametrize("kind", OF_THE_SAME_MODELS)
def test_other_pipelines_of_the_same_models_are_served(family, kind):
    pipeline = f"{family.prefix}{kind}"
    assert hasattr(diffusers, pipeline)
    assert family_of_folder(index_of(family, pipeline)) == family
