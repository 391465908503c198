"""Whatever is passed to a pipeline, it either edits or says why not in one sentence, and leaves everything as it was.

Each try declares what is right: a result with a known property, or an error that this package itself raises and that
names the argument. What torch, numpy, Pillow or diffusers raise from inside is a failure, whatever it says.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import shutil
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from transformers import CLIPTextConfig, CLIPTextModel

from semantic_edit.editing.origins import MASK_ORIGIN
from semantic_edit.mapping_networks import LearningSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
MASK = np.eye(8)[:6]
ROOT = Path(__file__).parents[2]
OURS = (ValueError, TypeError, FloatingPointError, NotImplementedError, OSError)
SETTINGS = LearningSettings(inner_steps=1, stop_below=0.0, converged_below=100.0)
KEPT_BY_TRANSFORMERS = ("_tokenizer", "deprecation_warnings")  # how text was padded last, and what was told
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Refused:
    """An error of ours whose sentence holds some words, by default the argument's name."""

    words: str = ""
    only: type[BaseException] | tuple[type[BaseException], ...] = OURS


@dataclass(frozen=True)
class Same:
    """A result, bit for bit that of another value; by default of leaving the argument as the call has it."""

    value: Any = None
    warns: str = ""


@dataclass(frozen=True)
class Edits:
    """A result that is finite and of the picture's size, and outside the mask the picture itself.

    kept: The picture, (height, width, 3) in 8 bits, of which the pixels outside of `MASK` are to be found, or `None`.
    """

    size: tuple[int, int] = (64, 48)
    count: int = 1
    kept: Any = None
    warns: str = ""


@dataclass
class World:
    """One of everything that a call takes; made once."""

    pipe: Any
    style: Any
    image: Image.Image
    images: list[Image.Image]
    learned: Any
    trajectory: Any
    folder: Path
    make_pipe: Callable[..., Any]
    make_style_pipe: Callable[..., Any]
    make_unet: Callable[..., Any]
    array: np.ndarray = field(init=False)
    floats: np.ndarray = field(init=False)
    tensor: torch.Tensor = field(init=False)
    plain: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.array = np.array(self.image)
        self.floats = self.array.astype(np.float32) / np.float32(255)
        self.tensor = torch.from_numpy(self.floats).permute(2, 0, 1).contiguous()

    def call(self, name: str, pipes: dict[str, Any] | None = None, **given: Any) -> Any:
        pipe, style = (pipes or {}).get("pipe", self.pipe), (pipes or {}).get("style", self.style)
        common = {"image": self.image, "num_inference_steps": 3}
        if name == "edit":
            seed = torch.Generator().manual_seed(0)
            common |= {"prompt": TARGET, "source_prompt": SOURCE, "mask_image": MASK, "generator": seed}
            return pipe(**{**common, **given})
        if name == "mask":
            seed = torch.Generator().manual_seed(0)
            common |= {"target_prompt": TARGET, "source_prompt": SOURCE, "generator": seed}
            return pipe.generate_mask(**{**common, "num_maps_per_mask": 2, **given})
        if name == "invert":
            return pipe.invert(**{**common, **given})
        if name == "learn":
            common |= {"num_inference_steps": 2, "prompt": SOURCE, "settings": SETTINGS}
            return style.learn_mapping(**{**common, **given})
        if name == "load":
            return style.load_mapping_network(**given)
        assert name == "restyle"
        return style(**{"prompt": TARGET, "mapping_network": self.learned, **given})


@pytest.fixture(scope="module")
def world(make_pipe, make_style_pipe, make_unet, picture, pictures, learned, tmp_path_factory) -> World:
    pipe, style = make_pipe(), make_style_pipe()
    trajectory = pipe.invert(image=picture, num_inference_steps=3).trajectory
    folder = tmp_path_factory.mktemp("odd")
    learned.save_pretrained(folder / "learned")
    made = World(
        pipe,
        style,
        picture,
        pictures,
        learned,
        trajectory,
        folder,
        make_pipe,
        make_style_pipe,
        make_unet,
    )
    made.call(
        "edit", clip_skip=1
    )  # when transformers first looks at hidden layers, it installs hooks that stay
    for name in ("edit", "restyle"):
        made.plain[name] = bits(made.call(name))
    return made


def bits(result: Any) -> Any:
    """A result in a form that can be compared."""
    if isinstance(result, torch.Tensor):
        return result.detach().float().cpu().numpy().tobytes()
    if isinstance(result, np.ndarray):
        return result.tobytes()
    if isinstance(result, Image.Image):
        return result.mode, result.size, result.tobytes()
    if isinstance(result, (list, tuple)):
        return [bits(one) for one in result]
    if hasattr(result, "state_dict"):
        return {name: bits(values) for name, values in result.state_dict().items()}
    return bits(result.images if hasattr(result, "nsfw_content_detected") else result.latents)


def state(pipe: Any) -> dict[str, Any]:
    """The state that a call must not change."""
    found: dict[str, Any] = {"own": sorted(vars(pipe))}
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            found[name] = (
                [
                    (
                        path,
                        type(one),
                        one.training,
                        sorted(vars(one)),
                        id(getattr(one, "processor", None)),
                        len(one._forward_hooks),
                        len(one._forward_pre_hooks),
                    )
                    for path, one in part.named_modules()
                ],
                [
                    (path, one.dtype, one.requires_grad, one.grad is None, one._version, one.data_ptr())
                    for path, one in part.named_parameters()
                ],
            )
        elif part is not None:
            shown = {key: repr(value) for key, value in vars(part).items() if key not in KEPT_BY_TRANSFORMERS}
            found[name] = (shown, len(part) if hasattr(part, "vocab_size") else 0)
    return found


def is_ours(error: BaseException) -> bool:
    """Whether the last frame of an error is in this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    path = Path(trace.tb_frame.f_code.co_filename).resolve()
    return path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests")


def check_result(world: World, call: str, result: Any, right: Edits) -> None:
    if call == "mask":
        assert result.shape[0] == right.count
        assert set(np.unique(result)) <= {0, 1}
        return
    if call == "invert":
        assert result.latents.shape[0] == right.count
        assert torch.isfinite(result.latents).all()
        return
    if call in ("learn", "load"):
        networks = result if isinstance(result, list) else [result]
        assert len(networks) == right.count
        assert all(torch.isfinite(one).all() for net in networks for one in net.state_dict().values())
        return
    images = result[0] if isinstance(result, tuple) else result.images
    assert len(images) == right.count
    for image in images:
        if isinstance(image, Image.Image):
            assert (image.mode, image.size) == ("RGB", right.size)
        else:
            assert torch.isfinite(torch.as_tensor(image)).all()
    if right.kept is not None:
        kept = right.kept(world) if isinstance(right.kept, types.FunctionType) else right.kept
        outside = np.kron(MASK, np.ones((8, 8))) == 0
        for image in images:
            assert np.array_equal(np.asarray(image)[outside], np.asarray(kept)[outside])


def law(world: World, call: str, right: Any, given: dict[str, Any], **pipes: Any) -> None:
    """Try a call, and check it against what is declared right."""
    watched = [pipes.get("pipe", world.pipe), pipes.get("style", world.style)]
    before = [state(pipe) for pipe in watched]
    arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    copies = copy.deepcopy(arrays)
    error = result = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = world.call(call, pipes, **given)
        except BaseException as caught:
            error = caught
    assert [state(pipe) for pipe in watched] == before, "something was left changed"
    for name, value in copies.items():
        np.testing.assert_array_equal(arrays[name], value)
    plain = "restyle" if call in ("restyle", "learn", "load") else "edit"
    assert bits(world.call(plain)) == world.plain[plain], "a plain edit is another one afterwards"
    if isinstance(right, Refused):
        assert error is not None, f"accepted: {result!r}"
        words = right.words or "".join(f"`{name}`" for name in list(given)[:1])
        if not isinstance(error, right.only) or (right.only is OURS and not is_ours(error)):
            raise AssertionError(f"a raw {type(error).__name__}: {error}") from error
        assert words in str(error), f"{words!r} is not in: {error}"
        assert right.only is not OURS or len(str(error)) > 30, error
        return
    if error is not None:
        raise AssertionError(f"refused by {type(error).__name__}: {error}") from error
    if right.warns:
        assert any(right.warns in str(one.message) for one in told), [str(one.message) for one in told]
    if isinstance(right, Same):
        other = dict(given)
        for name in list(other)[:1]:
            if right.value is None:
                del other[name]
            else:
                other[name] = right.value(world)
        check_result(world, call, result, Edits(count=count_of(result)))
        assert bits(result) == bits(world.call(call, pipes, **other))
    else:
        check_result(world, call, result, right)


def count_of(result: Any) -> int:
    if hasattr(result, "nsfw_content_detected"):
        return len(result.images)
    if hasattr(result, "state_dict"):
        return 1
    return len(result.latents if hasattr(result, "latents") else result)


def tries(calls: str, argument: str, values: dict[str, Any], **beside: Any) -> Iterator[Any]:
    """Every combination of some calls and values of an argument."""
    for call in calls.split():
        for label, (value, right) in values.items():
            yield pytest.param(call, argument, value, right, beside, id=f"{call}-{argument}-{label}")


def made(world: World, value: Any) -> Any:
    return value(world) if isinstance(value, types.FunctionType) else value


def in_file(picture: Image.Image, kind: str, **options: Any) -> Image.Image:
    held = io.BytesIO()
    picture.save(held, kind, **options)
    return Image.open(io.BytesIO(held.getvalue()))


def closed(picture: Image.Image) -> Image.Image:
    opened = in_file(picture, "PNG")
    opened.close()
    return opened


def truncated(picture: Image.Image) -> Image.Image:
    held = io.BytesIO()
    picture.save(held, "PNG")
    return Image.open(io.BytesIO(held.getvalue()[:-200]))


def with_info(picture: Image.Image, **info: Any) -> Image.Image:
    changed = picture.copy()
    changed.info.update(info)
    return changed


def with_orientation(picture: Image.Image, value: Any) -> Image.Image:
    changed = picture.copy()
    changed.getexif()[0x0112] = value
    return changed


def with_alpha(picture: Image.Image, alpha: int) -> Image.Image:
    changed = picture.convert("RGBA")
    changed.putalpha(alpha)
    return changed


def frames_of(picture: Image.Image, kind: str) -> Image.Image:
    return in_file(
        picture, kind, save_all=True, append_images=[picture.transpose(Image.Transpose.ROTATE_180)]
    )


def with_one(array: np.ndarray, value: Any) -> np.ndarray:
    changed = array.copy()
    changed.flat[7] = value
    return changed


def read_only(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.flags.writeable = False
    return changed


def quantized(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.01, 0, torch.quint8)


NO_PICTURES: dict[str, Any] = {
    "a path": (Path("picture.png"), Refused()),
    "text": ("picture.png", Refused()),
    "numpy's text": (np.str_("picture.png"), Refused()),
    "bytes": (b"\x89PNG", Refused()),
    "a number": (7, Refused()),
    "true": (True, Refused()),
    "a dict": ({}, Refused()),
    "an object": (lambda w: object(), Refused()),
    "a class": (Image.Image, Refused()),
    "an empty list": ([], Refused()),
    "an empty tuple": ((), Refused()),
    "a list of nothing": ([None], Refused()),
    "a list of lists": (lambda w: [[w.image]], Refused()),
    "numbers in lists": (lambda w: w.array.tolist(), Refused()),
    "a picture and nothing": (lambda w: [w.image, None], Refused()),
    "a picture and text": (lambda w: [w.image, "picture.png"], Refused()),
    "a dict of pictures": (lambda w: {"a": w.image}, Refused()),
    "an iterator": (lambda w: iter([w.image]), Refused()),
    "a generator": (lambda w: (one for one in [w.image]), Refused()),
    "a set": (lambda w: {1, 2}, Refused()),
    "two sizes": (lambda w: [w.image, w.image.resize((48, 64))], Refused()),
    "no pixels, Pillow": (lambda w: Image.new("RGB", (0, 0)), Refused()),
    "no columns, Pillow": (lambda w: Image.new("RGB", (0, 9)), Refused()),
    "no pixels, array": (np.zeros((0, 0, 3)), Refused()),
    "no rows, array": (np.zeros((0, 64, 3), np.uint8), Refused()),
    "no pictures, array": (np.zeros((0, 48, 64, 3), np.uint8), Refused()),
    "no pixels, tensor": (torch.zeros(3, 0, 0), Refused()),
    "no pictures, tensor": (torch.zeros(0, 3, 48, 64), Refused()),
    "a number in an array": (np.array(0.5), Refused()),
    "a number in a tensor": (torch.tensor(0.5), Refused()),
    "one dimension": (np.zeros(64), Refused()),
    "five dimensions": (np.zeros((1, 1, 48, 64, 3)), Refused()),
    "two channels": (np.zeros((48, 64, 2)), Refused()),
    "five channels": (np.zeros((48, 64, 5)), Refused()),
    "channels first, array": (np.zeros((3, 48, 64)), Refused()),
    "channels last, tensor": (torch.zeros(48, 64, 3), Refused()),
    "two dimensions, tensor": (torch.zeros(48, 64), Refused()),
    "16 signed bits": (lambda w: w.array.astype(np.int16), Refused()),
    "64 bits": (lambda w: w.array.astype(np.int64), Refused()),
    "8 signed bits, tensor": (lambda w: w.tensor.to(torch.int8), Refused()),
    "64 bits, tensor": (lambda w: w.tensor.long(), Refused()),
    "booleans": (np.ones((48, 64, 3), bool), Refused()),
    "booleans, tensor": (torch.ones(3, 48, 64, dtype=torch.bool), Refused()),
    "objects": (lambda w: w.array.astype(object), Refused()),
    "text in an array": (lambda w: w.array.astype(str), Refused()),
    "dates": (lambda w: w.array.astype("datetime64[s]"), Refused()),
    "complex": (lambda w: w.floats.astype(complex), Refused()),
    "complex, tensor": (lambda w: w.tensor.to(torch.complex64), Refused()),
    "records": (np.zeros((48, 64), [("r", "u1"), ("g", "u1"), ("b", "u1")]), Refused()),
    "masked": (lambda w: np.ma.masked_less(w.floats, 0.5), Refused()),
    "bytes in [0, 255] as floats": (lambda w: w.array.astype(float), Refused()),
    "floats in [-1, 1]": (lambda w: 2 * w.floats - 1, Refused()),
    "one NaN": (lambda w: with_one(w.floats, NAN), Refused()),
    "one infinity": (lambda w: with_one(w.floats, INF), Refused()),
    "one NaN, tensor": (lambda w: torch.from_numpy(with_one(w.tensor.numpy(), NAN)), Refused()),
    "sparse": (lambda w: w.tensor.to_sparse(), Refused()),
    "without values": (lambda w: w.tensor.to("meta"), Refused()),
    "quantized": (lambda w: quantized(w.tensor), Refused()),
    "nested": (lambda w: torch.nested.nested_tensor([w.tensor, w.tensor]), Refused()),
    "transparent in [0, 1], tensor": (torch.rand(4, 48, 64), Refused()),
    "transparent in 8 bits, tensor": (torch.zeros(4, 48, 64, dtype=torch.uint8), Refused()),
    "LAB": (lambda w: Image.new("LAB", (64, 48)), Refused()),
    "32 bits": (lambda w: Image.new("I", (64, 48)), Refused()),
    "floats of Pillow": (lambda w: Image.new("F", (64, 48)), Refused()),
    "closed": (lambda w: closed(w.image), Refused()),
    "truncated": (lambda w: truncated(w.image), Refused()),
    "latents of NaN": (torch.full((1, 4, 6, 8), NAN), Refused()),
    "latents of whole numbers": (torch.full((1, 4, 6, 8), -3), Refused()),
    "latents without values": (torch.zeros(1, 4, 0, 8), Refused()),
    "no latents": (torch.zeros(0, 4, 6, 8), Refused()),
    "latents and a picture": (lambda w: [torch.randn(4, 6, 8), w.image], Refused()),
    "latents of two sizes": (lambda w: [torch.randn(4, 6, 8), torch.randn(4, 8, 6)], Refused()),
    "sparse latents": (lambda w: torch.randn(1, 4, 6, 8).to_sparse(), Refused()),
}
ODD_PICTURES: dict[str, Any] = {  # that are what they say
    "floats": (lambda w: w.floats, Edits(kept=lambda w: w.array)),
    "64 bits of float": (lambda w: w.floats.astype(np.float64), Same(lambda w: w.floats)),
    "16 bits of float": (lambda w: w.floats.astype(np.float16), Edits()),
    "long double": (lambda w: w.floats.astype(np.longdouble), Same(lambda w: w.floats)),
    "the other byte order": (lambda w: w.floats.astype(">f4"), Same(lambda w: w.floats)),
    "16 bits": (lambda w: w.array.astype(np.uint16) * 257, Edits(kept=lambda w: w.array)),
    "16 bits, the other byte order": (
        lambda w: (w.array.astype(np.uint16) * 257).astype(">u2"),
        Edits(kept=lambda w: w.array),
    ),
    "16 bits, tensor": (
        lambda w: torch.from_numpy(w.array.astype(np.uint16) * 257).permute(2, 0, 1),
        Edits(kept=lambda w: w.array),
    ),
    "8 bits": (lambda w: w.array, Same(lambda w: w.image)),
    "8 bits, tensor": (lambda w: torch.from_numpy(w.array).permute(2, 0, 1), Same(lambda w: w.image)),
    "read only": (lambda w: read_only(w.array), Same(lambda w: w.image)),
    "columns first in memory": (lambda w: np.asfortranarray(w.array), Same(lambda w: w.image)),
    "backwards in memory": (lambda w: w.array[::-1].copy()[::-1], Same(lambda w: w.image)),
    "one number for all": (np.broadcast_to(np.float32(0.5), (48, 64, 3)), Edits()),
    "a matrix": (lambda w: np.matrix(w.floats[..., 0]), Same(lambda w: w.floats[..., 0])),
    "grey": (lambda w: w.array[..., 0], Same(lambda w: w.array[..., :1])),
    "overshoot": (lambda w: with_one(w.floats, 1.015), Edits()),
    "half, tensor": (lambda w: w.tensor.half(), Edits()),
    "bfloat16, tensor": (lambda w: w.tensor.bfloat16(), Edits()),
    "double, tensor": (lambda w: w.tensor.double(), Same(lambda w: w.tensor)),
    "8 bits of float, tensor": (lambda w: w.tensor.to(torch.float8_e4m3fn), Edits()),
    "with gradients": (lambda w: w.tensor.clone().requires_grad_(), Same(lambda w: w.tensor)),
    "a parameter": (lambda w: torch.nn.Parameter(w.tensor.clone()), Same(lambda w: w.tensor)),
    "channels last in memory": (
        lambda w: w.tensor[None].to(memory_format=torch.channels_last),
        Same(lambda w: w.tensor),
    ),
    "turned by its sign bit": (lambda w: torch._neg_view(-w.tensor), Same(lambda w: w.tensor)),
    "a list of one": (lambda w: [w.image], Same(lambda w: w.image)),
    "a tuple of one": (lambda w: (w.image,), Same(lambda w: w.image)),
    "kinds mixed": (
        lambda w: [w.image, w.array, w.floats, w.tensor],
        Edits(count=4, kept=lambda w: w.array),
    ),
    "batches mixed": (lambda w: [w.array[None].repeat(2, 0), w.image], Edits(count=3)),
    "opaque": (lambda w: with_alpha(w.image, 255), Same(lambda w: w.image)),
    "half transparent": (lambda w: with_alpha(w.image, 128), Edits(warns="`image` is transparent")),
    "wholly transparent": (lambda w: with_alpha(w.image, 0), Edits(warns="`image` is transparent")),
    "a palette": (lambda w: w.image.quantize(16), Same(lambda w: w.image.quantize(16).convert("RGB"))),
    "black and white": (
        lambda w: w.image.convert("1"),
        Same(lambda w: w.image.convert("1").convert("RGB")),
    ),
    "CMYK": (lambda w: w.image.convert("CMYK"), Same(lambda w: w.image.convert("CMYK").convert("RGB"))),
    "YCbCr": (
        lambda w: w.image.convert("YCbCr"),
        Same(lambda w: w.image.convert("YCbCr").convert("RGB")),
    ),
    "HSV": (lambda w: w.image.convert("HSV"), Same(lambda w: w.image.convert("HSV").convert("RGB"))),
    "premultiplied": (lambda w: with_alpha(w.image, 200).convert("RGBa"), Edits(warns="transparent")),
    "padded": (lambda w: w.image.convert("RGBX"), Same(lambda w: w.image)),
    "16 bits of grey": (lambda w: Image.new("I;16", (64, 48), 40000), Edits()),
    "16 bits of grey, the other order": (lambda w: Image.new("I;16B", (64, 48), 40000), Edits()),
    "lazy": (lambda w: in_file(w.image, "PNG"), Same(lambda w: w.image)),
    "several frames": (lambda w: frames_of(w.image, "GIF"), Edits(warns="`image` holds 2 frames")),
    "several frames of PNG": (lambda w: frames_of(w.image, "PNG"), Edits(warns="`image` holds 2 frames")),
    "on its side": (lambda w: with_orientation(w.image, 3), Same(lambda w: w.image.rotate(180))),
    "orientation 99": (lambda w: with_orientation(w.image, 99), Same(lambda w: w.image)),
    "orientation as text": (lambda w: with_orientation(w.image, "x"), Same(lambda w: w.image)),
    "broken EXIF": (lambda w: with_info(w.image, exif=b"Exif\x00\x00II*"), Same(lambda w: w.image)),
    "EXIF that is text": (lambda w: with_info(w.image, exif="x"), Edits()),
    "a broken profile": (
        lambda w: with_info(w.image, icc_profile=b"x" * 200),
        Same(lambda w: w.image, warns="`image` has a colour profile"),
    ),
    "a profile that is text": (
        lambda w: with_info(w.image, icc_profile="x"),
        Same(lambda w: w.image, warns="`image` has a colour profile"),
    ),
    "sRGB's profile": (
        lambda w: with_info(
            w.image, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        ),
        Same(lambda w: w.image),
    ),
    "LAB's profile": (
        lambda w: with_info(
            w.image, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        ),
        Same(lambda w: w.image, warns="`image` has a colour profile"),
    ),
}
ODD_SIZES: dict[str, Any] = {
    "1 x 1": (lambda w: Image.new("RGB", (1, 1), "red"), Edits((1, 1))),
    "5000 x 3": (lambda w: Image.new("RGB", (5000, 3), "red"), Edits((5000, 3))),
    "2 x 1500": (lambda w: Image.new("RGB", (2, 1500), "red"), Edits((2, 1500))),
    "61 x 47": (lambda w: w.image.resize((61, 47)), Edits((61, 47))),
    "1 x 1, 8 bits, array": (np.zeros((1, 1, 3), np.uint8), Edits((1, 1))),
    "latents": (lambda w: torch.randn(1, 4, 6, 8), Edits()),
    "one latent": (lambda w: torch.randn(4, 1, 1), Edits((8, 8))),
    "half latents": (lambda w: torch.randn(4, 6, 8).half(), Edits()),
}
NO_MASKS: dict[str, Any] = {
    "text": ("mask.png", Refused()),
    "a number": (1, Refused()),
    "true": (True, Refused()),
    "a dict": ({}, Refused()),
    "an empty list": ([], Refused()),
    "a list of nothing": ([None], Refused()),
    "numbers in lists": (MASK.tolist(), Refused()),
    "two sizes": ([MASK, np.ones((12, 16))], Refused()),
    "another shape": (np.eye(8), Refused()),
    "upright": (MASK.T.copy(), Refused()),
    "colour": (np.zeros((48, 64, 3)), Refused()),
    "RGBA": (np.zeros((48, 64, 4)), Refused()),
    "three channels": (torch.zeros(1, 3, 48, 64), Refused()),
    "five dimensions": (torch.zeros(1, 1, 1, 48, 64), Refused()),
    "one dimension": (np.zeros(64), Refused()),
    "no dimension": (np.array(1.0), Refused()),
    "empty": (np.zeros((0, 0)), Refused()),
    "no masks": (np.zeros((0, 6, 8)), Refused()),
    "no pixels, Pillow": (lambda w: Image.new("L", (0, 0)), Refused()),
    "one NaN": (with_one(MASK, NAN), Refused()),
    "one infinity": (with_one(MASK, INF), Refused()),
    "negative": (-MASK, Refused()),
    "255 as floats": (255 * MASK, Refused()),
    "255 in 64 bits": ((255 * MASK).astype(np.int64), Refused()),
    "objects": (MASK.astype(object), Refused()),
    "text in an array": (MASK.astype(str), Refused()),
    "complex": (MASK.astype(complex), Refused()),
    "masked": (np.ma.masked_less(MASK, 0.5), Refused()),
    "sparse": (torch.from_numpy(MASK).to_sparse(), Refused()),
    "without values": (torch.zeros(6, 8, device="meta"), Refused()),
    "nested": (lambda w: torch.nested.nested_tensor([torch.ones(6, 8)] * 2), Refused()),
    "32 bits": (lambda w: Image.new("I", (64, 48), 1), Refused()),
    "floats of Pillow": (lambda w: Image.new("F", (64, 48), 1), Refused()),
    "closed": (lambda w: closed(w.image), Refused()),
    "remembers nonsense": (
        lambda w: with_info(Image.new("L", (64, 48), 255), **{MASK_ORIGIN: "{"}),
        Refused(),
    ),
    "remembers a number": (lambda w: with_info(Image.new("L", (64, 48), 255), **{MASK_ORIGIN: 7}), Refused()),
    "remembers bytes": (
        lambda w: with_info(Image.new("L", (64, 48), 255), **{MASK_ORIGIN: b"{}"}),
        Refused(),
    ),
    "remembers a box outside": (
        lambda w: with_info(
            Image.new("L", (64, 48), 255),
            **{
                MASK_ORIGIN: json.dumps(
                    {"picture": [64, 48], "box": [0, 0, 99, 99], "size": [64, 48], "look": ""}
                )
            },
        ),
        Refused("box"),
    ),
    "remembers another picture": (
        lambda w: with_info(
            Image.new("L", (64, 48), 255),
            **{
                MASK_ORIGIN: json.dumps(
                    {"picture": [99, 99], "box": [0, 0, 99, 99], "size": [64, 48], "look": ""}
                )
            },
        ),
        Refused(),
    ),
}
ODD_MASKS: dict[str, Any] = {
    "booleans": (MASK > 0, Same()),
    "16 bits of float": (MASK.astype(np.float16), Same()),
    "the other byte order": (MASK.astype(">f4"), Same()),
    "long double": (MASK.astype(np.longdouble), Same()),
    "64 bits of zeros and ones": (MASK.astype(np.int64), Same()),
    "8 bits of zeros and ones": (MASK.astype(np.uint8), Same()),
    "8 bits": ((255 * MASK).astype(np.uint8), Same()),
    "16 bits, the other order": ((65535 * MASK).astype(">u2"), Same()),
    "half, tensor": (torch.from_numpy(MASK).half(), Same()),
    "with gradients": (torch.from_numpy(MASK).requires_grad_(), Same()),
    "four dimensions": (MASK[None, None], Same()),
    "channels last": (MASK[None, ..., None], Same()),
    "one channel": (MASK[..., None], Same()),
    "a matrix": (lambda w: np.matrix(MASK), Same()),
    "a list of one": ([MASK], Same()),
    "in pixels": (np.kron(MASK, np.ones((8, 8))), Same()),
    "RGB of Pillow": (lambda w: Image.fromarray((255 * MASK).astype(np.uint8)).convert("RGB"), Same()),
    "a palette": (lambda w: Image.fromarray((255 * MASK).astype(np.uint8)).convert("P"), Same()),
    "black and white": (lambda w: Image.fromarray((255 * MASK).astype(np.uint8)).convert("1"), Same()),
    "overshoot": (1.01 * MASK, Same()),
    "black": (np.zeros((6, 8)), Edits(kept=lambda w: w.array, warns="is empty")),
    "white": (np.ones((6, 8)), Edits(warns="covers the whole picture")),
    "faint": (0.2 * MASK, Edits(kept=lambda w: w.array, warns="nowhere brighter than half")),
    "fainter than a float": (1e-40 * MASK, Edits(kept=lambda w: w.array)),
    "one pixel": (np.ones((1, 1)), Edits(warns="covers the whole picture")),
    "three masks": (np.stack([MASK] * 3), Edits(count=3, kept=lambda w: w.array)),
    "several frames": (
        lambda w: frames_of(Image.fromarray((255 * MASK).astype(np.uint8)), "GIF"),
        Edits(warns="`mask_image` holds 2 frames"),
    ),
}
NO_TEXTS: dict[str, Any] = {
    "a number": (7, Refused()),
    "true": (True, Refused()),
    "bytes": (b"a pear", Refused()),
    "an empty list": ([], Refused()),
    "a list of nothing": ([None], Refused()),
    "text and a number": (["a pear", 7], Refused()),
    "a list of lists": ([["a pear"]], Refused()),
    "a dict": ({"a": "pear"}, Refused()),
    "a set": ({"a pear"}, Refused()),
    "an array": (np.array(["a pear"]), Refused()),
    "an array of several": (np.array(["a pear", "a mug"]), Refused()),
    "a tensor": (torch.zeros(3), Refused()),
    "a generator": (lambda w: (one for one in ["a pear"]), Refused()),
    "half a pair": ("a \ud800 pear", Refused()),
    "half a pair in a list": (["a \udfff pear"], Refused()),
}
ODD_TEXTS: dict[str, Any] = {
    "empty": ("", Edits()),
    "spaces": ("  \t\n ", Edits()),
    "a null": ("\x00", Edits()),
    "far too long": ("a green pear " * 2000, Edits(warns="is longer than the 16 tokens")),
    "one long word": ("pear" * 5000, Edits()),
    "other scripts": ("一个梨 груша 🍐 كمثرى", Edits()),
    "accents apart": ("pe\u0301ar", Edits()),
    "the end token": ("a <|endoftext|> pear", Edits()),
    "the start token": ("<|startoftext|>" * 3, Edits()),
    "numpy's text": (np.str_(TARGET), Edits()),
    "a list of one": ([TARGET], Edits()),
    "a tuple of two": ((TARGET, "a mug"), Edits(count=2)),
}
NO_EMBEDS: dict[str, Any] = {
    "text": ("a pear", Refused()),
    "an array": (np.zeros((1, 16, 32), np.float32), Refused()),
    "a list": ([torch.zeros(16, 32)], Refused()),
    "whole numbers": (torch.zeros(1, 16, 32, dtype=torch.long), Refused()),
    "complex": (torch.zeros(1, 16, 32, dtype=torch.complex64), Refused()),
    "two dimensions": (torch.zeros(16, 32), Refused()),
    "four dimensions": (torch.zeros(1, 1, 16, 32), Refused()),
    "none": (torch.zeros(0, 16, 32), Refused()),
    "no tokens": (torch.zeros(1, 0, 32), Refused()),
    "another width": (torch.zeros(1, 16, 31), Refused()),
    "another length": (torch.zeros(1, 15, 32), Refused("same number of tokens")),
    "NaN": (torch.full((1, 16, 32), NAN), Refused()),
    "infinite": (torch.full((1, 16, 32), INF), Refused()),
    "sparse": (torch.zeros(1, 16, 32).to_sparse(), Refused()),
    "without values": (torch.zeros(1, 16, 32, device="meta"), Refused()),
}
ODD_EMBEDS: dict[str, Any] = {
    "zeros": (torch.zeros(1, 16, 32), Edits()),
    "half": (torch.zeros(1, 16, 32).half(), Same(lambda w: torch.zeros(1, 16, 32))),
    "double": (torch.zeros(1, 16, 32).double(), Same(lambda w: torch.zeros(1, 16, 32))),
    "with gradients": (torch.zeros(1, 16, 32).requires_grad_(), Same(lambda w: torch.zeros(1, 16, 32))),
    "two": (torch.zeros(2, 16, 32), Edits(count=2)),
}
NO_FLAGS: dict[str, Any] = {
    "text": ("no", Refused()),
    "2": (2, Refused()),
    "an array": (np.array([True, False]), Refused()),
    "NaN": (NAN, Refused()),
    "a list": ([False], Refused()),
    "a tensor": (torch.tensor(True), Refused()),
}
NO_GENERATORS: dict[str, Any] = {
    "a seed": (7, Refused()),
    "text": ("cpu", Refused()),
    "numpy's": (lambda w: np.random.default_rng(0), Refused()),
    "a list of nothing": ([None], Refused()),
    "an empty list": ([], Refused()),
    "two for one": (lambda w: [torch.Generator()] * 2, Refused()),
    "a class": (torch.Generator, Refused()),
    "a tuple": (lambda w: (torch.Generator(),), Refused()),
}
NO_KWARGS: dict[str, Any] = {
    "a number": (5, Refused()),
    "a list": ([], Refused()),
    "text": ("scale", Refused()),
    "a number as name": ({1: 2}, Refused()),
    "scale NaN": ({"scale": NAN}, Refused("cross_attention_kwargs['scale']")),
    "scale text": ({"scale": "1"}, Refused("cross_attention_kwargs['scale']")),
    "scale nothing": ({"scale": None}, Refused("cross_attention_kwargs['scale']")),
    "scale 10 ** 30": ({"scale": 10**30}, Refused("cross_attention_kwargs['scale']")),
    "boxes": ({"gligen": {"boxes": torch.zeros(1, 1, 4)}}, Refused()),
    "the network's own text": ({"encoder_hidden_states": torch.zeros(1, 16, 32)}, Refused()),
    "a mask": ({"attention_mask": torch.zeros(1, 16)}, Refused()),
}
NO_TENSOR_NAMES: dict[str, Any] = {
    "nothing": (None, Refused()),
    "text": ("latents", Refused()),
    "a number": (5, Refused()),
    "nonsense": (["noise"], Refused()),
    "numbers": ([5], Refused()),
    "lists": ([["latents"]], Refused()),
    "nothing in a list": ([None], Refused()),
    "arrays": ([np.array(["latents", "noise"])], Refused()),
}
NO_FUNCTIONS: dict[str, Any] = {
    "a number": (5, Refused()),
    "text": ("print", Refused()),
    "a list": ([print], Refused()),
    "false": (False, Refused()),
}
NO_PRESETS: dict[str, Any] = {
    "nothing": (None, Refused()),
    "another": ("Default", Refused()),
    "a number": (7, Refused()),
    "a list": (["paper"], Refused()),
    "an array": (np.array(["paper", "default"]), Refused()),
}
NO_OUTPUTS: dict[str, Any] = {
    "nothing": (None, Refused()),
    "another": ("PIL", Refused()),
    "a list": (["pil"], Refused()),
    "an array": (np.array(["pil", "np"]), Refused()),
}

NO_LATENTS: dict[str, Any] = {
    "text": ("latents", Refused()),
    "an array": (np.zeros((1, 3, 4, 6, 8), np.float32), Refused()),
    "an empty list": ([], Refused()),
    "a list of nothing": ([None], Refused()),
    "whole numbers": (torch.zeros(1, 3, 4, 6, 8, dtype=torch.long), Refused()),
    "complex": (torch.zeros(1, 3, 4, 6, 8, dtype=torch.complex64), Refused()),
    "no dimension": (torch.tensor(0.5), Refused()),
    "none": (torch.zeros(0, 3, 4, 6, 8), Refused()),
    "none in four dimensions": (torch.zeros(0, 4, 6, 8), Refused()),
    "NaN": (torch.full((1, 3, 4, 6, 8), NAN), Refused("NaN or infinite")),
    "of other steps": (torch.zeros(1, 9, 4, 6, 8), Refused()),
    "of another size": (torch.zeros(1, 3, 4, 8, 6), Refused("latent shape")),
    "of another VAE": (torch.zeros(1, 3, 5, 6, 8), Refused("latent shape")),
    "of another picture": (lambda w: torch.randn(1, 3, 4, 6, 8), Refused()),
    "of sizes mixed": ([torch.zeros(1, 3, 4, 6, 8), torch.zeros(1, 3, 4, 8, 6)], Refused()),
    "of ranks mixed": ([torch.zeros(1, 3, 4, 6, 8), torch.zeros(3, 4, 6, 8)], Refused()),
    "sparse": (torch.zeros(1, 3, 4, 6, 8).to_sparse(), Refused()),
    "without values": (torch.zeros(1, 3, 4, 6, 8, device="meta"), Refused()),
}


def inverted(world: World) -> torch.Tensor:
    return world.trajectory.latents.transpose(0, 1).flip(1)


def walked(**changes: Any) -> Callable[[World], Any]:
    """The trajectory with a changed field."""

    def change(world: World) -> Any:
        values = {name: made(world, value) for name, value in changes.items()}
        return dataclasses.replace(world.trajectory, **values)

    return lambda world: change(world)


def latents_with(value: float) -> Callable[[World], torch.Tensor]:
    def change(world: World) -> torch.Tensor:
        latents = world.trajectory.latents.clone()
        latents[1, 0, 0, 0, 0] = value
        return latents

    return lambda world: change(world)


NO_TRAJECTORIES: dict[str, Any] = {
    "text": ("t.safetensors", Refused()),
    "a path": (Path("t.safetensors"), Refused()),
    "a list": (lambda w: [w.trajectory], Refused()),
    "a dict": (lambda w: vars(w.trajectory), Refused()),
    "latents": (lambda w: w.trajectory.latents, Refused()),
    "NaN": (walked(latents=latents_with(NAN)), Refused()),
    "infinite": (walked(latents=latents_with(INF)), Refused()),
    "another model": (walked(model_fingerprint="0123456789abcdef"), Refused()),
    "another schedule": (walked(schedule_fingerprint="0123456789abcdef"), Refused()),
    "another scale": (walked(scaling_factor=0.5), Refused()),
    "other steps": (walked(num_inference_steps=4), Refused()),
    "another prediction": (walked(prediction_type="sample"), Refused()),
    "other latents": (walked(latents=lambda w: w.trajectory.latents + 1), Refused()),
    "of no picture": (walked(latents=lambda w: w.trajectory.latents[:, :0]), Refused()),
    "of other channels": (walked(latents=lambda w: w.trajectory.latents[:, :, :3]), Refused()),
    "of another size": (walked(latents=lambda w: w.trajectory.latents[..., :7]), Refused()),
    "of whole numbers": (walked(latents=lambda w: w.trajectory.latents.long()), Refused()),
    "without values": (walked(latents=lambda w: w.trajectory.latents.to("meta")), Refused()),
    "with a LoRA": (
        lambda w: dataclasses.replace(
            w.trajectory, model_fingerprint=w.trajectory.model_fingerprint + "+a+b"
        ),
        Refused(),
    ),
    "of another picture": (
        lambda w: w.pipe.invert(image=w.images[1], num_inference_steps=3).trajectory,
        Refused(),
    ),
    "of a weaker inversion": (
        lambda w: w.pipe.invert(image=w.image, num_inference_steps=3, inpaint_strength=0.4).trajectory,
        Refused(),
    ),
}


def interrupts(world: World) -> Callable[..., Any]:
    def callback(pipe: Any, *_: Any) -> None:
        pipe._interrupt = True

    return callback


def raises(error: BaseException) -> Callable[[World], Callable[..., Any]]:
    def callback(*_: Any) -> None:
        raise error

    return lambda world: callback


def returns(value: Any) -> Callable[[World], Callable[..., Any]]:
    return lambda world: lambda *_: value


def writes(value: float) -> Callable[[World], Callable[..., Any]]:
    def callback(_pipe: Any, _step: int, _timestep: int, tensors: dict[str, Any]) -> None:
        tensors["latents"].fill_(value)

    return lambda world: callback


def guides(value: Any) -> Callable[[World], Callable[..., Any]]:
    def callback(pipe: Any, *_: Any) -> None:
        pipe._guidance_scale = value

    return lambda world: callback


def calls_again(world: World) -> Callable[..., Any]:
    def callback(*_: Any) -> None:
        assert bits(world.call("edit")) == world.plain["edit"]

    return callback


def empties(world: World) -> Callable[..., Any]:
    def callback(_pipe: Any, _step: int, _timestep: int, tensors: dict[str, Any]) -> None:
        tensors.clear()

    return callback


CALLBACKS: dict[str, Any] = {
    **NO_FUNCTIONS,
    "raises": (raises(KeyError("its own")), Refused("its own", KeyError)),
    "raises what ends programs": (raises(SystemExit(3)), Refused("3", SystemExit)),
    "is interrupted": (raises(KeyboardInterrupt("now")), Refused("now", KeyboardInterrupt)),
    "ends an iteration": (raises(StopIteration("its own")), Refused("its own", StopIteration)),
    "interrupts": (interrupts, Edits()),
    "returns nothing": (returns(None), Same()),
    "returns an empty dict": (returns({}), Same()),
    "returns unknown names": (returns({"noise": 7}), Same()),
    "returns text": (returns("latents"), Refused()),
    "returns a number": (returns(7), Refused()),
    "returns true": (returns(True), Refused()),
    "returns an array": (returns({"latents": np.zeros((1, 4, 6, 8))}), Refused()),
    "returns NaN": (returns({"latents": torch.full((1, 4, 6, 8), NAN)}), Refused("latents")),
    "returns a sparse tensor": (
        lambda w: lambda p, s, t, k: {"latents": k["latents"].to_sparse()},
        Refused(),
    ),
    "returns no values": (lambda w: lambda p, s, t, k: {"latents": k["latents"].to("meta")}, Refused()),
    "returns another size": (returns({"latents": torch.zeros(1, 4, 8, 6)}), Refused()),
    "returns doubles": (lambda w: lambda p, s, t, k: {"latents": k["latents"].double()}, Same()),
    "returns what needs gradients": (
        lambda w: lambda p, s, t, k: {"latents": k["latents"].clone().requires_grad_()},
        Same(),
    ),
    "writes to the latents": (writes(0.5), Edits()),
    "writes NaN": (writes(NAN), Refused("NaN or infinite")),
    "guides by NaN": (guides(NAN), Refused("`guidance_scale`")),
    "guides by text": (guides("7"), Refused("`guidance_scale`")),
    "guides by nothing": (guides(None), Refused("`guidance_scale`")),
    "ends guidance": (guides(1), Edits()),
    "takes too few arguments": (lambda w: lambda: None, Refused("argument", TypeError)),
    "calls the pipeline": (calls_again, Same()),
    "empties what it gets": (empties, Same()),
}
OLD_CALLBACKS: dict[str, Any] = {
    **NO_FUNCTIONS,
    "raises": (raises(KeyError("its own")), Refused("its own", KeyError)),
    "returns nonsense": (returns("latents"), Same()),
    "writes NaN": (lambda w: lambda step, timestep, latents: latents.fill_(NAN), Refused("NaN or infinite")),
}
EXTREMES: dict[str, Any] = {  # that are within their ranges
    "guidance_scale": [0, 1, 1000, Fraction(15, 2), np.float16(7.5)],
    "mask_feather": [1e-30, 1000],
    "mask_grow": [-10_000, 10_000, np.int8(-1)],
    "num_images_per_prompt": [3],
    "inpaint_strength": [1, Fraction(1, 3)],
    "num_inference_steps": [2, np.uint8(3)],
    "guidance_rescale": [1, 0.5],
    "guidance_stop": [0, 1e-30],
    "clip_skip": [0, 2, np.int64(1)],
}
FINDING: dict[str, Any] = {  # the same where a mask is found
    "mask_threshold": [1e-30, 1 - 1e-9],
    "mask_thresholding_ratio": [1e-30, 1e6],
    "mask_encode_strength": [1, Fraction(1, 3)],
    "num_maps_per_mask": [1, np.int16(30)],
    "mask_batch_size": [1, 1_000_000],
}
NO_SIZES: dict[str, Any] = {
    "height alone": ({"height": 48}, Refused("`height` and `width`")),
    "width alone": ({"width": 48}, Refused("`height` and `width`")),
    "no multiples": ({"height": 50, "width": 50}, Refused("multiples of 8")),
    "true": ({"height": True, "width": 64}, Refused("`height`")),
    "text": ({"height": "48", "width": "64"}, Refused("`height`")),
    "negative": ({"height": -8, "width": 64}, Refused("`height`")),
    "NaN": ({"height": NAN, "width": 64}, Refused("`height`")),
    "Decimal": ({"height": Decimal(48), "width": 64}, Refused("`height`")),
    "for latents": (
        {"height": 48, "width": 64, "image": torch.randn(4, 6, 8)},
        Refused("`height` and `width`"),
    ),
    "the smallest": ({"height": 8, "width": 8}, Edits()),
    "very long": ({"height": 8, "width": 2048}, Edits()),
    "numpy's": ({"height": np.int32(48), "width": np.uint16(64)}, Edits()),
}
COMBINED: dict[str, Any] = {  # what only together is wrong, or right
    "focus without pixels": ({"image": torch.randn(4, 6, 8), "focus": True}, Refused("`focus=True`")),
    "focus and a whole trajectory": (
        lambda w: {"trajectory": w.trajectory, "focus": True},
        Refused("`trajectory`"),
    ),
    "a size and a trajectory": (
        lambda w: {"trajectory": w.trajectory, "height": 64, "width": 64},
        Refused("`trajectory`"),
    ),
    "focus and no mask": ({"mask_image": None, "focus": True}, Refused("`focus=True` found no part")),
    "focus, black": ({"mask_image": np.zeros((6, 8)), "focus": True}, Edits(kept=lambda w: w.array)),
    "focus, three pictures": (
        lambda w: {"image": w.images, "mask_image": np.stack([MASK] * 3), "focus": True},
        Edits(count=3),
    ),
    "latents and their background": (
        {"image": torch.randn(4, 6, 8), "preserve_background": True},
        Refused("`preserve_background=True`"),
    ),
    "both inversions": (
        lambda w: {"trajectory": w.trajectory, "image_latents": inverted(w)},
        Refused("`trajectory` and `image_latents`"),
    ),
    "nothing at all": ({"image": None}, Refused("`image`")),
    "an inversion alone": (lambda w: {"image": None, "trajectory": w.trajectory}, Edits()),
    "latents of an inversion": (lambda w: {"image_latents": inverted(w)}, Edits(kept=lambda w: w.array)),
    "the same in four dimensions": (lambda w: {"image_latents": inverted(w).flatten(0, 1)}, Edits()),
    "the same in half": (lambda w: {"image_latents": inverted(w).half()}, Edits()),
    "the same in double": (lambda w: {"image_latents": inverted(w).double()}, Edits()),
    "a trajectory in half": (
        lambda w: {"trajectory": dataclasses.replace(w.trajectory, latents=w.trajectory.latents.half())},
        Edits(),
    ),
    "a trajectory in double": (
        lambda w: {"trajectory": dataclasses.replace(w.trajectory, latents=w.trajectory.latents.double())},
        Edits(),
    ),
    "a trajectory with gradients": (
        lambda w: {
            "trajectory": dataclasses.replace(
                w.trajectory, latents=w.trajectory.latents.clone().requires_grad_()
            )
        },
        Edits(),
    ),
    "prompt and embeddings": (
        {"prompt_embeds": torch.zeros(1, 16, 32)},
        Refused("`prompt` and `prompt_embeds`"),
    ),
    "neither": ({"prompt": None}, Refused("`prompt` nor `prompt_embeds`")),
    "all from two": (
        lambda w: {"image": w.images[:2], "prompt": [TARGET] * 2, "mask_image": [MASK] * 2},
        Edits(count=2),
    ),
    "three pictures, two prompts": (
        lambda w: {"image": w.images, "prompt": [TARGET] * 2},
        Refused("in number"),
    ),
    "old latents": ({"latents": torch.zeros(1)}, Edits(warns="`latents` has no effect")),
    "eta": ({"eta": 0.5}, Refused("`eta`")),
    "eta as text": ({"eta": "0"}, Refused("`eta`")),
    "eta as a tensor": ({"eta": torch.tensor(0.0)}, Refused("`eta`")),
    "the same prompts": ({"mask_image": None, "source_prompt": TARGET}, Edits(kept=None)),
    "paper": ({"preset": "paper"}, Edits()),
    "paper with its pixels": (
        {"preset": "paper", "preserve_background": True},
        Edits(kept=lambda w: w.array),
    ),
    "a tuple": ({"return_dict": False}, Edits()),
}


def spoiled(name: str, layer: str) -> Callable[[World], dict[str, Any]]:
    """A copy of a component with NaN in the weights of one layer."""

    def build(world: World) -> dict[str, Any]:
        part = copy.deepcopy(world.style.components[name])
        layers = [one for path, one in part.named_modules() if path.endswith(layer)]
        with torch.no_grad():
            layers[-1].weight.fill_(NAN)
        return {name: part}

    return lambda world: build(world)


def instead(name: str, value: Any) -> Callable[[World], dict[str, Any]]:
    return lambda world: {name: made(world, value)}


def cast(name: str, dtype: torch.dtype) -> Callable[[World], dict[str, Any]]:
    return lambda world: {name: copy.deepcopy(world.style.components[name]).to(dtype)}


def other_text_encoder(world: World) -> Any:
    own = world.pipe.text_encoder.config
    return CLIPTextModel(CLIPTextConfig(**{**own.to_dict(), "hidden_size": 16})).eval()


def scheduled(kind: str = "DDIMScheduler", /, **changes: Any) -> Callable[[World], dict[str, Any]]:
    """A scheduler with a changed config."""

    def build(world: World) -> dict[str, Any]:
        own = {name: value for name, value in world.pipe.scheduler.config.items() if not name.startswith("_")}
        scheduler = getattr(diffusers, kind).from_config(own)
        scheduler.register_to_config(**changes)
        return {"scheduler": scheduler}

    return lambda world: build(world)


COMPONENTS: dict[str, Any] = {
    "no UNet": ("edit mask invert learn restyle", instead("unet", None), Refused("`unet`")),
    "no VAE": ("edit mask invert learn restyle", instead("vae", None), Refused("`vae`")),
    "no scheduler": ("edit mask invert learn restyle", instead("scheduler", None), Refused("`scheduler`")),
    "no text encoder": ("edit mask invert", instead("text_encoder", None), Refused("no text encoder")),
    "no tokenizer": (
        "edit mask invert",
        instead("tokenizer", None),
        Refused("no text encoder and tokenizer"),
    ),
    "no text encoder, by words": ("learn restyle", instead("text_encoder", None), Refused("`text_encoder`")),
    "no tokenizer, by words": ("learn restyle", instead("tokenizer", None), Refused("`tokenizer`")),
    "no image encoder": ("learn", instead("image_encoder", None), Refused("`image_encoder`")),
    "no feature extractor": ("learn", instead("feature_extractor", None), Refused("`feature_extractor`")),
    "NaN in the UNet": (
        "edit mask invert learn",
        spoiled("unet", "conv_out"),
        Refused("step", FloatingPointError),
    ),
    "NaN in the encoder": (
        "edit mask invert learn",
        spoiled("vae", "encoder.conv_out"),
        Refused("the VAE's encoder", FloatingPointError),
    ),
    "NaN in the decoder": (
        "edit learn restyle",
        spoiled("vae", "decoder.conv_out"),
        Refused("the VAE's decoder", FloatingPointError),
    ),
    "NaN in the text encoder": (
        "edit mask invert learn restyle",
        spoiled("text_encoder", "final_layer_norm"),
        Refused("embeddings", FloatingPointError),
    ),
    "NaN in the image encoder": (
        "learn",
        spoiled("image_encoder", "post_layernorm"),
        Refused("the image encoder", FloatingPointError),
    ),
    "UNet in bfloat16": ("edit mask invert learn restyle", cast("unet", torch.bfloat16), Edits()),
    "UNet in float64": ("edit mask invert learn restyle", cast("unet", torch.float64), Edits()),
    "VAE in bfloat16": ("edit mask invert learn restyle", cast("vae", torch.bfloat16), Edits()),
    "VAE in float64": ("edit mask invert learn restyle", cast("vae", torch.float64), Edits()),
    "text encoder in bfloat16": (
        "edit mask invert learn restyle",
        cast("text_encoder", torch.bfloat16),
        Edits(),
    ),
    "image encoder in bfloat16": ("learn", cast("image_encoder", torch.bfloat16), Edits()),
    "another width": (
        "edit mask invert learn restyle",
        instead("text_encoder", other_text_encoder),
        Refused("`text_encoder`"),
    ),
    "another UNet": ("restyle", instead("unet", lambda w: w.make_unet(seed=1)), Refused("`mapping_network`")),
    "an inpainting UNet": (
        "edit mask invert learn restyle",
        instead("unet", lambda w: w.make_unet(in_channels=9)),
        Refused("`unet`"),
    ),
    "a VAE for a UNet": (
        "edit mask invert learn restyle",
        instead("unet", lambda w: w.pipe.vae),
        Refused("`unet`"),
    ),
    "a UNet for a VAE": (
        "edit mask invert learn restyle",
        instead("vae", lambda w: w.pipe.unet),
        Refused("`vae`"),
    ),
    "a picture's encoder for text": (
        "edit learn restyle",
        instead("text_encoder", lambda w: w.style.image_encoder),
        Refused("`text_encoder`"),
    ),
    "a text encoder for pictures": (
        "learn",
        instead("image_encoder", lambda w: w.pipe.text_encoder),
        Refused("`image_encoder`"),
    ),
    "stochastic": (
        "edit mask invert learn restyle",
        scheduled("DDPMScheduler"),
        Refused("cannot be inverted"),
    ),
    "clipping": ("edit invert learn restyle", scheduled(clip_sample=True), Refused("clip_sample=True")),
    "thresholding": ("edit invert learn restyle", scheduled(thresholding=True), Refused("thresholding=True")),
    "no prediction type": (
        "edit invert learn",
        scheduled(prediction_type="noise"),
        Refused("`prediction_type`"),
    ),
    "flow": ("edit invert learn", scheduled(prediction_type="flow_prediction"), Refused("`prediction_type`")),
    "no timesteps": ("edit invert learn", scheduled(num_train_timesteps=0), Refused("timesteps")),
    "timesteps as text": ("edit invert learn", scheduled(num_train_timesteps="x"), Refused("timesteps")),
    "no such spacing": ("edit invert learn", scheduled(timestep_spacing="odd"), Refused("scheduler")),
    "no such betas": ("edit invert learn", scheduled(beta_schedule="odd"), Refused("scheduler")),
    "NaN betas": ("edit invert learn", scheduled(beta_start=NAN), Refused("DDIM")),
    "negative betas": ("edit invert learn", scheduled(beta_start=-1.0), Refused("scheduler")),
    "betas above 1": ("edit invert learn", scheduled(beta_end=5.0), Refused("DDIM")),
    "betas as text": ("edit invert learn", scheduled(beta_end="x"), Refused("scheduler")),
    "one trained beta": ("edit invert learn", scheduled(trained_betas=[0.1]), Refused("timesteps")),
    "too large an offset": ("edit invert learn", scheduled(steps_offset=5000), Edits()),
    "no scheduler at all": (
        "edit invert learn restyle",
        instead("scheduler", lambda w: w.pipe.tokenizer),
        Refused("scheduler"),
    ),
    "another schedule": ("restyle", scheduled(beta_end=0.02), Refused("`mapping_network`")),
    "Euler": ("edit mask invert", scheduled("EulerDiscreteScheduler"), Edits()),
    "PNDM": ("edit mask invert", scheduled("PNDMScheduler"), Edits()),
}


def altered(**changes: Any) -> Callable[[World], Any]:
    """The mapping network with a changed config."""

    def change(world: World) -> Any:
        network = copy.deepcopy(world.learned)
        network.register_to_config(**{name: made(world, value) for name, value in changes.items()})
        return network

    return lambda world: change(world)


def overwritten(name: str, value: float) -> Callable[[World], Any]:
    def change(world: World) -> Any:
        network = copy.deepcopy(world.learned)
        with torch.no_grad():
            network.state_dict()[name].fill_(value)
        return network

    return lambda world: change(world)


NETWORKS: dict[str, Any] = {
    "nothing": (None, Refused()),
    "a folder": (lambda w: str(w.folder / "learned"), Refused()),
    "a list": (lambda w: [w.learned], Refused()),
    "another module": (lambda w: w.pipe.unet, Refused()),
    "its weights": (lambda w: w.learned.state_dict(), Refused()),
    "a class": (lambda w: type(w.learned), Refused()),
    "NaN latents": (overwritten("trajectory", NAN), Refused()),
    "NaN tokens": (overwritten("image_tokens", NAN), Refused()),
    "huge weights": (
        overwritten("conv_out_weight", 1e38),
        Refused("the mapping network", FloatingPointError),
    ),
    "without values": (lambda w: copy.deepcopy(w.learned).to("meta"), Refused()),
    "in half": (lambda w: copy.deepcopy(w.learned).half(), Same(lambda w: w.learned)),
    "learning": (lambda w: copy.deepcopy(w.learned).train(), Same(lambda w: w.learned)),
    "another prompt": (altered(prompt="a blue mug"), Refused()),
    "no prompt": (altered(prompt=None), Refused("'prompt'")),
    "a prompt of numbers": (altered(prompt=7), Refused("'prompt'")),
    "other steps": (altered(num_inference_steps=5), Refused("a mapping network of 5 steps")),
    "steps as text": (altered(num_inference_steps="4"), Refused("num_inference_steps")),
    "other timesteps": (altered(timesteps=[1, 2, 3, 4]), Edits()),
    "guided by text": (altered(guidance_scale="7"), Refused("guidance_scale")),
    "guided by NaN": (altered(guidance_scale=NAN), Refused("guidance_scale")),
    "another size": (altered(latent_shape=[4, 8, 6]), Refused("mapping network")),
    "no size": (altered(latent_shape=None), Refused("'latent_shape'")),
    "a broken frame": (altered(frame={"picture": [64, 48]}), Refused("'frame'")),
    "a frame outside": (
        altered(frame={"picture": [64, 48], "box": [0, 0, 99, 99], "size": [64, 48], "look": ""}),
        Refused("box"),
    ),
    "another look": (altered(text_fingerprint="00" * 128), Refused()),
    "a look of nonsense": (altered(text_fingerprint="zz"), Refused()),
    "another model": (altered(base_fingerprint="0123456789abcdef"), Refused()),
    "another scale": (altered(scaling_factor=0.5), Refused()),
    "a variant of nonsense": (altered(variant="odd"), Refused("'variant'")),
    "a newer format": (altered(format_version=99), Refused("format version")),
}
WORDS: dict[str, Any] = {
    "word_tau_c text": ({"word_tau_c": "pear"}, Refused("`word_tau_c`")),
    "word_tau_c list": ({"word_tau_c": ["pear"]}, Refused("`word_tau_c`")),
    "word_tau_c numbers": ({"word_tau_c": {7: 0.5}}, Refused("`word_tau_c`")),
    "an unknown word": ({"word_tau_c": {"mug": 0.5}}, Refused("`word_tau_c`")),
    "an empty word": ({"reweight": {"": 2}}, Refused("`reweight`")),
    "half a pair": ({"reweight": {"\ud800": 2}}, Refused("`reweight`")),
    "a word twice as strong": ({"reweight": {"pear": 2}}, Edits()),
    "a word of no weight": ({"reweight": {"pear": 0}}, Edits()),
    "a weight against": ({"reweight": {"pear": -1000}}, Edits()),
    "local_blend number": ({"local_blend": 7}, Refused("`local_blend`")),
    "local_blend empty word": ({"local_blend": ""}, Refused("`local_blend`")),
    "local_blend unknown": ({"local_blend": "mug"}, Refused("`local_blend`")),
    "local_blend bytes": ({"local_blend": b"pear"}, Refused("`local_blend`")),
    "local_blend nothing": ({"local_blend": []}, Edits()),
    "local_blend": ({"local_blend": ("pear", "apple")}, Edits()),
    "no such edit": ({"edit_type": "swap"}, Refused("`edit_type`")),
    "edits": ({"edit_type": np.array(["replace", "refine"])}, Refused("`edit_type`")),
    "an edit that does not fit": ({"edit_type": "replace", "prompt": "a pear"}, Refused('Use "refine"')),
    "other steps": ({"num_inference_steps": 5}, Refused("`num_inference_steps`")),
    "its steps": ({"num_inference_steps": np.int64(4)}, Edits()),
    "steps as text": ({"num_inference_steps": "4"}, Refused("`num_inference_steps`")),
    "no taus": ({"tau_v": 0, "tau_c": 0, "tau_s": 0, "tau_u": 0}, Edits()),
    "all taus": ({"tau_v": 1, "tau_c": 1, "tau_s": 1, "tau_u": 1}, Edits()),
    "a background without a picture": ({"preserve_background": True}, Refused("`preserve_background=True`")),
    "another picture": (lambda w: {"image": w.images[1]}, Refused("`image`")),
    "two pictures": (lambda w: {"image": w.images[:2]}, Refused("`image`")),
    "latents": ({"image": torch.randn(4, 6, 8)}, Refused("`image`")),
    "an empty prompt": ({"prompt": ""}, Edits()),
    "a prompt far too long": ({"prompt": "a green pear " * 500}, Edits(warns="is longer than the 16 tokens")),
    "special tokens": ({"prompt": "a <|endoftext|> pear"}, Edits()),
    "other scripts": ({"prompt": "一个梨 груша 🍐"}, Edits()),
    "many prompts": ({"prompt": [TARGET, "", "a mug", SOURCE]}, Edits(count=4)),
    "three negatives for two": (
        {"prompt": [TARGET] * 2, "negative_prompt": [""] * 3},
        Refused("`negative_prompt`"),
    ),
    "a black mask": ({"mask_image": np.zeros((6, 8))}, Edits(warns="is empty")),
    "its own pixels": (
        lambda w: {"mask_image": MASK, "image": w.image, "preserve_background": True},
        Edits(kept=lambda w: w.array),
    ),
    "heat": ({"output_attention_maps": True}, Edits()),
    "a tuple": ({"return_dict": False}, Edits()),
}
LEARNING: dict[str, Any] = {
    "no prompt": ({"prompt": None}, Refused("`prompt`")),
    "an empty prompt": ({"prompt": ""}, Edits()),
    "no such variant": ({"variant": "odd"}, Refused("`variant`")),
    "variants": ({"variant": np.array(["modulate", "direct"])}, Refused("`variant`")),
    "no variant": ({"variant": None}, Refused("`variant`")),
    "no settings": ({"settings": None}, Refused("`settings`")),
    "a dict of settings": ({"settings": {"inner_steps": 1}}, Refused("`settings`")),
    "a class of settings": ({"settings": LearningSettings}, Refused("`settings`")),
    "settings of nonsense": ({"settings": "longer"}, Refused("`settings`")),
    "several negatives": ({"negative_prompt": ["a", "b"]}, Refused("`negative_prompt`")),
    "no negative": ({"negative_prompt": None}, Refused("`negative_prompt`")),
    "no steps": ({"num_inference_steps": 0}, Refused("`num_inference_steps`")),
    "steps as text": ({"num_inference_steps": "4"}, Refused("`num_inference_steps`")),
    "a side of nonsense": ({"attention_side": "8"}, Refused("`attention_side`")),
    "a huge side": ({"attention_side": 16384}, Edits()),
    "focus without a mask": ({"focus": True}, Refused("`focus=True`")),
    "a checkpoint that is a number": ({"checkpoint": 7}, Refused("`checkpoint`")),
    "a checkpoint that is empty text": ({"checkpoint": ""}, Refused("`checkpoint`")),
    "a checkpoint with a null": ({"checkpoint": "a\x00b"}, Refused("checkpoint")),
    "a checkpoint that is a file": (
        lambda w: {"checkpoint": w.folder / "learned" / "config.json"},
        Refused("config.json"),
    ),
    "a checkpoint that is a network": (lambda w: {"checkpoint": w.folder / "learned"}, Refused("learned")),
    "three prompts for two": (
        lambda w: {"image": w.images[:2], "prompt": [SOURCE] * 3},
        Refused("in number"),
    ),
    "two": (lambda w: {"image": w.images[:2], "prompt": [SOURCE] * 2}, Edits(count=2)),
    "no guidance": ({"guidance_scale": 0}, Edits()),
    "the strongest guidance": ({"guidance_scale": 1000}, Edits()),
}


def folder_with(name: str, content: bytes | None) -> Callable[[World], Path]:
    """A copy of the mapping network's folder in which one file is changed or missing."""

    def build(world: World) -> Path:
        path = Path(tempfile.mkdtemp(dir=world.folder)) / "copy"
        shutil.copytree(world.folder / "learned", path)
        if content is None:
            (path / name).unlink()
        else:
            (path / name).write_bytes(content)
        return path

    return lambda world: build(world)


WEIGHTS = "diffusion_pytorch_model.safetensors"
LOADED: dict[str, Any] = {
    "nothing": (None, Refused("got None")),
    "a number": (7, Refused("7")),
    "empty text": ("", Refused("mapping network")),
    "a list": (["learned"], Refused("learned")),
    "bytes": (b"learned", Refused("learned")),
    "a missing folder": (lambda w: str(w.folder / "missing"), Refused("missing")),
    "a file": (lambda w: w.folder / "learned" / "config.json", Refused("config.json")),
    "a null": ("a\x00b", Refused("mapping network")),
    "an empty folder": (lambda w: w.folder, Refused("odd")),
    "no config": (folder_with("config.json", None), Refused("config.json")),
    "an empty config": (folder_with("config.json", b"{}"), Refused("copy")),
    "a list for a config": (folder_with("config.json", b"[]"), Refused("copy")),
    "a broken config": (folder_with("config.json", b"{"), Refused("copy")),
    "no weights": (folder_with(WEIGHTS, None), Refused("copy")),
    "broken weights": (folder_with(WEIGHTS, b"x" * 99), Refused("copy")),
    "a path": (lambda w: w.folder / "learned", Edits()),
    "text": (lambda w: str(w.folder / "learned"), Edits()),
}

CASES = [
    *tries(
        "edit mask invert learn restyle",
        "image",
        {k: v for k, v in NO_PICTURES.items() if "latents" not in k},
    ),
    *tries("edit mask invert", "image", {k: v for k, v in NO_PICTURES.items() if "latents" in k}),
    *tries("edit", "image", ODD_PICTURES),
    *tries("edit", "image", ODD_SIZES, mask_image=None),
    *tries("mask invert", "image", ODD_SIZES | {"nothing": (None, Refused())}),
    *tries("learn", "image", {"nothing": (None, Refused()), "latents": (torch.randn(1, 4, 6, 8), Refused())}),
    *tries("learn", "image", {"1 x 1": ODD_SIZES["1 x 1"], "61 x 47": ODD_SIZES["61 x 47"]}),
    *tries("edit restyle", "mask_image", NO_MASKS),
    *tries("edit restyle", "mask_image", {"two for one": ([MASK] * 2, Refused())}, prompt=[TARGET] * 3),
    *tries("edit", "mask_image", ODD_MASKS),
    *tries("edit learn restyle", "prompt", NO_TEXTS),
    *tries("edit", "prompt", ODD_TEXTS),
    *tries("edit", "source_prompt", NO_TEXTS, mask_image=None),
    *tries("mask", "source_prompt", NO_TEXTS),
    *tries("edit", "source_prompt", {**ODD_TEXTS, "nothing": (None, Edits())}, mask_image=None),
    *tries("mask", "target_prompt", {**NO_TEXTS, "nothing": (None, Refused())}),
    *tries("edit restyle", "negative_prompt", NO_TEXTS),
    *tries("edit", "source_negative_prompt", NO_TEXTS, mask_image=None),
    *tries("edit", "prompt_embeds", NO_EMBEDS | ODD_EMBEDS, prompt=None),
    *tries("edit", "negative_prompt_embeds", NO_EMBEDS | ODD_EMBEDS),
    *tries("edit", "source_prompt_embeds", NO_EMBEDS, source_prompt=None, mask_image=None),
    *tries("edit", "image_latents", NO_LATENTS),
    *tries("edit", "trajectory", NO_TRAJECTORIES),
    *tries("edit mask invert restyle", "generator", NO_GENERATORS),
    *tries("edit restyle", "callback_on_step_end", CALLBACKS),
    *tries("edit restyle", "callback_on_step_end_tensor_inputs", NO_TENSOR_NAMES),
    *tries("edit", "callback", OLD_CALLBACKS),
    *tries("invert", "callback", NO_FUNCTIONS),
    *tries("edit mask invert learn restyle", "cross_attention_kwargs", NO_KWARGS),
    *tries("edit mask invert", "preset", NO_PRESETS),
    *tries("edit mask invert restyle", "output_type", NO_OUTPUTS),
    *tries("edit", "mask_refine", NO_FLAGS, mask_image=None),
    *tries("edit restyle", "preserve_background", NO_FLAGS),
    *tries("edit learn", "focus", NO_FLAGS),
    *tries("edit invert restyle", "return_dict", NO_FLAGS),
    *tries("invert", "decode_latents", NO_FLAGS),
    *tries("learn", "gradient_checkpointing", NO_FLAGS),
    *tries("restyle", "output_attention_maps", NO_FLAGS),
    *tries("restyle", "mapping_network", NETWORKS),
    *tries("load", "name_or_path", LOADED),
    *(
        pytest.param(
            "edit",
            name,
            value,
            Edits(count=value if "images" in name else 1),
            beside,
            id=f"edit-{name}-{value!r}",
        )
        for numbers, beside in ((EXTREMES, {}), (FINDING, {"mask_image": None}))
        for name, values in numbers.items()
        for value in values
    ),
]
GROUPS = {
    "edit": {**NO_SIZES, **COMBINED},
    "mask": NO_SIZES,
    "invert": NO_SIZES,
    "learn": LEARNING,
    "restyle": WORDS,
}


@pytest.mark.parametrize(("call", "argument", "value", "right", "beside"), CASES)
def test_odd_values(world, call, argument, value, right, beside):
    law(world, call, right, {argument: made(world, value), **beside})


@pytest.mark.parametrize(
    ("call", "given", "right"),
    [
        pytest.param(call, given, right, id=f"{call}-{label}")
        for call, group in GROUPS.items()
        for label, (given, right) in group.items()
    ],
)
def test_odd_combinations(world, call, given, right):
    law(world, call, right, dict(made(world, given)))


@pytest.mark.parametrize(
    ("call", "changes", "right"),
    [
        pytest.param(call, changes, right, id=f"{call}-{label}")
        for label, (calls, changes, right) in COMPONENTS.items()
        for call in calls.split()
    ],
)
def test_odd_components(world, call, changes, right):
    name, make = (
        ("style", world.make_style_pipe) if call in ("learn", "restyle") else ("pipe", world.make_pipe)
    )
    given = {"mask_image": None} if call == "edit" else {}
    law(world, call, right, given, **{name: make(**changes(world))})
