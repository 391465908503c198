import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from semantic_edit.denoisers import Denoiser
from semantic_edit.denoisers.schedules import schedule_from_scheduler
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.guidance import PromptPair
from semantic_edit.editing.mask_shapes import resize_mask
from semantic_edit.editing.masking import (
    Batches,
    NoiseContrast,
    NoisedImages,
    draw_mask_noise,
    find_mask,
    noise_difference,
    num_mask_chunks,
    otsu_cut,
    outline_mask,
    rescale_difference,
    shift_coherence,
)

TUNING = Denoiser.tuning
maps = hnp.arrays("float32", (2, 4, 5), elements=st.floats(0, 1000, width=32))


def brute_force_separability(values: torch.Tensor) -> float:
    best = 0.0
    for low in values.unique()[:-1]:
        below, above = values[values <= low].double(), values[values > low].double()
        between = len(below) * len(above) / len(values) ** 2 * (below.mean() - above.mean()) ** 2
        best = max(best, float(between))
    variance = float(values.double().var(unbiased=False))
    return best / variance if variance else 0.0


def contrast_of(difference: torch.Tensor) -> NoiseContrast:
    """A contrast of one channel."""
    return NoiseContrast(difference, torch.ones(len(difference)), difference[:, None])


@settings(max_examples=40, deadline=None)
@given(hnp.arrays("float32", (9,), elements=st.floats(0, 10, width=16)))
def test_otsu_equals_trying_every_cut(array):
    values = torch.from_numpy(array)
    (cut,), (separability,) = otsu_cut(values[None])
    expected = brute_force_separability(values)
    assert float(separability) == pytest.approx(expected, abs=1e-6)
    if separability > 0:
        below, above = (values <= cut).sum(), (values > cut).sum()
        assert below > 0
        assert above > 0
        # several cuts may be equally good; the one found is as good as the best
        parts = values.double()
        gap = parts[parts > cut].mean() - parts[parts <= cut].mean()
        between = below * above / 81 * gap**2
        assert float(between / parts.var(unbiased=False)) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(maps, st.one_of(st.none(), st.floats(0.5, 10)), st.floats(0.05, 0.95))
def test_masks_are_binary_and_per_image(array, ratio, threshold):
    difference = torch.from_numpy(array)
    both = find_mask(contrast_of(difference), TUNING, ratio, threshold)
    assert both.mask.shape == both.soft_mask.shape == (2, 1, 4, 5)
    assert set(both.mask.unique().tolist()) <= {0.0, 1.0}
    assert both.soft_mask.min() >= 0
    assert both.soft_mask.max() <= 1
    assert ((both.confidence >= 0) & (both.confidence <= 1)).all()
    alone = find_mask(contrast_of(difference[1:]), TUNING, ratio, threshold)
    torch.testing.assert_close(alone.soft_mask, both.soft_mask[1:])
    decided = (alone.soft_mask - threshold).abs() > 1e-5  # a cell at the threshold may fall to either side
    assert torch.equal(alone.mask[decided], both.mask[1:][decided])
    torch.testing.assert_close(alone.confidence, both.confidence[1:])


@settings(max_examples=40, deadline=None)
@given(maps, st.floats(0.1, 0.9))
def test_a_higher_threshold_gives_a_smaller_mask(array, threshold):
    difference = torch.from_numpy(array)
    wide = find_mask(contrast_of(difference), TUNING, None, threshold / 2).mask
    narrow = find_mask(contrast_of(difference), TUNING, None, threshold).mask
    assert (narrow <= wide).all()


@settings(max_examples=40, deadline=None)
@given(maps, st.floats(0.25, 4))
def test_a_mask_does_not_depend_on_the_scale_of_the_difference(array, scale):
    """So guidance with equal negative prompts changes nothing."""
    difference = torch.from_numpy(array).double()
    for ratio in (None, 3.0):
        soft, confidence = rescale_difference(difference, 0.8, ratio)
        scaled, scaled_confidence = rescale_difference(scale * difference, 0.8, ratio)
        torch.testing.assert_close(soft, scaled, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(confidence, scaled_confidence, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", [0.5, 0.8])
def test_adaptive_half_lies_at_the_stated_part_of_the_otsu_cut(part):
    difference = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0)) ** 3
    cut, _ = otsu_cut(difference.flatten(1))
    soft, _ = rescale_difference(difference, part)
    floor = difference.flatten(1).min(1).values
    assert torch.equal(soft > 0.5, difference > (floor + part * (cut - floor))[:, None, None])
    assert float(soft.amin()) == 0.0


def test_the_outline_halves_the_way_between_two_cells():
    soft = torch.zeros(1, 1, 3, 4)
    soft[..., 2:] = 1.0
    outline = outline_mask(soft, 0.5, 8)
    assert outline.shape == (1, 1, 24, 32)
    assert not outline[..., :16].any()
    assert outline[..., 16:].all()
    wide = outline_mask(soft, 0.25, 8)  # a lower threshold lies further out, by less than a cell
    assert not wide[..., :14].any()
    assert wide[..., 14:].all()


def test_the_outline_of_a_slope_is_straight_where_cells_are_steps():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    soft = ((rows + columns) / 14)[None, None]
    truth = torch.arange(64)[:, None] + torch.arange(64)[None] > 63
    inner = slice(4, -4)  # beyond the outermost cells' centres the map stays as it is
    outline = outline_mask(soft, 0.501, 8)[0, 0].bool()
    blocks = resize_mask((soft > 0.501).float(), 64, 64)[0, 0].bool()
    assert torch.equal(outline[inner, inner], truth[inner, inner])
    assert (blocks != truth)[inner, inner].sum() > 100


def test_a_ratio_is_diffusers_rule():
    difference = torch.rand(1, 8, 9, generator=torch.Generator().manual_seed(0))
    ceiling = 3.0 * difference.mean()
    soft, _ = rescale_difference(difference, 0.8, 3.0)
    torch.testing.assert_close(soft, difference.clamp(0, ceiling) / ceiling)


def test_confidence_tells_two_levels_from_noise():
    clear = torch.zeros(1, 8, 8)
    clear[:, 2:5] = 1
    noise = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert find_mask(contrast_of(clear), TUNING).confidence.item() == pytest.approx(1.0)
    assert find_mask(contrast_of(noise), TUNING).confidence.item() < 0.85
    flat = find_mask(contrast_of(torch.full((1, 8, 8), 0.3)), TUNING)
    assert flat.confidence.item() == 0.0
    assert not flat.mask.any()


def test_noise_of_a_picture_does_not_depend_on_its_neighbours():
    shape = (4, 3, 5)
    alone = draw_mask_noise(1, 10, shape, torch.Generator().manual_seed(3))
    among = draw_mask_noise(3, 10, shape, torch.Generator().manual_seed(3))
    for picture in range(3):
        assert torch.equal(among[picture], alone[0])
    own = draw_mask_noise(2, 10, shape, [torch.Generator().manual_seed(seed) for seed in (8, 3)])
    assert torch.equal(own[1], alone[0])
    assert not torch.equal(own[0], own[1])
    flat = alone[0].flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(10)).abs().max() < 0.6


@pytest.fixture
def counting(as_predictor):
    """Builds a model that predicts each row independently, and counts the rows of its batches."""

    def make():
        batches = []

        def model(latents, timestep, prompt_embeds):
            batches.append(latents.shape[0])
            return torch.tanh(latents) * prompt_embeds.mean((1, 2))[:, None, None, None]

        return as_predictor(model), batches

    return make


def noised(scheduler, pictures, maps):
    schedule = schedule_from_scheduler(scheduler, 10)
    latents = torch.randn(pictures, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(pictures, maps, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    return NoisedImages(schedule, latents, noise, 5)


def four_prompts(pictures):
    """Source, target, and a negative prompt for each."""
    embeds = torch.randn(4, pictures, 2, 8, generator=torch.Generator().manual_seed(2))
    return [Conditioning({"prompt_embeds": each}) for each in embeds]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8, 40, 100])
@pytest.mark.parametrize("negatives", [False, True])
def test_chunks_change_nothing_but_the_batches(scheduler, counting, batch_size, negatives):
    pictures = noised(scheduler, 3, 7)
    (model, batches), (whole, at_once_batches), done = counting(), counting(), []
    source, target, source_away, target_away = four_prompts(3)
    sides = (
        (PromptPair(source, source_away), PromptPair(target, target_away))
        if negatives
        else (PromptPair(source), PromptPair(target))
    )
    how = Batches(batch_size, on_done=lambda: done.append(True))
    chunked = noise_difference(model, pictures, *sides, batches=how)
    at_once = noise_difference(whole, pictures, *sides, batches=Batches(10**6))
    for part in ("difference", "magnitude", "shift"):
        torch.testing.assert_close(getattr(chunked, part), getattr(at_once, part))
    per_map = 4 if negatives else 2
    assert sum(batches) == sum(at_once_batches) == per_map * 3 * 7
    assert max(batches) <= max(batch_size, per_map)
    assert len(batches) == len(done) == num_mask_chunks(3, 7, per_map, batch_size)


def test_every_tensor_of_a_prompt_follows_its_picture(scheduler, as_predictor):
    """Other embeddings of a family are selected row by row along with the text."""
    pictures, seen = noised(scheduler, 3, 2), []
    sides = [
        Conditioning(
            {"prompt_embeds": torch.full((3, 1, 1), side), "pooled": side + torch.arange(3.0)[:, None]}
        )
        for side in (10.0, 20.0)
    ]

    class Watching(as_predictor):
        def predict(self, latents, timestep, given):
            seen.extend(given.tensors["pooled"].flatten().tolist())
            return super().predict(latents, timestep, given)

    model = Watching(lambda latents, timestep, prompt_embeds: latents * prompt_embeds[..., None])
    noise_difference(model, pictures, *map(PromptPair, sides), batches=Batches(4))
    assert seen == [10, 10, 20, 20, 11, 11, 21, 21, 12, 12, 22, 22]


def test_equal_negatives_cancel(scheduler, counting):
    pictures, (model, _) = noised(scheduler, 1, 3), counting()
    source, target, negative, _ = four_prompts(1)
    plain = noise_difference(model, pictures, PromptPair(source), PromptPair(target))
    guided = noise_difference(
        model, pictures, PromptPair(source, negative), PromptPair(target, negative), guidance_scale=7.5
    )
    torch.testing.assert_close(guided.difference, 7.5 * plain.difference)
    assert torch.equal(find_mask(guided, TUNING).mask, find_mask(plain, TUNING).mask)
    torch.testing.assert_close(find_mask(guided, TUNING).coherence, find_mask(plain, TUNING).coherence)


def test_what_counts_as_a_colour_edit_is_the_models_own():
    contrast = contrast_of(torch.rand(2, 4, 4) + 0.1)
    mixed = dataclasses.replace(contrast, shift=torch.rand(2, 3, 4, 4) - 0.5)
    found = find_mask(mixed, TUNING)
    assert all(0 < alike < 1 for alike in found.coherence.tolist())
    for border in found.coherence.tolist():
        tuned = find_mask(mixed, dataclasses.replace(TUNING, coherence=border))
        assert tuned.recolours == tuple(alike >= border for alike in found.coherence.tolist())
    assert sum(tuned.recolours) in (1, 2)
    assert find_mask(contrast, TUNING).recolours == (True, True)


def test_a_shift_that_is_alike_everywhere_is_coherent():
    shift = torch.zeros(3, 4, 6, 6)
    shift[0] = torch.tensor([1.0, -2.0, 0.5, 0.0])[:, None, None]  # one way, of whatever sizes
    shift[0] *= torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    shift[1, :, :3], shift[1, :, 3:] = 1.0, -1.0  # one way here, the other way there
    mask = torch.ones(3, 1, 6, 6)
    mask[2] = 0
    coherence = shift_coherence(shift, mask)
    torch.testing.assert_close(coherence, torch.tensor([1.0, 0.0, 1.0]))
    inside = torch.zeros(3, 1, 6, 6)
    inside[:, :, :3] = 1  # what lies outside the mask has no say
    torch.testing.assert_close(shift_coherence(shift, inside)[1], torch.tensor(1.0))
