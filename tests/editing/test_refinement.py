"""Masks that follow the image's edges, tight or with room, depending on the edit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from semantic_edit.denoisers import Denoiser
from semantic_edit.editing.refinement import drawn_mask, followed_mask, guided_filter

TUNING = Denoiser.tuning
FACTOR = 8


def filtered_plainly(
    picture: torch.Tensor, values: torch.Tensor, radius: int, smoothness: float
) -> torch.Tensor:
    """The guided filter as in its paper, window by window, in float64."""
    colours, values = 2 * picture[0].double() - 1, values[0, 0].double()
    height, width = values.shape
    slopes, offsets = torch.zeros(3, height, width, dtype=torch.float64), torch.zeros_like(values)
    windows = [
        (
            row,
            column,
            slice(max(0, row - radius), row + radius + 1),
            slice(max(0, column - radius), column + radius + 1),
        )
        for row in range(height)
        for column in range(width)
    ]
    for row, column, rows, columns in windows:
        inside, target = colours[:, rows, columns].flatten(1), values[rows, columns].flatten()
        centred = inside - inside.mean(1, keepdim=True)
        covariance = centred @ centred.T / len(target) + smoothness * torch.eye(3, dtype=torch.float64)
        slope = torch.linalg.solve(covariance, centred @ (target - target.mean()) / len(target))
        slopes[:, row, column] = slope
        offsets[row, column] = target.mean() - slope @ inside.mean(1)
    result = torch.zeros_like(values)
    for row, column, rows, columns in windows:
        slope, offset = slopes[:, rows, columns].mean((1, 2)), offsets[rows, columns].mean()
        result[row, column] = slope @ colours[:, row, column] + offset
    return result[None, None].float()


@pytest.mark.parametrize("grey", [False, True])
def test_the_filter_is_the_papers(grey):
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 12, 15, generator=generator)
    if grey:  # one colour alone leaves two of three directions to the smoothness
        picture = picture[:, :1].expand(1, 3, 12, 15)
    values = torch.rand(1, 1, 12, 15, generator=generator)
    expected = filtered_plainly(picture, values, 3, 1e-3)
    # windows' variances are differences of means, in float32
    torch.testing.assert_close(guided_filter(picture, values, 3), expected, rtol=0, atol=5e-4)


def test_a_constant_stays_and_a_flat_picture_only_blurs():
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 3, 20, 24, generator=generator)
    constant = torch.full((2, 1, 20, 24), 0.3)
    torch.testing.assert_close(guided_filter(picture, constant, 5), constant, rtol=0, atol=1e-4)
    values = torch.rand(1, 1, 20, 24, generator=generator)
    flat = guided_filter(torch.full((1, 3, 20, 24), 0.6), values, 2)
    window = F.avg_pool2d(
        F.avg_pool2d(values, 5, 1, 2, count_include_pad=False), 5, 1, 2, count_include_pad=False
    )
    torch.testing.assert_close(flat, window, rtol=0, atol=1e-4)


@pytest.fixture
def disc() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A red disc on green, its pixels, and a soft map in latent pixels that shows it only coarsely."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    inside = ((rows - 60) ** 2 + (columns - 70) ** 2 < 27**2)[None, None]
    picture = torch.where(
        inside, torch.tensor([0.8, 0.1, 0.1])[:, None, None], torch.tensor([0.2, 0.6, 0.2])[:, None, None]
    )
    soft = F.avg_pool2d(inside.float(), FACTOR)
    return picture, inside, soft


def overlap(mask: torch.Tensor, inside: torch.Tensor) -> float:
    mask = mask > 0.5
    return float((mask & inside).sum() / (mask | inside).sum())


def test_a_followed_map_finds_the_objects_outline(disc):
    picture, inside, soft = disc
    blind, followed = (followed_mask(soft, FACTOR, guide) for guide in (None, picture))
    assert overlap(blind, inside) < 0.97
    assert overlap(followed, inside) > 0.99


def test_a_colour_edit_is_tight_and_an_object_edit_has_room(disc):
    picture, inside, soft = disc
    both = drawn_mask(
        soft.repeat(2, 1, 1, 1),
        [True, False],
        TUNING,
        0.5,
        FACTOR,
        picture.repeat(2, 1, 1, 1),
    )
    colour, shape = both.split(1)
    assert both.min() >= 0
    assert both.max() <= 1
    assert bool((colour[inside] > 0.95).all())
    assert bool((shape[inside] > 0.98).all())
    assert colour[~inside].sum() < 0.5 * shape[~inside].sum()
    reach = (shape > 0.5)[0, 0].any(0).nonzero().flatten()
    # a part of the side of a square of the disc's area, on either side of its diameter
    room = TUNING.room * float(inside.sum()) ** 0.5
    width = float(reach.max() - reach.min() + 1)
    assert 2 * 27 + 2 * room - 4 <= width <= 2 * 27 + 2 * room + FACTOR
    alone = drawn_mask(soft, [False], TUNING, 0.5, FACTOR, picture)
    torch.testing.assert_close(alone, shape)  # whatever else the batch holds


def test_an_object_edit_reaches_a_latent_further_where_the_map_is_not_low():
    """As far as the old object's rim, but not into everything that is slightly above zero."""

    def right_edge(rim):
        soft = torch.zeros(1, 1, 16, 16)
        soft[..., 6:10, 3:8] = 1
        soft[..., 6:10, 8:14] = rim  # from pixel 64 on, six latents long
        drawn = drawn_mask(soft, [False], TUNING, 0.5, FACTOR)
        return int((drawn > 0.5)[0, 0].any(0).nonzero().max())

    assert right_edge(0.1) < 64 + FACTOR
    assert 64 + FACTOR < right_edge(0.35) < 64 + 3 * FACTOR
    assert right_edge(0.35) - right_edge(0.1) >= FACTOR // 2


def test_a_small_object_has_at_least_half_a_latent_of_room():
    soft = torch.zeros(1, 1, 16, 16)
    soft[..., 8, 8] = 1
    drawn = drawn_mask(soft, [False], TUNING, 0.5, FACTOR)
    reach = (drawn > 0.5)[0, 0].any(0).nonzero().flatten()
    bare = (followed_mask(soft, FACTOR, None) > 0.5)[0, 0].any(0).sum()
    assert reach.max() - reach.min() + 1 >= bare + FACTOR - 2


def test_a_matte_ends_near_the_object(disc):
    picture, _, soft = disc
    picture = picture.clone()
    picture[..., 100:, :30] = torch.tensor([0.8, 0.1, 0.1])[:, None, None]  # another red thing, far away
    drawn = drawn_mask(soft, [True], TUNING, 0.5, FACTOR, picture)
    assert drawn[..., 100:, :30].max() == 0


def test_a_thing_as_pale_as_its_surroundings_is_not_lost():
    soft = torch.zeros(1, 1, 16, 16)
    soft[..., 6:10, 6:10] = 1
    grey = torch.full(
        (1, 3, 128, 128), 0.5
    )  # there is no edge to follow, so that the filter blurs the map away
    assert not (followed_mask(soft, FACTOR, grey) > 0.5).any()
    for recoloured in (False, True):
        drawn = drawn_mask(soft, [recoloured], TUNING, 0.5, FACTOR, grey)
        assert drawn[..., 50:78, 50:78].min() > 0.2


def test_an_empty_map_draws_nothing(disc):
    picture, _, soft = disc
    empty = torch.zeros_like(soft)
    for recoloured in (False, True):
        assert not drawn_mask(empty, [recoloured], TUNING, 0.5, FACTOR, picture).any()
