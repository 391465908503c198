"""A UNet of Stable Diffusion XL's layout that computes what another one does."""

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel


@pytest.fixture(scope="session")
def in_xl_layout(
    make_unet: Callable[..., UNet2DConditionModel],
) -> Callable[[UNet2DConditionModel], UNet2DConditionModel]:
    """Builds a UNet of SDXL's layout that computes what one of Stable Diffusion's layout computes.

    Its cross attention reads the first encoder's part of the text only, and what it is added to its time is nothing.
    """

    def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        added = {
            "cross_attention_dim": unet.config.cross_attention_dim + 24,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }
        wide = UNet2DConditionModel.from_config(unet.config, **added).eval()
        narrow = unet.state_dict()
        with torch.no_grad():
            for name, parameter in wide.named_parameters():
                if name.startswith("add_embedding.linear_2."):
                    parameter.zero_()
                elif name in narrow and narrow[name].shape == parameter.shape:
                    parameter.copy_(narrow[name])
                elif name in narrow:
                    parameter.zero_()[:, : narrow[name].shape[1]] = narrow[name]
        return wide

    return widened
