"""Draw a mask along the picture's own edges, as tight or as roomy as the edit needs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from semantic_edit.editing.mask_shapes import feather_mask, grow_mask
from semantic_edit.editing.tuning import EditTuning


def guided_filter(
    image: torch.Tensor, values: torch.Tensor, radius: int, smoothness: float = 1e-3
) -> torch.Tensor:
    """Smooth `values` where `image` is smooth, and let them change where its colours do.

    In each window the result is the linear function of the colours that best fits the values; each pixel gets the mean
    over all windows that contain it.

    Args:
        image: (batch, 3, height, width) in [0, 1].
        values: (batch, 1, height, width).
        radius: Pixels from a window's centre to its sides.
        smoothness: How much a window's colours must vary to be followed, as a variance with colours scaled to [-1, 1].

    Returns:
        Same shape as `values`; it may leave their range a little.

    Source: He et al., "Guided image filtering", ECCV 2010, Eq. 19 to 21.
    """

    def mean(planes: torch.Tensor) -> torch.Tensor:
        return _window_means(planes, radius)

    colours = 2 * image - 1
    mean_colours, mean_values = mean(colours), mean(values)
    covariance = mean(colours * values) - mean_colours * mean_values
    slope = _solve_symmetric(mean(_products(colours)) - _products(mean_colours), covariance, smoothness)
    offset = mean_values - (slope * mean_colours).sum(1, keepdim=True)
    return (mean(slope) * colours).sum(1, keepdim=True) + mean(offset)


def _window_means(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Means of (batch, planes, height, width) over windows of `2 * radius + 1` a side, cut off at the border.

    Uses running sums, whose cost does not grow with the window, in float64, where their rounding is negligible.
    """
    exact = planes.cpu().double() if planes.device.type == "mps" else planes.double()  # which has no float64
    along = _sliding_means(exact, radius).transpose(-1, -2)
    return _sliding_means(along, radius).transpose(-1, -2).to(planes)


def _sliding_means(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Means over windows along the last dimension."""
    length = values.shape[-1]
    sums = F.pad(values.cumsum(-1), (1, 0))
    places = torch.arange(length, device=values.device)
    first, last = (places - radius).clamp(min=0), (places + radius + 1).clamp(max=length)
    return (sums[..., last] - sums[..., first]) / (last - first)


def _products(colours: torch.Tensor) -> torch.Tensor:
    """The products of every two channels: 00, 01, 02, 11, 12, 22."""
    first, second = torch.triu_indices(3, 3, device=colours.device)
    return colours[:, first] * colours[:, second]


def _solve_symmetric(upper: torch.Tensor, right: torch.Tensor, added: float) -> torch.Tensor:
    """Solve (A + added * 1) x = right for each pixel.

    Args:
        upper: A's entries 00, 01, 02, 11, 12, 22, (batch, 6, height, width).
        right: (batch, 3, height, width).
    """
    a, b, c, d, e, f = upper.unbind(1)
    a, d, f = a + added, d + added, f + added
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    fourth, fifth, sixth = a * f - c * c, b * c - a * e, a * d - b * b
    x, y, z = right.unbind(1)
    solved = [
        first * x + second * y + third * z,
        second * x + fourth * y + fifth * z,
        third * x + fifth * y + sixth * z,
    ]
    return torch.stack(solved, 1) / (a * first + b * second + c * third)[:, None]


def drawn_mask(
    soft_mask: torch.Tensor,
    recolours: Sequence[bool],
    tuning: EditTuning,
    mask_threshold: float,
    factor: int,
    image: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mask that suits an edit, in the picture's own pixels.

    The soft map is interpolated and made to follow the picture's edges. A colour edit uses it as a matte, tight and
    soft, because the shape stays; the matte ends one latent beyond where the map, before or after following edges,
    exceeds the threshold. An object edit uses all of that region, up to a latent more where the map is not low, and
    room around it, at least half a latent, because the new object need not fit into the old one's outline.

    Args:
        soft_mask: (batch, 1, height, width), from `find_mask`.
        recolours: For each edit, likewise; distinguishes the two kinds.
        tuning: What suits the model.
        mask_threshold: The threshold, in (0, 1).
        factor: Pixels per latent along each side.
        image: (batch, 3, height * factor, width * factor) in [0, 1]; without it the map is only interpolated.

    Returns:
        (batch, 1, height * factor, width * factor), float32 in [0, 1].
    """
    followed = followed_mask(soft_mask, factor, image)
    low, high = (part * mask_threshold for part in tuning.matte)
    matte = ((followed - low) / (high - low)).clamp(0, 1)
    # the filter leaves little of an object as pale as its surroundings; the unfiltered map still shows it
    either = torch.maximum(followed, followed_mask(soft_mask, factor, None))
    core = (either > mask_threshold).float()
    reached = torch.maximum(core, grow_mask(core, factor) * (either > tuning.reach * mask_threshold))
    drawn = []
    for row, recoloured in enumerate(recolours):
        inside, reach = core[row : row + 1], reached[row : row + 1]
        if recoloured:  # the filter's windows reach far, and similar colours may lie there
            drawn.append(matte[row : row + 1] * _widened(inside, factor, factor))
        else:
            room = max(factor // 2, round(tuning.room * float(inside.sum()) ** 0.5))
            drawn.append(_widened(reach, room, factor))
    return torch.cat(drawn)


def followed_mask(soft_mask: torch.Tensor, factor: int, image: torch.Tensor | None) -> torch.Tensor:
    """A soft map in the picture's pixels which follows the picture's edges, if the picture is given.

    The filter's windows reach a quarter of the picture's shorter side: of 8, 16, 24, 32 and 48 pixels in 128, those
    from 32 on were best on validation pictures.

    Args:
        soft_mask: (batch, 1, height, width).
        factor: Pixels per latent along each side.
        image: (batch, 3, height * factor, width * factor) in [0, 1], or `None`.
    """
    smooth = F.interpolate(soft_mask, scale_factor=factor, mode="bilinear", align_corners=False)
    if image is None:
        return smooth
    return guided_filter(image, smooth, max(1, min(smooth.shape[-2:]) // 4))


def _widened(core: torch.Tensor, pixels: int, factor: int) -> torch.Tensor:
    """A mask grown by some pixels, with its edge softened by a quarter of a latent's side."""
    return feather_mask(grow_mask(core, pixels), factor / 4)
