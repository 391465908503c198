import pytest
import torch

from semantic_edit.editing.filling import filled_inside


def ramp(height, width):
    """A colour that rises evenly to the right, and another that rises downwards."""
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([across, down, 1 - across])[None]


def part(height, width, rows, columns):
    inside = torch.zeros(1, 1, height, width, dtype=torch.bool)
    inside[..., rows, columns] = True
    return inside


@pytest.mark.parametrize("size", [(48, 64), (33, 57), (7, 100)])
def test_what_is_smooth_goes_on(size):
    height, width = size
    image = ramp(height, width)
    inside = part(height, width, slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3))
    spoiled = torch.where(inside, torch.rand(image.shape, generator=torch.Generator().manual_seed(0)), image)
    filled = filled_inside(spoiled, inside)
    assert torch.equal(filled[~inside.expand_as(image)], image[~inside.expand_as(image)])
    assert (filled - image).abs().max() < 0.1


def test_nothing_of_the_inside_is_left():
    inside = part(32, 32, slice(8, 20), slice(8, 20))
    images = [ramp(32, 32), torch.where(inside, 1.0, ramp(32, 32))]
    assert torch.equal(*(filled_inside(image, inside) for image in images))


def test_each_image_has_its_own_part_and_one_part_serves_all():
    images = torch.cat([ramp(32, 32), ramp(32, 32).flip(-1)])
    parts = torch.cat([part(32, 32, slice(4, 12), slice(4, 12)), part(32, 32, slice(9, 30), slice(0, 8))])
    both = filled_inside(images, parts)
    for row in range(2):
        torch.testing.assert_close(
            both[row : row + 1], filled_inside(images[row : row + 1], parts[row : row + 1])
        )
    one = filled_inside(images, parts[:1])
    torch.testing.assert_close(one[0], both[0])


def test_nothing_to_fill():
    image = ramp(16, 16)
    assert torch.equal(filled_inside(image, torch.zeros(1, 1, 16, 16, dtype=torch.bool)), image)
