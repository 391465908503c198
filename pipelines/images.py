"""Read pictures in the forms that people have them, and turn them into tensors for a VAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch

from semantic_edit.disk.telling import warn_caller
from semantic_edit.editing.numbers import check_dense, native_tensor, unit_floats
from semantic_edit.editing.pillow import SIXTEEN_BIT_MODES, in_srgb, upright
from semantic_edit.editing.stitching import eight_bits

ImageInput = (
    PIL.Image.Image
    | np.ndarray
    | torch.Tensor
    | list[PIL.Image.Image]
    | list[np.ndarray]
    | list[torch.Tensor]
)
EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "HSV")


@dataclass(frozen=True, eq=False)
class Images:
    """What to edit: pixels, or latents that are already scaled (tensors with the VAE's number of channels).

    planes: (batch, 3, height, width): 8-bit if the pictures were, otherwise float32 in [0, 1]; or `None`.
    latents: (batch, channels, height // factor, width // factor), or `None`.
    """

    planes: torch.Tensor | None = None
    latents: torch.Tensor | None = None

    @property
    def pixels(self) -> torch.Tensor | None:
        """The planes in float32, in [0, 1]: computed at each access, and four times as large as 8 bits."""
        return None if self.planes is None else _as_floats(self.planes).contiguous()

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels."""
        return None if self.planes is None else (self.planes.shape[-1], self.planes.shape[-2])

    @property
    def batch_size(self) -> int:
        """The number of pictures."""
        held = self.planes if self.planes is not None else self.latents
        return 0 if held is None else held.shape[0]


def read_images(image: ImageInput, factor: int = 1, latent_channels: int = 4) -> Images:
    """Read one or more images of one size, without loss of precision and without modifying them.

    PIL images of any 8-bit mode and of 16-bit greyscale are converted to RGB: rotated as their EXIF tag says, converted
    to sRGB from their colour profile, transparency laid over white, 16-bit values divided by 65535 rather than clipped.
    Arrays are (height, width), (height, width, 1, 3 or 4) or a batch of the latter; tensors are (1, 3 or 4, height,
    width) or a batch of these. Both hold floats in [0, 1], clipped if at most 2 % beyond, or unsigned 8- or 16-bit
    integers; four channels in an array are RGBA. A tensor with `latent_channels` channels is taken as latents, as
    everywhere in diffusers, and refused if it can only be RGBA. A warning is given if transparency or further frames
    are lost.

    Args:
        image: The image or images.
        factor: Both sides must be multiples of this, for callers that cannot resize them.
        latent_channels: Channels of the VAE's latents.

    Raises:
        TypeError: If `image` is not an image.
        ValueError: If an image's size, shape, range or mode is unusable, or a batch mixes sizes.
    """
    images = list(image) if isinstance(image, (list, tuple)) else [image]
    if not images:
        raise ValueError("`image` is an empty list; pass at least one picture.")
    tensors = [one for one in images if isinstance(one, torch.Tensor)]
    for tensor in tensors:
        check_dense("image", tensor)
    if len(tensors) == len(images) and all(_holds_latents(one, latent_channels) for one in tensors):
        return Images(latents=_read_latents(tensors))
    parts = [_read_one(one) for one in images]
    sizes = sorted({(part.shape[-1], part.shape[-2]) for part in parts})
    if len(sizes) > 1:
        raise ValueError(
            f"The pictures in `image` differ in size (width, height): {sizes}. Resize or crop them alike, "
            "or edit them one by one."
        )
    _check_size(*sizes[0], factor)
    if any(part.dtype != torch.uint8 for part in parts):
        parts = [_as_floats(part) for part in parts]
    return Images(planes=parts[0] if len(parts) == 1 else torch.cat(parts))


def opaque_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """An image as the pipelines see it: upright, in sRGB, opaque, 8-bit.

    Raises:
        ValueError: As for `read_images`.
    """
    planes = read_images(image).planes
    assert planes is not None  # only latents have none
    return PIL.Image.fromarray(eight_bits(planes[0]).permute(1, 2, 0).contiguous().numpy())


def _as_floats(planes: torch.Tensor) -> torch.Tensor:
    return planes.float() / 255.0 if planes.dtype == torch.uint8 else planes


def _check_size(width: int, height: int, factor: int) -> None:
    if not width or not height:
        raise ValueError(f"`image` has no pixels: it is {width} x {height} (width x height).")
    if width % factor or height % factor:
        nearest = (max(factor, width // factor * factor), max(factor, height // factor * factor))
        raise ValueError(
            f"`image` is {width} x {height} pixels (width x height), but the model takes only multiples of "
            f"{factor} on both sides. Resize or crop it first, for example to {nearest[0]} x {nearest[1]}."
        )


def _holds_latents(tensor: torch.Tensor, latent_channels: int) -> bool:
    return latent_channels != 3 and tensor.ndim in (3, 4) and tensor.shape[-3] == latent_channels


def _check_no_colours(tensor: torch.Tensor) -> None:
    """Raise a ValueError if would-be latents look like a picture with transparency."""
    in_range = tensor.is_floating_point() and tensor.numel() and tensor.min() >= 0 and tensor.max() <= 1
    if tensor.dtype == torch.uint8 or in_range:
        kind = "of 8 bits" if tensor.dtype == torch.uint8 else "entirely in [0, 1]"
        raise ValueError(
            f"`image` is a tensor of four channels {kind}: it seems to be a picture with transparency, but such "
            "tensors are taken for latents, which lie on both sides of 0. Lay it over a background and pass three "
            "channels, for white `image[:3] * image[3:] + 1 - image[3:]`, or pass an array (height, width, 4)."
        )


def _read_latents(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    tensors = [native_tensor("image", tensor) for tensor in tensors]
    for tensor in tensors:
        if not tensor.numel():
            raise ValueError(f"`image` holds latents without values, of shape {tuple(tensor.shape)}.")
        if tensor.shape[-3] == 4:
            _check_no_colours(tensor)
    sizes = sorted({tuple(tensor.shape[-2:]) for tensor in tensors})
    if len(sizes) > 1:
        raise ValueError(f"The latents in `image` differ in size (height, width): {sizes}.")
    latents = torch.cat([tensor if tensor.ndim == 4 else tensor[None] for tensor in tensors])
    if not latents.is_floating_point() or not torch.isfinite(latents).all():
        raise ValueError("`image` holds latents that are not finite floating-point numbers.")
    return latents.detach().float()


def _read_one(image: object) -> torch.Tensor:
    """One picture, or one batch, as `planes`."""
    if isinstance(image, PIL.Image.Image):
        return _read_pil(image)
    if isinstance(image, np.ndarray):
        return _read_array(image)
    if isinstance(image, torch.Tensor):
        image = native_tensor("image", image)
        if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3, 4):
            raise ValueError(
                "A tensor `image` must have shape (3, height, width) or (batch, 3, height, width), or 1 "
                f"channel for grey or 4 for transparency, got {tuple(image.shape)}."
            )
        return _three_channels(_checked_range(image if image.ndim == 4 else image[None]))
    if isinstance(image, str):
        raise TypeError(
            f"`image` is the text {image!r}, but must be a picture: the picture comes first, or by name, "
            "as in `pipe(image=picture, prompt=...)`. Open a file with `PIL.Image.open(path)`, and one on the web with "
            "`diffusers.utils.load_image(url)`."
        )
    raise TypeError(
        "`image` must be a PIL image, a numpy array, a torch tensor or a list of them, got "
        f"{type(image).__name__}."
    )


def _read_pil(image: PIL.Image.Image) -> torch.Tensor:
    image = in_srgb("image", upright("image", image))
    if image.mode in SIXTEEN_BIT_MODES:
        return _read_array(np.asarray(image).astype(np.uint16))
    if image.mode not in EIGHT_BIT_MODES:
        raise ValueError(
            f"`image` has mode {image.mode!r}, whose range of values is not known, so it cannot be "
            "converted without guessing. Scale it yourself, for example "
            "`numpy.asarray(image) / 65535.0` for 16-bit values in a 32-bit file, and pass the array."
        )
    if image.has_transparency_data:
        return _read_array(np.array(image.convert("RGBA")))
    return _read_array(np.array(image if image.mode == "RGB" else image.convert("RGB")))


def _read_array(array: np.ndarray) -> torch.Tensor:
    shape = array.shape
    if array.ndim == 2:
        array = array[None, :, :, None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(
            "An array `image` must have shape (height, width), (height, width, 3) or (batch, height, width, "
            f"3), or 1 channel for grey or 4 for transparency, got {shape}."
        )
    return _three_channels(_checked_range(native_tensor("image", array).permute(0, 3, 1, 2)))


def _checked_range(pixels: torch.Tensor) -> torch.Tensor:
    """Convert (batch, channels, height, width) to 8-bit integers or floats in [0, 1], or raise a ValueError."""
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.uint16:
        return pixels.float() / 65535.0
    if not pixels.is_floating_point():
        kind = (
            "booleans" if pixels.dtype == torch.bool else f"{pixels.dtype} values, whose range is not known"
        )
        raise ValueError(
            f"`image` holds {kind}. Pass floats in [0, 1], or unsigned integers of 8 or 16 bits."
        )
    return unit_floats(
        "image", pixels, "Bring [-1, 1] there with (image + 1) / 2 and [0, 255] with image / 255."
    )


def _three_channels(planes: torch.Tensor) -> torch.Tensor:
    """Three channels from 1 (grey), 3, or 4 (RGB and opacity, which is laid over white)."""
    if planes.shape[1] == 1:
        return planes.repeat(1, 3, 1, 1)
    if planes.shape[1] == 4:
        planes = _as_floats(planes)
        opacity = planes[:, 3:]
        if (opacity < 1).any():
            warn_caller(
                "`image` is transparent in places; they are laid over white, and the result has no transparency."
            )
        return planes[:, :3] * opacity + (1 - opacity)
    return planes
