"""Swaps in fused attention equal those of explicit maps on a GPU, too."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch.testing import assert_close

from benchmarks.attention_swaps import TOLERANCES, layer_call
from benchmarks.explicit_attention import explicitly_controlled

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("kind", ["self", "cross"])
def test_a_layer(kind, side, dtype):
    call = layer_call(kind, side, torch.device("cuda"), dtype)
    tolerance = TOLERANCES[dtype]
    assert_close(call.fused(), call.explicit(), rtol=tolerance, atol=tolerance)


def test_a_whole_edit(on_gpu, style_pipe, learned):
    moved = on_gpu(style_pipe)

    def edit():
        return moved("a green pear on grass", learned, output_type="pt").images

    fused = edit()
    with patch("semantic_edit.pipelines.restyling.controlled_attention", explicitly_controlled):
        assert_close(edit(), fused, rtol=0, atol=1e-3)
