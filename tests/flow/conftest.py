"""Every law runs with every family; `family.make()` is diffusers' own pipeline, `pipe` ours around the same modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import PIL.Image
import pytest
import torch
from diffusers import DiffusionPipeline

from semantic_edit.denoisers import Denoiser
from semantic_edit.pipelines import pipeline_around
from tests.conftest import make_picture
from tests.flow.family import FlowFamily
from tests.flow.flux import FLUX_DEV, FLUX_SCHNELL
from tests.flow.flux2_klein import KLEIN, KLEIN_DISTILLED
from tests.flow.qwen import QWEN
from tests.flow.sd3 import SD3, SD3_WITHOUT_T5
from tests.flow.z_image import Z_IMAGE, Z_IMAGE_LIMITED, Z_IMAGE_TURBO

FLOWS = (SD3, FLUX_DEV, QWEN, Z_IMAGE, KLEIN)
"""One of each family."""


def of_flows(*fast: FlowFamily) -> pytest.MarkDecorator:
    """One test for each of `FLOWS`; if some families are named, the others' are slow."""
    slow = [one for one in FLOWS if fast and one not in fast]
    params = [pytest.param(one, marks=pytest.mark.slow) if one in slow else one for one in FLOWS]
    return pytest.mark.parametrize("family", params, indirect=True, ids=str)


FAMILIES = (
    SD3,
    SD3_WITHOUT_T5,
    FLUX_DEV,
    FLUX_SCHNELL,
    QWEN,
    Z_IMAGE,
    Z_IMAGE_LIMITED,
    Z_IMAGE_TURBO,
    KLEIN,
    KLEIN_DISTILLED,
)


@pytest.fixture(params=FAMILIES, ids=str)
def family(request: pytest.FixtureRequest) -> FlowFamily:
    return request.param


@pytest.fixture
def own(family: FlowFamily) -> Iterator[DiffusionPipeline]:
    """diffusers' own pipeline; no test may change its modules, which all tests share."""
    pipe = family.make()
    before = {name: _state(module) for name, module in pipe.components.items()}
    yield pipe
    assert {name: _state(module) for name, module in pipe.components.items()} == before


def _state(module: Any) -> Any:
    if not isinstance(module, torch.nn.Module):
        return None
    sums = [(name, value.double().sum().item()) for name, value in module.state_dict().items()]
    return sums, {name: type(one).__name__ for name, one in getattr(module, "attn_processors", {}).items()}


@pytest.fixture
def pipe(family: FlowFamily, own: DiffusionPipeline) -> DiffusionPipeline:
    ours = pipeline_around(family.edit, own)
    ours.set_progress_bar_config(disable=True)
    return ours


@pytest.fixture
def copied(family: FlowFamily, own: DiffusionPipeline) -> Callable[..., DiffusionPipeline]:
    """Makes a pipeline of ours around copies of the modules, which a test may change."""

    def make(**changes: Any) -> DiffusionPipeline:
        modules = {
            name: copy.deepcopy(one)
            for name, one in own.components.items()
            if isinstance(one, torch.nn.Module) or name.startswith("tokenizer")
        }
        ours = pipeline_around(family.edit, family.make(**{**modules, **changes}))
        ours.set_progress_bar_config(disable=True)
        return ours

    return make


@pytest.fixture
def edit(family: FlowFamily, picture: PIL.Image.Image) -> Callable[..., torch.Tensor]:
    """A short edit of the picture's left half, as latents."""
    mask = torch.zeros(1, 1, picture.height, picture.width)
    mask[..., : picture.width // 2] = 1

    def run(pipe: DiffusionPipeline, **changes: Any) -> torch.Tensor:
        given = {
            "image": picture,
            "prompt": "a green pear",
            "source_prompt": "a red apple",
            "mask_image": mask,
        }
        size = {"height": picture.height, "width": picture.width, "num_inference_steps": 4}
        seeded = {"generator": torch.Generator().manual_seed(0), "output_type": "latent"}
        return pipe(**{**given, **size, **seeded, **family.called, **changes}).images

    return run


@pytest.fixture
def denoiser(family: FlowFamily, pipe: DiffusionPipeline) -> Denoiser:
    """Of a call that guides."""
    return pipe._denoiser({**family.called, **family.guidance})


@pytest.fixture
def picture(family: FlowFamily) -> PIL.Image.Image:
    return make_picture(1, *family.size)


@pytest.fixture
def latents(family: FlowFamily, denoiser: Denoiser) -> torch.Tensor:
    """Noise of the shape of the picture's latents, (1, channels, height, width)."""
    width, height = (side // denoiser.cell for side in family.size)
    generator = torch.Generator().manual_seed(5)
    return torch.randn((1, denoiser.latent_channels, height, width), generator=generator)
