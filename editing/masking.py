"""DiffEdit's mask: where do two prompts disagree about the noise in a picture?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.utils.torch_utils import randn_tensor

from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import check_finite
from semantic_edit.editing.guidance import Predictor, PromptPair
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.tuning import EditTuning

NEGLIGIBLE_DIFFERENCE = 2e-3
"""Relative noise difference below which two prompts barely differ; half precision alone accounts for about 1e-3."""


@dataclass(frozen=True, eq=False)
class NoiseContrast:
    """How the predictions under two prompts differ, averaged over a picture's noise maps; all in float32.

    difference: (batch, height, width), the mean absolute difference over channels.
    magnitude: (batch,), the mean absolute value of the source prediction.
    shift: (batch, channels, height, width), the mean signed difference, target minus source.
    """

    difference: torch.Tensor
    magnitude: torch.Tensor
    shift: torch.Tensor


@dataclass(frozen=True, eq=False)
class NoisedImages:
    """Images, each with several noise maps at one level.

    latents: (batch, channels, height, width), clean.
    noise: (batch, maps, channels, height, width).
    level: The level of the schedule to which noise is added.
    """

    schedule: Schedule
    latents: torch.Tensor
    noise: torch.Tensor
    level: int


@dataclass(frozen=True)
class Batches:
    """How `noise_difference` divides its samples into batches.

    size: Maximum number of samples per evaluation of the model; the sides of one noise map are never separated.
    on_done: Called after each evaluation.
    """

    size: int = 10
    on_done: Callable[[], None] | None = None


@dataclass(frozen=True)
class MaskResult:
    """The masks that `find_mask` found.

    mask: (batch, 1, height, width) in latent pixels, float32: 1.0 where the prompts disagree, 0.0 elsewhere.
    soft_mask: Same shape: the rescaled difference in [0, 1] to which the threshold was applied.
    confidence: (batch,) in [0, 1]: how cleanly each map falls into two classes (Otsu's separability).
    relative_difference: (batch,), the mean difference over the mean prediction; near 0 the prompts barely differ.
    coherence: (batch,) in [0, 1], see [`shift_coherence`]: high if a colour changes, low if a shape does.
    recolours: For each picture, whether its coherence makes this a colour edit.
    """

    mask: torch.Tensor
    soft_mask: torch.Tensor
    confidence: torch.Tensor
    relative_difference: torch.Tensor
    coherence: torch.Tensor
    recolours: tuple[bool, ...]

    @property
    def has_room(self) -> list[bool]:
        """For each picture, whether its mask has room around an object; that of a colour edit is tight."""
        return [not recoloured for recoloured in self.recolours]


def draw_mask_noise(
    batch_size: int,
    num_maps: int,
    latent_shape: Sequence[int],
    generator: torch.Generator | list[torch.Generator] | None = None,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Draw independent noise maps for each picture, the same whatever else is in the batch.

    With a single generator, or none, all pictures of the batch share the same `num_maps` noise maps, those that each
    would get alone: the maps of one picture must be independent of each other, not of another picture's. A list holds
    one generator per picture.

    Args:
        batch_size: Number of pictures.
        num_maps: Noise maps per picture.
        latent_shape: (channels, height, width).
        generator: One for all, or one for each picture.
        device: Where the noise is needed.

    Returns:
        (batch, num_maps, channels, height, width) in float32.
    """
    shape = (num_maps, *latent_shape)
    device = torch.device(device)
    if isinstance(generator, list):
        return torch.stack(
            [randn_tensor(shape, generator=one, device=device, dtype=torch.float32) for one in generator]
        )
    shared = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
    return shared.expand(batch_size, *shape)


def noise_difference(
    predictor: Predictor,
    noised: NoisedImages,
    source: PromptPair,
    target: PromptPair,
    guidance_scale: float = 7.5,
    batches: Batches | None = None,
) -> NoiseContrast:
    """The difference between the predictions under two prompts, per latent pixel.

    If both sides are guided away from the same negative prompt, the unconditional terms cancel and the difference is
    merely scaled, which no later step notices: leave the negatives out, and each map costs two evaluations of a sample
    instead of four.

    Args:
        predictor: The model.
        noised: The pictures and their noise.
        source, target: A prompt for each picture; with something to guide away from on both sides if that differs,
            otherwise on neither.
        guidance_scale: Used only if there is something to guide away from.
        batches: How the samples are evaluated; apart from rounding, it affects only memory and speed.

    Raises:
        FloatingPointError: If a prediction is NaN or infinite.

    Source: DiffEdit, arXiv:2210.11427, Sec. 3.2, step 1.
    """
    batches = batches or Batches()
    sides = [source.conditional, target.conditional]
    if source.unconditional is not None and target.unconditional is not None:
        sides = [source.unconditional, target.unconditional, *sides]
    schedule, level, noise = noised.schedule, noised.level, noised.noise
    num_images, num_maps = noise.shape[:2]
    changes, sizes, shifts = [], [], []
    everything = torch.arange(num_images * num_maps, device=noised.latents.device)
    for rows in everything.split(max(1, batches.size // len(sides))):
        owners = rows // num_maps
        samples = schedule.add_noise(noised.latents[owners], noise[owners, rows % num_maps], level)
        given = Conditioning.cat([side.rows(owners) for side in sides])
        inputs = samples.repeat(len(sides), 1, 1, 1)
        parts = predictor.predict(inputs, schedule.timestep(level), given).float().chunk(len(sides))
        source_pred, target_pred = parts[-2:]
        if len(parts) == 4:
            source_pred = predictor.guide(parts[0], source_pred, guidance_scale)
            target_pred = predictor.guide(parts[1], target_pred, guidance_scale)
        shifts.append(target_pred - source_pred)
        changes.append(shifts[-1].abs().mean(1))
        sizes.append(source_pred.abs().mean((1, 2, 3)))
        if batches.on_done is not None:
            batches.on_done()
    contrast = NoiseContrast(*(_mean_over_maps(chunks, num_maps) for chunks in (changes, sizes, shifts)))
    check_finite(f"the mask's predictions (timestep {schedule.timestep(level)})", contrast.shift)
    return contrast


def _mean_over_maps(chunks: list[torch.Tensor], num_maps: int) -> torch.Tensor:
    """(pictures, ...) from chunks of (pictures * maps, ...), summed in an order that is independent of both."""
    by_map = torch.cat(chunks).unflatten(0, (-1, num_maps)).unbind(1)
    return sum(by_map[1:], start=by_map[0]) / num_maps


def num_mask_chunks(num_images: int, num_maps: int, sides: int, batch_size: int) -> int:
    """The number of evaluations that `noise_difference` makes.

    Args:
        num_pictures, num_maps: How many pictures, and noise maps for each.
        sides: 2, or 4 with different negative prompts.
        batch_size: Samples per evaluation.
    """
    return -(-num_images * num_maps // max(1, batch_size // sides))


def otsu_cut(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split each row into the two classes with the largest variance between them; exact, without a histogram.

    Args:
        values: (batch, count).

    Returns:
        The cut, half-way between the two values that it separates, and the separability: the variance between the
        classes over the total variance, in [0, 1]. Both are (batch,) in float64 on the CPU; for a constant row they are
        its value and 0.

    Source: N. Otsu, IEEE Trans. SMC 9(1), 1979.
    """
    ordered = values.cpu().double().sort(dim=1).values
    count = ordered.shape[1]
    if count < 2:
        return ordered[:, 0], torch.zeros_like(ordered[:, 0])
    below = torch.arange(1, count, dtype=torch.float64)
    centred = ordered - ordered.mean(1, keepdim=True)
    sum_below = centred.cumsum(1)[:, :-1]
    # with the overall mean at zero, w0 w1 (m0 - m1)^2 is (sum below / count)^2 / (w0 w1)
    weight = below / count
    between = (sum_below / count).square() / (weight * (1 - weight))
    between = between.masked_fill(ordered[:, 1:] == ordered[:, :-1], -1.0)  # equal values stay together
    best, split = between.max(1)
    cut = (ordered.gather(1, split[:, None]) + ordered.gather(1, split[:, None] + 1)).squeeze(1) / 2
    variance = centred.square().mean(1).clamp(min=1e-300)
    return cut, torch.where(best > 0, best / variance, 0.0).clamp(0, 1)


def rescale_difference(
    difference: torch.Tensor, otsu_part: float, mask_thresholding_ratio: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Remove the extremes of each picture's map and rescale it to [0, 1].

    The paper does not say how it removes extremes. With a ratio, the map is clamped at `ratio * its mean` and divided
    by that, as in diffusers. Without one, the clamp adapts to the map: its minimum becomes 0, and 0.5 lies at
    `otsu_part` of the way from there to Otsu's cut between its two classes, because a map fades out towards the edge of
    what changes, and Otsu's cut alone would trim that edge.

    Args:
        difference: (batch, height, width).
        otsu_part: See [`EditTuning`].
        mask_thresholding_ratio: Positive, or `None` for the adaptive clamp.

    Returns:
        The soft map, (batch, height, width) in float32, and the confidence, (batch,).
    """
    flat = difference.flatten(1).cpu().double()  # some devices have no float64
    cut, confidence = otsu_cut(flat)
    if mask_thresholding_ratio is None:
        floor = flat.min(1).values
        ceiling = floor + 2 * otsu_part * (cut - floor)
    else:
        floor = torch.zeros_like(cut)
        ceiling = mask_thresholding_ratio * flat.mean(1)
    span = (ceiling - floor)[:, None]
    soft = torch.where(span > 0, (flat - floor[:, None]) / span.clamp(min=1e-300), 0.0).clamp(0, 1)
    soft, confidence = (part.float().to(difference.device) for part in (soft, confidence))
    return soft.reshape(difference.shape), confidence


def shift_coherence(shift: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How uniformly the target's prompt shifts the prediction inside a mask: (batch,) in [0, 1].

    Another colour or material shifts it in the same direction all over the object, so the lengths of all shifts add up
    to little more than the length of their sum. Another shape shifts it one way where the old object gives way and
    other ways where the new one appears, and these cancel. For an empty mask it is 1.

    Args:
        shift: (batch, channels, height, width), from `noise_difference`.
        mask: (batch, 1, height, width) weights.
    """
    together = (shift * mask).sum((2, 3)).norm(dim=1)
    apart = (shift.norm(dim=1, keepdim=True) * mask).sum((1, 2, 3))
    return torch.where(apart > 0, together / apart.clamp(min=1e-30), 1.0)


def find_mask(
    contrast: NoiseContrast,
    tuning: EditTuning,
    mask_thresholding_ratio: float | None = None,
    mask_threshold: float = 0.5,
) -> MaskResult:
    """Turn noise differences into masks, each picture by its own statistics.

    Args:
        contrast: From `noise_difference`.
        tuning: What suits the model.
        mask_thresholding_ratio: See `rescale_difference`.
        mask_threshold: The threshold on the rescaled difference, in (0, 1); higher values give a smaller mask.
    """
    soft, confidence = rescale_difference(contrast.difference, tuning.otsu_part, mask_thresholding_ratio)
    relative = contrast.difference.mean((1, 2)) / contrast.magnitude.clamp(min=1e-12)
    soft = soft[:, None]
    mask = (soft > mask_threshold).float()
    coherence = shift_coherence(contrast.shift, mask)
    recolours = tuple(alike >= tuning.coherence for alike in coherence.tolist())
    return MaskResult(mask, soft, confidence, relative, coherence, recolours)


def outline_mask(soft_mask: torch.Tensor, mask_threshold: float, factor: int) -> torch.Tensor:
    """The mask in the picture's own pixels: the soft map, interpolated bilinearly and cut at the threshold.

    It follows the shape of what changes more closely than the blocks of latent pixels do.

    Args:
        soft_mask: (batch, 1, height, width), from `find_mask`.
        mask_threshold: The threshold, in (0, 1).
        factor: Pixels per latent along each side.

    Returns:
        (batch, 1, height * factor, width * factor), float32: 1.0 or 0.0.
    """
    smooth = F.interpolate(soft_mask, scale_factor=factor, mode="bilinear", align_corners=False)
    return (smooth > mask_threshold).float()
