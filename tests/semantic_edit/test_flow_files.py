"""Single files of rectified flows: the transformer is theirs, all else is the folder's, and nothing is fetched."""

import socket

import diffusers
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from semantic_edit import load
from semantic_edit.disk.models import FLUX, QWEN_IMAGE, STABLE_DIFFUSION_3, Z_IMAGE
from tests.flow.flux import make_flux
from tests.flow.qwen import make_qwen
from tests.flow.sd3 import make_sd3
from tests.flow.z_image import make_z_image

SD3_HEAD = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
FLUX_HEAD = {"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}
DEV_HEAD = {**FLUX_HEAD, "guidance_in.in_layer.bias": (1,)}
HEADS = {  # what diffusers tells each model by; only real sizes can be converted
    "sd3": {SD3_HEAD: (9216,), "pos_embed": (1, 36864, 1)},
    "sd35-medium": {f"model.diffusion_model.{SD3_HEAD}": (9216,), "model.diffusion_model.pos_embed": (1, 147456, 1)},
    "sd35-large": {"joint_blocks.37.x_block.mlp.fc1.weight": (1,)},
    "flux-dev": {**DEV_HEAD, "img_in.weight": (1, 64)},
    "flux-schnell": FLUX_HEAD,
}  # fmt: skip
ORIGINS = {
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "sd35-medium": "stabilityai/stable-diffusion-3.5-medium",
    "sd35-large": "stabilityai/stable-diffusion-3.5-large",
    "flux-dev": "black-forest-labs/FLUX.1-dev",
    "flux-schnell": "black-forest-labs/FLUX.1-schnell",
}
REAL = {
    "qwen": (make_qwen, QWEN_IMAGE, "Qwen/Qwen-Image"),
    "z-image": (make_z_image, Z_IMAGE, "Tongyi-MAI/Z-Image-Turbo"),
}


@pytest.fixture(autouse=True)
def cut_off(monkeypatch, tmp_path):
    """No network, and an empty cache."""

    def refuse(*_):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def written(path, shapes):
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    return path


def own_file(own, path, **changes):
    """A pipeline's transformer as a single file, a little different from it."""
    tensors = {name: 2 * one.contiguous() for name, one in own.transformer.state_dict().items()}
    save_file({**tensors, **changes}, path)
    return path


def folder_of(own, path):
    """Everything but the transformer's weights."""
    own.save_pretrained(path)
    for weights in (path / "transformer").glob("*.safetensors"):
        weights.unlink()
    return path


@pytest.mark.parametrize(("name", "way"), [("qwen", "cache"), ("z-image", "config")])
def test_a_transformer_takes_its_place_in_the_folder(name, way, tmp_path, monkeypatch):
    make, family, origin = REAL[name]
    own = make()
    path, folder = own_file(own, tmp_path / "file.safetensors"), folder_of(own, tmp_path / "folder")
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda one, local_files_only: asked.append(one) or str(folder)
    )
    pipe = load(path, torch_dtype=torch.bfloat16, **({"config": str(folder)} if way == "config" else {}))
    assert asked == ([origin] if way == "cache" else [])
    assert type(pipe).__name__ == family.class_name("diffedit")
    for key, one in own.transformer.state_dict().items():
        assert torch.equal(pipe.transformer.state_dict()[key], (2 * one).bfloat16())
    assert {pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("name", HEADS)
def test_the_original_layouts_are_told_apart(name, tmp_path, monkeypatch):
    make, family = (make_flux, FLUX) if name.startswith("flux") else (make_sd3, STABLE_DIFFUSION_3)
    own = make(third=False) if make is make_sd3 else make(name == "flux-dev")
    path, folder = written(tmp_path / "file.safetensors", HEADS[name]), folder_of(own, tmp_path / "folder")
    asked = {}

    def converted(given, **options):
        asked.update(options, given=given)
        return own.transformer

    monkeypatch.setattr(getattr(diffusers, family.network), "from_single_file", converted)
    with pytest.raises(ValueError, match=f"that of {ORIGINS[name]}, is not in the local cache"):
        load(path)
    pipe = load(path, config=str(folder))
    assert pipe.transformer is own.transformer
    assert getattr(pipe, "text_encoder_3", None) is None
    assert asked.pop("given") == str(path)
    where = {"config": str(folder), "subfolder": "transformer", "local_files_only": True}
    assert asked == {**where, "torch_dtype": None}


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path):
    path = written(tmp_path / "file.safetensors", HEADS["flux-dev"])
    parts = "'scheduler/*' 'text_encoder/*' 'text_encoder_2/*' 'tokenizer/*' 'tokenizer_2/*' 'vae/*'"
    with pytest.raises(ValueError, match="serves as the transformer only") as error:
        load(path)
    assert f"hf download black-forest-labs/FLUX.1-dev --include '*.json' {parts};" in str(error.value)
    with pytest.raises(ValueError, match="that of some/where, is not in the local cache"):
        load(path, config="some/where")


def test_a_folder_or_file_that_does_not_fit(tmp_path):
    own = make_z_image()
    folder = folder_of(own, tmp_path / "folder")
    flux = written(tmp_path / "flux.safetensors", HEADS["flux-dev"])
    with pytest.raises(
        ValueError, match=r"is of FLUX\.1, and the folder .* for the rest of it is of Z-Image\."
    ):
        load(flux, config=str(folder))
    unfit = r"does not fit the transformer's config in .*: {}.* Choose the folder of its own model"
    other = own_file(own, tmp_path / "other.safetensors", x_pad_token=torch.zeros(1, 7))
    with pytest.raises(ValueError, match=unfit.format(".*shape")):
        load(other, config=str(folder))
    head = "layers.0.adaLN_modulation.0.weight"
    part = {head: tuple(own.transformer.state_dict()[head].shape)}
    with pytest.raises(ValueError, match=unfit.format("its files lack some of its tensors")):
        load(written(tmp_path / "part.safetensors", part), config=str(folder))
    with pytest.raises(ValueError, match="method='stylediffusion'` does not work with Z-Image"):
        load(written(tmp_path / "part.safetensors", part), "stylediffusion", config=str(folder))


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({**DEV_HEAD, "img_in.weight": (1, 384)}, r"is FLUX\.1 Fill, whose transformer reads an image and a mask"),
        ({**DEV_HEAD, "img_in.weight": (1, 128)}, r"is FLUX\.1 Depth or Canny, whose .*; use a text-to-image base"),
        ({**FLUX_HEAD, "img_in.scale_weight": (1,)}, "stores 8-bit weights with a scale for each"),
        ({"lora_unet_double_blocks_0.lora_up.weight": (1,)}, r"no model that is known .*\(the first is 'lora_unet_"),
        ({}, r"no model that is known by the names of its tensors\."),
    ],
)  # fmt: skip
def test_what_is_refused_by_its_header(shapes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        load(written(tmp_path / "file.safetensors", shapes))


def test_a_gguf_file_is_no_pickle(tmp_path):
    (tmp_path / "flux1-dev-Q4.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match="is a GGUF file, of which only the transformer can be loaded"):
        load(tmp_path / "flux1-dev-Q4.gguf")
