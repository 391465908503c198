from collections.abc import Callable

import pytest
import torch

from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import classifier_free_guidance


class FunctionPredictor:
    """A denoising model that is a function of latents, a timestep and embeddings."""

    def __init__(self, function: Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]) -> None:
        self.function = function

    def predict(self, latents: torch.Tensor, timestep: float, given: Conditioning) -> torch.Tensor:
        assert len(given) == len(latents)
        return self.function(latents, timestep, given.prompt_embeds)

    guide = staticmethod(classifier_free_guidance)


@pytest.fixture(scope="session")
def as_predictor() -> type[FunctionPredictor]:
    return FunctionPredictor
