"""`locate`'s masks are what diffusers' inpainting pipelines take, whatever family they are of."""

import inspect

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    FluxInpaintPipeline,
    QwenImageInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    ZImageInpaintPipeline,
)

from semantic_edit.pipelines import DiffEditPipeline
from tests.conftest import make_picture
from tests.flow.flux import FLUX_DEV
from tests.flow.qwen import QWEN
from tests.flow.z_image import Z_IMAGE

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"


@pytest.fixture
def found(pipe_of_stable_diffusion, image):
    return pipe_of_stable_diffusion.locate(
        image, SOURCE, TARGET, generator=torch.Generator().manual_seed(0), num_inference_steps=4
    )


@pytest.fixture
def pipe_of_stable_diffusion(make_sd_pipe) -> DiffEditPipeline:
    return make_sd_pipe()


@pytest.fixture
def image() -> PIL.Image.Image:
    return make_picture(1, 64, 64)


def inpainted(pipe, image, mask, **options):
    pipe.set_progress_bar_config(disable=True)
    given = {"prompt": TARGET, "image": image, "mask_image": mask, "num_inference_steps": 2, "strength": 0.5}
    seeded = {"generator": torch.Generator().manual_seed(0), "output_type": "np"}
    return pipe(**given, width=image.width, height=image.height, **seeded, **options).images[0]


OTHERS = {
    "flux": (FluxInpaintPipeline, FLUX_DEV, {"max_sequence_length": 12}),
    "qwen-image": (QwenImageInpaintPipeline, QWEN, {}),
    "z-image": (ZImageInpaintPipeline, Z_IMAGE, {}),
}


@pytest.mark.parametrize("kind", ["sdxl", *OTHERS])
def test_an_inpainting_pipeline_takes_it(found, image, make_xl_pipe, kind):
    (mask,) = found.masks
    if kind == "sdxl":
        pipe, options = (
            StableDiffusionXLInpaintPipeline(**make_xl_pipe().components, add_watermarker=False),
            {},
        )
    else:
        inpaint, family, options = OTHERS[kind]
        taken = inspect.signature(inpaint).parameters
        pipe = inpaint(**{name: one for name, one in family.make().components.items() if name in taken})
    result = inpainted(pipe, image, mask, **options)
    assert result.shape == (image.height, image.width, 3)
    assert np.isfinite(result).all()
    assert not np.array_equal(result, inpainted(pipe, image, PIL.Image.new("L", image.size), **options))
