"""Models of each family under the same names: a test or a module that is marked `families` runs with all it names.

With those that the mark calls slow it runs in the slow tier: a law that no family knows of is held by one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from semantic_edit.denoisers import StableDiffusionDenoiser, StableDiffusionXLDenoiser, UNetDenoiser
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
)

TARGET = "a green pear on grass"
MASK = np.zeros((6, 8))
MASK[:, 4:] = 1


@dataclass(frozen=True)
class Family:
    """The classes of a family of models, and the numbers of its tiny model.

    plain: diffusers' own text-to-image pipeline.
    silent: Further arguments for building a pipeline without messages.
    encoders: The names of its text encoders.
    text_width: Of its embeddings.
    """

    diffedit: type[DiffusionPipeline]
    stylediffusion: type[DiffusionPipeline]
    plain: type[DiffusionPipeline]
    denoiser: type[UNetDenoiser]
    silent: Mapping[str, Any]
    encoders: tuple[str, ...]
    text_width: int

    def encoded(self, pipe: DiffusionPipeline, text: str | list[str]) -> dict[str, torch.Tensor]:
        """A prompt's embeddings, by the names of a call's arguments."""
        given = pipe.encode_prompt(
            prompt=text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": given[0], **({"pooled_prompt_embeds": given[2]} if len(given) > 2 else {})}

    def plainly(self, pipe: DiffusionPipeline) -> DiffusionPipeline:
        """diffusers' own pipeline of the same models, sampling by DDIM."""
        plain = self.plain(**pipe.components, **self.silent)
        config = pipe.scheduler.config
        # by name: `from_config` drops what was its own default once, even if it was set since
        plain.scheduler = DDIMScheduler.from_config(
            config, clip_sample=False, prediction_type=config.prediction_type
        )
        plain.set_progress_bar_config(disable=True)
        return plain


FAMILIES = {
    "sd": Family(
        diffedit=DiffEditPipeline,
        stylediffusion=StyleDiffusionPipeline,
        plain=StableDiffusionPipeline,
        denoiser=StableDiffusionDenoiser,
        silent={"requires_safety_checker": False},
        encoders=("text_encoder",),
        text_width=32,
    ),
    "sdxl": Family(
        diffedit=StableDiffusionXLDiffEditPipeline,
        stylediffusion=StableDiffusionXLStyleDiffusionPipeline,
        plain=StableDiffusionXLPipeline,
        denoiser=StableDiffusionXLDenoiser,
        silent={},
        encoders=("text_encoder", "text_encoder_2"),
        text_width=32 + 24,
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The nearest mark is used, so a test may name fewer families than its module."""
    if "family" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("families") or pytest.mark.families("sd").mark
        slow = [pytest.param(name, marks=pytest.mark.slow) for name in marked.kwargs.get("slow", ())]
        metafunc.parametrize("family", [*marked.args, *slow], indirect=True)


@pytest.fixture(scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    """The family of `pipe`, `style_pipe`, `unet`, `learned` and the fixtures that make them."""
    return FAMILIES[request.param]


@pytest.fixture(scope="session")
def make_unet(
    family: Family,
    make_unet: Callable[..., UNet2DConditionModel],
    make_xl_unet: Callable[..., UNet2DConditionModel],
) -> Callable[..., UNet2DConditionModel]:
    return make_xl_unet if family is FAMILIES["sdxl"] else make_unet


@pytest.fixture(scope="session")
def unet(
    family: Family, sd_unet: UNet2DConditionModel, xl_unet: UNet2DConditionModel
) -> UNet2DConditionModel:
    return xl_unet if family is FAMILIES["sdxl"] else sd_unet


@pytest.fixture(scope="session")
def make_pipe(
    family: Family, make_sd_pipe: Callable[..., Any], make_xl_edit_pipe: Callable[..., Any]
) -> Callable[..., Any]:
    return make_xl_edit_pipe if family is FAMILIES["sdxl"] else make_sd_pipe


@pytest.fixture(scope="session")
def make_style_pipe(
    family: Family, make_sd_style_pipe: Callable[..., Any], make_xl_style_pipe: Callable[..., Any]
) -> Callable[..., Any]:
    return make_xl_style_pipe if family is FAMILIES["sdxl"] else make_sd_style_pipe


@pytest.fixture(scope="session")
def learned(family: Family, request: pytest.FixtureRequest) -> MappingNetwork:
    return request.getfixturevalue("xl_learned" if family is FAMILIES["sdxl"] else "sd_learned")


@pytest.fixture
def edit(picture):
    """An edit with its own mask, as latents unless told otherwise."""

    def run(pipe, **changes):
        options = {"prompt": TARGET, "mask_image": MASK, "num_inference_steps": 5, "output_type": "latent"}
        return pipe(picture, **{**options, **changes}).images

    return run
