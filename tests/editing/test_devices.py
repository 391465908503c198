"""Apple's GPUs have no float64, so everything that is computed in it is first moved to the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from semantic_edit.denoisers import Denoiser
from semantic_edit.editing.mask_shapes import feather_mask
from semantic_edit.editing.masking import NoiseContrast, find_mask, otsu_cut
from semantic_edit.editing.similarity import batch_psnr, batch_ssim
from semantic_edit.evaluation.metrics.fid import frechet_distance
from semantic_edit.evaluation.metrics.structure import structure_distance
from semantic_edit.mapping_networks.combination import combination_weights


class WithoutDoubles(TorchFunctionMode):
    """Simulates such a device: only results of `cpu()` may be float64, and none may be created on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu: list[torch.Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.cpu:
            self.on_cpu.append(args[0].clone())
            return self.on_cpu[-1]
        if function is torch.Tensor.double and not any(args[0] is known for known in self.on_cpu):
            raise TypeError("there is no float64 here")
        if kwargs.get("dtype") is torch.float64 and kwargs.get("device") is not None:
            raise TypeError("there is no float64 here")
        return function(*args, **kwargs)


PICTURES = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
FEATURES = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "run",
    [
        lambda: (
            find_mask(
                NoiseContrast(PICTURES[0, :, 0], torch.ones(2), PICTURES[0]), Denoiser.tuning
            ).confidence
        ),
        lambda: otsu_cut(PICTURES[0, 0, 0])[0],
        lambda: feather_mask((PICTURES[0, :, :1] > 0.5).float(), 1.0),
        lambda: batch_psnr(*PICTURES),
        lambda: batch_ssim(*PICTURES),
        lambda: combination_weights(FEATURES),
        lambda: structure_distance(*FEATURES),
        lambda: torch.tensor(frechet_distance(*FEATURES)),
    ],
    ids=["mask", "otsu", "feather", "psnr", "ssim", "combination", "structure", "fid"],
)
def test_doubles_are_made_on_the_cpu(run: Callable[[], torch.Tensor]):
    expected = run()
    with WithoutDoubles():
        torch.testing.assert_close(run(), expected)
