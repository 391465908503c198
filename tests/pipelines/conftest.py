import numpy as np
import pytest

TARGET = "a green pear on grass"
MASK = np.zeros((6, 8))
MASK[:, 4:] = 1


@pytest.fixture
def edit(picture):
    """An edit with its own mask, as latents unless told otherwise."""

    def run(pipe, **changes):
        options = {"prompt": TARGET, "mask_image": MASK, "num_inference_steps": 5, "output_type": "latent"}
        return pipe(picture, **{**options, **changes}).images

    return run
