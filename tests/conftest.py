"""Real models at tiny sizes, built in code: no test needs the network."""

import semantic_edit  # noqa: F401, before transformers, some of whose news it keeps back

# isort: split

import copy
import gc
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from semantic_edit.mapping_networks import LearningSettings, MappingNetwork
from semantic_edit.pipelines.diffedit import DiffEditPipeline
from semantic_edit.pipelines.diffedit_xl import StableDiffusionXLDiffEditPipeline
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline
from semantic_edit.pipelines.stylediffusion_xl import StableDiffusionXLStyleDiffusionPipeline
from tests.schedules import STABLE_DIFFUSION

# Held below what the processor has, torch packs bfloat16 as oneDNN could and then refuses to: hold that down with it.
if os.environ.get("ATEN_CPU_CAPABILITY") in ("default", "avx2"):
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

WORDS = (
    "green",  # before what shares pairs of letters with it: each is to be one token
    "a",
    "an",
    "red",
    "blue",
    "apple",
    "pear",
    "mug",
    "on",
    "grass",
    "table",
    "photo",
    "of",
    "the",
)
SDXL_SCHEDULE = {  # the base model's, with what its file still says of other samplers
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: no need to look through all of it for garbage again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread unless more are requested: tiny tensors gain nothing from threads, and lose much on busy cores."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


Model = TypeVar("Model", bound=torch.nn.Module)


def left_alone(model: Model) -> Iterator[Model]:
    """Share a model between all tests of a session, and check that none of them has changed it."""
    before = copy.deepcopy(model.state_dict())
    yield model
    after = model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    assert not changed, f"a test changed the shared {type(model).__name__}: {changed[:3]}"


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return written_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def written_tokenizer(folder: Path) -> CLIPTokenizer:
    """A tokenizer with a token for each of `WORDS`, its beginnings and single letters, and 16 tokens of text."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [",", "<", ">"]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            pieces.append(parts[0])
    vocabulary = [*dict.fromkeys(pieces), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16, pad_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def text_encoder(tokenizer: CLIPTokenizer) -> Iterator[CLIPTextModel]:
    torch.manual_seed(0)
    config = small_text_config(tokenizer, hidden_size=32, num_hidden_layers=2)
    yield from left_alone(CLIPTextModel(config).eval())


def small_text_config(tokenizer: CLIPTokenizer, **sizes: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        intermediate_size=37,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )


@pytest.fixture(scope="session")
def vae() -> Iterator[AutoencoderKL]:
    """A VAE with a factor of 8 and 4 channels, like Stable Diffusion's."""
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    ).eval()
    yield from left_alone(model)


@pytest.fixture(scope="session")
def image_encoder() -> Iterator[CLIPVisionModelWithProjection]:
    """An image encoder with five tokens, whose width differs from the text's."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=37,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=8,
    )
    yield from left_alone(CLIPVisionModelWithProjection(config).eval())


@pytest.fixture(scope="session")
def feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


@pytest.fixture(scope="session")
def make_unet() -> Callable[..., UNet2DConditionModel]:
    """Builds a UNet with attention at both resolutions; the same seed gives the same weights."""
    return small_unet


def small_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }
    return UNet2DConditionModel(**{**settings, **changes}).eval()


# Folders may have other things under the names `unet`, `make_pipe`, `make_style_pipe` and `learned`. What lasts a whole
# session is made of the fixtures below alone, or it would be of whatever folder asked for it first.
@pytest.fixture(scope="session")
def sd_unet() -> Iterator[UNet2DConditionModel]:
    yield from left_alone(small_unet())


@pytest.fixture(scope="session")
def unet(sd_unet: UNet2DConditionModel) -> UNet2DConditionModel:
    return sd_unet


@pytest.fixture(scope="session")
def explicit_maps() -> Callable[[UNet2DConditionModel, int], AbstractContextManager[dict[str, torch.Tensor]]]:
    """The maps of a UNet's cross-attention layers with a given number of queries, from the inputs that hooks see.

    By the layers' paths, (batch, heads, queries, tokens), for the latest evaluation; differentiable.
    """

    @contextmanager
    def watched(unet: UNet2DConditionModel, queries: int) -> Iterator[dict[str, torch.Tensor]]:
        maps: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def see(layer, args, kwargs, output):
                query, key = (
                    part.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                    for part in (layer.to_q(args[0]), layer.to_k(kwargs["encoder_hidden_states"]))
                )
                at_least_single = torch.promote_types(query.dtype, torch.float32)
                scores = query.to(at_least_single) @ key.to(at_least_single).mT * layer.scale
                if scores.shape[2] == queries:
                    maps[name] = scores.softmax(dim=-1)

            return see

        hooks = [
            module.register_forward_hook(keep(name), with_kwargs=True)
            for name, module in unet.named_modules()
            if isinstance(module, Attention) and module.is_cross_attention
        ]
        try:
            yield maps
        finally:
            for hook in hooks:
                hook.remove()

    return watched


@pytest.fixture
def scheduler() -> DDIMScheduler:
    return DDIMScheduler(**STABLE_DIFFUSION)


@pytest.fixture(scope="session")
def make_sd_pipe(
    vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, sd_unet: UNet2DConditionModel
) -> Callable[..., DiffEditPipeline]:
    """Builds a silent pipeline; keyword arguments replace components."""

    def make(**changes: Any) -> DiffEditPipeline:
        components = {
            "vae": vae,
            "text_encoder": text_encoder,
            "tokenizer": tokenizer,
            "unet": sd_unet,
            "scheduler": DDIMScheduler(**STABLE_DIFFUSION),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        pipe = DiffEditPipeline(**{**components, **changes})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="session")
def make_pipe(make_sd_pipe: Callable[..., DiffEditPipeline]) -> Callable[..., DiffEditPipeline]:
    return make_sd_pipe


@pytest.fixture
def pipe(make_pipe: Callable[..., DiffEditPipeline]) -> DiffEditPipeline:
    return make_pipe()


@pytest.fixture(scope="session")
def make_sd_style_pipe(
    make_sd_pipe: Callable[..., DiffEditPipeline],
    image_encoder: CLIPVisionModelWithProjection,
    feature_extractor: CLIPImageProcessor,
) -> Callable[..., StyleDiffusionPipeline]:
    """Builds a silent pipeline; keyword arguments replace components."""

    def make(**changes: Any) -> StyleDiffusionPipeline:
        vision = {"image_encoder": image_encoder, "feature_extractor": feature_extractor}
        components = {**make_sd_pipe().components, **vision, **changes}
        pipe = StyleDiffusionPipeline(**components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="session")
def make_style_pipe(
    make_sd_style_pipe: Callable[..., StyleDiffusionPipeline],
) -> Callable[..., StyleDiffusionPipeline]:
    return make_sd_style_pipe


@pytest.fixture
def style_pipe(make_style_pipe: Callable[..., StyleDiffusionPipeline]) -> StyleDiffusionPipeline:
    return make_style_pipe()


@pytest.fixture(scope="session")
def sd_learned(
    make_sd_style_pipe: Callable[..., StyleDiffusionPipeline], picture: PIL.Image.Image
) -> MappingNetwork:
    """`picture`, learned with the shared models as "a red apple on grass" in four steps of three updates."""
    settings = LearningSettings(stop_below=0.0, converged_below=100.0)
    return make_sd_style_pipe().learn_mapping(picture, "a red apple on grass", 4, settings=settings)


@pytest.fixture(scope="session")
def learned(sd_learned: MappingNetwork) -> MappingNetwork:
    return sd_learned


@pytest.fixture
def sdxl_scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler.from_config(SDXL_SCHEDULE)


@pytest.fixture(scope="session")
def tokenizer_2(tokenizer: CLIPTokenizer) -> CLIPTokenizer:
    """The same words as `tokenizer`, but padded with another token, as in SDXL."""
    second = copy.deepcopy(tokenizer)
    second.pad_token = ","
    return second


@pytest.fixture(scope="session")
def text_encoder_2(tokenizer_2: CLIPTokenizer) -> Iterator[CLIPTextModelWithProjection]:
    """Narrower than the first one, with an even narrower pooled embedding, so that no two widths can be confused."""
    torch.manual_seed(1)
    config = small_text_config(tokenizer_2, hidden_size=24, num_hidden_layers=3, projection_dim=20)
    yield from left_alone(CLIPTextModelWithProjection(config).eval())


@pytest.fixture(scope="session")
def make_xl_unet() -> Callable[..., UNet2DConditionModel]:
    """Builds a UNet of SDXL's layout: several transformers per block, and text and sizes in the time embedding."""

    def make(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
        settings = {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
            "cross_attention_dim": 32 + 24,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }
        return small_unet(seed, **{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def xl_unet(make_xl_unet: Callable[..., UNet2DConditionModel]) -> Iterator[UNet2DConditionModel]:
    yield from left_alone(make_xl_unet())


@pytest.fixture(scope="session")
def in_xl_layout() -> Callable[[UNet2DConditionModel], UNet2DConditionModel]:
    """Builds a UNet of SDXL's layout that computes what one of Stable Diffusion's layout computes.

    Its cross attention reads only the first encoder's part of the text, and it adds nothing to the time embedding.
    """

    def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
        added = {
            "cross_attention_dim": unet.config.cross_attention_dim + 24,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 20 + 6 * 8,
        }
        wide = UNet2DConditionModel.from_config(unet.config, **added).eval()
        narrow = unet.state_dict()
        with torch.no_grad():
            for name, parameter in wide.named_parameters():
                if name.startswith("add_embedding.linear_2."):
                    parameter.zero_()
                elif name in narrow and narrow[name].shape == parameter.shape:
                    parameter.copy_(narrow[name])
                elif name in narrow:
                    parameter.zero_()[:, : narrow[name].shape[1]] = narrow[name]
        return wide

    return widened


@pytest.fixture(scope="session")
def make_xl_pipe(
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    tokenizer_2: CLIPTokenizer,
    xl_unet: UNet2DConditionModel,
) -> Callable[..., StableDiffusionXLPipeline]:
    """Builds diffusers' own silent pipeline; keyword arguments replace components and settings."""

    def make(**changes: Any) -> StableDiffusionXLPipeline:
        components = {
            "vae": vae,
            "text_encoder": text_encoder,
            "text_encoder_2": text_encoder_2,
            "tokenizer": tokenizer,
            "tokenizer_2": tokenizer_2,
            "unet": xl_unet,
            "scheduler": EulerDiscreteScheduler.from_config(SDXL_SCHEDULE),
            "add_watermarker": False,
        }
        pipe = StableDiffusionXLPipeline(**{**components, **changes})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="session")
def make_xl_edit_pipe(
    make_xl_pipe: Callable[..., StableDiffusionXLPipeline],
) -> Callable[..., StableDiffusionXLDiffEditPipeline]:
    """Builds a silent pipeline of ours; keyword arguments replace components and settings."""

    def make(**changes: Any) -> StableDiffusionXLDiffEditPipeline:
        pipe = StableDiffusionXLDiffEditPipeline(**{**make_xl_pipe().components, **changes})
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="session")
def make_xl_style_pipe(
    make_xl_pipe: Callable[..., StableDiffusionXLPipeline],
    image_encoder: CLIPVisionModelWithProjection,
    feature_extractor: CLIPImageProcessor,
) -> Callable[..., StableDiffusionXLStyleDiffusionPipeline]:
    """Builds a silent pipeline of ours; keyword arguments replace components and settings."""

    def make(**changes: Any) -> StableDiffusionXLStyleDiffusionPipeline:
        vision = {"image_encoder": image_encoder, "feature_extractor": feature_extractor}
        components = {**make_xl_pipe().components, **vision, **changes}
        pipe = StableDiffusionXLStyleDiffusionPipeline(**components)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture(scope="session")
def xl_learned(
    make_xl_style_pipe: Callable[..., StableDiffusionXLStyleDiffusionPipeline], picture: PIL.Image.Image
) -> MappingNetwork:
    """Like `learned`, with the shared models of SDXL's layout."""
    settings = LearningSettings(stop_below=0.0, converged_below=100.0)
    return make_xl_style_pipe().learn_mapping(picture, "a red apple on grass", 4, settings=settings)


@pytest.fixture(scope="session")
def picture() -> PIL.Image.Image:
    """A picture 64 pixels wide and 48 high: nothing in the package may assume a square."""
    return make_picture(0)


@pytest.fixture(scope="session")
def pictures() -> list[PIL.Image.Image]:
    return [make_picture(seed) for seed in range(3)]


def make_picture(seed: int, width: int = 64, height: int = 48) -> PIL.Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return PIL.Image.fromarray(noise).resize((width, height), PIL.Image.Resampling.BICUBIC)


class CountingUNet:
    """Counts a UNet's evaluations, and the samples in them, while it is attached."""

    def __init__(self) -> None:
        self.samples = 0
        self.evaluations = 0

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample = args[0] if args else kwargs["sample"]
        self.samples += sample.shape[0]
        self.evaluations += 1


@pytest.fixture
def counted(unet: UNet2DConditionModel) -> Iterator[CountingUNet]:
    """Counts the evaluations of the shared UNet during the test."""
    counter = CountingUNet()
    handle = unet.register_forward_pre_hook(counter, with_kwargs=True)
    yield counter
    handle.remove()


@pytest.fixture
def killed_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path, Callable[[], Any]], list[Path]]:
    """What is left of a folder where a process is killed that does something there, for each moment of its work.

    Returns:
        Copies of the folder as it was just before each opening, move or removal of a file, made by that process, which
        lives no more. There is none where there was no folder yet.
    """

    def run(folder: Path, act: Callable[[], Any]) -> list[Path]:
        moments = tmp_path_factory.mktemp("killed")
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)  # the others of the pool stayed behind, and would be waited for
            numbers, is_copying = itertools.count(), False

            def look(event: str, _arguments: tuple[Any, ...]) -> None:
                nonlocal is_copying
                if is_copying or not (event == "open" or event.startswith("os.")):
                    return
                is_copying = True
                copy = moments / str(next(numbers)) / folder.name
                copy.parent.mkdir()
                if folder.exists():
                    shutil.copytree(folder, copy)
                is_copying = False

            try:
                sys.addaudithook(look)
                act()
                os._exit(0)
            except BaseException:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return [moments / str(number) / folder.name for number in range(len(os.listdir(moments)))]

    return run
