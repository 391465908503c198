import pytest
import torch

from semantic_edit.editing.local_blend import attended_region, blend_into_source


@pytest.fixture
def peak():
    """Attention to one of 4 x 6 cells, and a fifth as much to another."""
    maps = torch.zeros(1, 4, 6)
    maps[0, 1, 1], maps[0, 3, 5] = 1.0, 0.2
    return maps


def test_the_region_is_the_peak_and_its_neighbours(peak):
    region = attended_region(peak, 4, 6)
    expected = torch.zeros(1, 1, 4, 6)
    expected[..., :3, :3] = 1
    assert torch.equal(region, expected)
    assert region.dtype == torch.float32
    assert attended_region(peak, 4, 6, threshold=0.1).sum() == 9 + 4


def test_it_grows_to_the_latents_size(peak):
    expected = attended_region(peak, 4, 6).repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    assert torch.equal(attended_region(peak, 8, 18), expected)


def test_each_map_has_its_own_maximum(peak):
    maps = torch.cat([peak, 1e-3 * peak, torch.zeros_like(peak)])
    together = attended_region(maps, 4, 6)
    assert torch.equal(together[0], together[1])
    assert not together[2].any()  # a map of zeros has no region
    alone = [attended_region(one[None], 4, 6)[0] for one in maps]
    assert torch.equal(together, torch.stack(alone))


def test_it_equals_the_published_code():
    """Prompt-to-Prompt's LocalBlend, on the mean of its maps."""
    maps = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    mask = torch.nn.functional.max_pool2d(maps[:, None], (3, 3), (1, 1), padding=(1, 1))
    mask = torch.nn.functional.interpolate(mask, size=(20, 14))
    mask = mask / mask.max(2, keepdims=True)[0].max(3, keepdims=True)[0]
    assert torch.equal(attended_region(maps, 20, 14, threshold=0.8), mask.gt(0.8).float())


def test_half_precision(peak):
    assert torch.equal(attended_region(peak.half(), 4, 6), attended_region(peak, 4, 6))


def test_blending_keeps_both_ends_exactly():
    generator = torch.Generator().manual_seed(0)
    target, source = (torch.randn(count, 4, 6, 8, generator=generator) for count in (3, 1))
    inside = torch.randint(0, 2, (3, 1, 6, 8), generator=generator).float()
    blended = blend_into_source(target, source, inside)
    assert torch.equal(blended, torch.where(inside.bool(), target, source))
    assert blend_into_source(target, source, None) is target
    halfway = blend_into_source(target, source, torch.full((1, 1, 6, 8), 0.5))
    torch.testing.assert_close(halfway, (target + source) / 2)
