"""`semantic_edit.load`: the right pipeline for a model, however the model is specified."""

import copy
import json
import re
import shutil
import socket

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DModel
from huggingface_hub import constants
from safetensors.torch import save_file

import semantic_edit
from semantic_edit.disk.models import FAMILIES, ONLY_SERVED, PIPELINE_METHODS
from semantic_edit.pipelines import (
    DiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
)
from semantic_edit.still_life import model_path
from tests.flow.sd3 import make_sd3

CLASSES = {
    ("sd", "diffedit"): DiffEditPipeline,
    ("sd", "stylediffusion"): StyleDiffusionPipeline,
    ("xl", "diffedit"): StableDiffusionXLDiffEditPipeline,
    ("xl", "stylediffusion"): StableDiffusionXLStyleDiffusionPipeline,
}
METHODS = pytest.mark.parametrize("method", PIPELINE_METHODS)
MODELS = pytest.mark.parametrize("model", ["sd", "xl"])


@pytest.fixture
def folders(style_folder, xl_folder):
    return {"sd": style_folder, "xl": xl_folder}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_family_has_a_pipeline_for_every_method_and_diffusers_one():
    for family in FAMILIES:
        assert hasattr(__import__("diffusers"), family.pipeline)
        for method in family.methods:
            assert family.class_name(method) in semantic_edit.__all__


def test_a_method_that_a_family_lacks_is_refused(tmp_path):
    make_sd3().save_pretrained(tmp_path)
    assert type(semantic_edit.load(tmp_path)).__name__ == "StableDiffusion3DiffEditPipeline"
    with pytest.raises(
        ValueError, match=r"`method='stylediffusion'` does not work with Stable Diffusion 3.*diffedit"
    ):
        semantic_edit.load(tmp_path, "stylediffusion")


@METHODS
@MODELS
def test_a_folder(folders, model, method, no_network):
    pipe = semantic_edit.load(str(folders[model]), method)
    assert type(pipe) is CLASSES[model, method]
    assert pipe.image_encoder is not None


def test_the_still_life_model_is_the_default(no_network):
    assert type(semantic_edit.load()) is DiffEditPipeline
    pipe = semantic_edit.load(method="stylediffusion")
    assert type(pipe) is StyleDiffusionPipeline
    assert pipe.config["_name_or_path"] == str(model_path())


def test_further_arguments_are_from_pretrained_s(xl_folder, xl_unet, no_network):
    pipe = semantic_edit.load(xl_folder, torch_dtype=torch.bfloat16, unet=xl_unet)
    assert pipe.vae.dtype == torch.bfloat16
    assert pipe.unet is xl_unet


def test_it_edits_as_the_class_does(xl_folder, picture):
    edits = [
        pipe(
            picture,
            "a green pear",
            "a red apple",
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        for pipe in (
            semantic_edit.load(xl_folder),
            StableDiffusionXLDiffEditPipeline.from_pretrained(xl_folder),
        )
    ]
    np.testing.assert_array_equal(*edits)


@METHODS
def test_a_folder_that_names_a_pipeline_of_its_own(folders, tmp_path, method):
    for model, folder in folders.items():
        shutil.copytree(folder, tmp_path / model)
        index = json.loads((folder / "model_index.json").read_text())
        index["_class_name"] = ["diffedit_xl", "StableDiffusionXLDiffEditPipeline"]
        (tmp_path / model / "model_index.json").write_text(json.dumps(index))
        assert type(semantic_edit.load(tmp_path / model, method)) is CLASSES[model, method]


@METHODS
@MODELS
def test_a_loaded_pipeline_lends_its_modules_as_they_are(make_style_pipe, make_xl_style_pipe, model, method):
    make = {"sd": make_style_pipe, "xl": make_xl_style_pipe}[model]
    shared = make()  # bfloat16 has too few digits to come back from
    given = make(unet=copy.deepcopy(shared.unet).bfloat16(), vae=copy.deepcopy(shared.vae).bfloat16())
    pipe = semantic_edit.load(given, method)
    assert type(pipe) is CLASSES[model, method]
    assert pipe.unet is given.unet
    assert pipe.unet.dtype == torch.bfloat16
    assert pipe.image_encoder is given.image_encoder


@MODELS
def test_diffusers_own_pipelines_are_taken(make_pipe, make_xl_pipe, model):
    given = (
        make_xl_pipe()
        if model == "xl"
        else StableDiffusionPipeline(**make_pipe().components, requires_safety_checker=False)
    )
    assert type(semantic_edit.load(given)) is CLASSES[model, "diffedit"]


@METHODS
def test_what_is_lent_may_be_replaced_and_the_model_s_name_stays(folders, make_xl_unet, method):
    given = StableDiffusionXLPipeline.from_pretrained(str(folders["xl"]))
    unet = make_xl_unet(1)
    pipe = semantic_edit.load(given, method, unet=unet)
    assert pipe.unet is unet
    assert pipe.vae is given.vae
    assert pipe.config["_name_or_path"] == str(folders["xl"])
    assert pipe.config["force_zeros_for_empty_prompt"] is given.config["force_zeros_for_empty_prompt"]
    with pytest.raises(TypeError, match="takes only components that replace its own, got `torch_dtype`"):
        semantic_edit.load(given, method, torch_dtype=torch.float16)


@pytest.mark.parametrize("method", ["style", "DiffEdit", "", None, ["diffedit"]])
def test_an_unknown_method(method):
    with pytest.raises(ValueError, match=r'`method` must be "diffedit" or "stylediffusion", got '):
        semantic_edit.load("nowhere", method)


def test_a_model_that_no_pipeline_serves(tmp_path, no_network):
    parts = {name: ["diffusers", "X"] for name in ("vae", "scheduler", "transformer", "text_encoder_3")}
    index = {"_class_name": "StableDiffusion3Pipeline", **parts}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    words = f"{str(tmp_path)!r} is the model of a StableDiffusion3Pipeline, and {ONLY_SERVED}."
    with pytest.raises(ValueError, match=re.escape(words)):
        semantic_edit.load(tmp_path)


def test_a_loaded_pipeline_that_no_pipeline_serves():
    from diffusers import DDIMPipeline, DDIMScheduler

    unet = UNet2DModel(
        8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    given = DDIMPipeline(unet, DDIMScheduler())
    with pytest.raises(
        ValueError, match=re.escape(f"`model` is the model of a DDIMPipeline, and {ONLY_SERVED}.")
    ):
        semantic_edit.load(given)


@pytest.mark.parametrize("name", ["no/such/folder", "nowhere", "/nowhere", ""])
def test_what_is_neither_there_nor_a_hub_id(name, no_network):
    with pytest.raises(ValueError, match=rf"There is no folder or file {name!r}, and a Hub id has the form"):
        semantic_edit.load(name)


@pytest.mark.parametrize("model", [3, ["model"], b"model"])
def test_what_is_no_name(model):
    with pytest.raises(
        TypeError, match="`model` must be a folder, a file, a Hub id or a pipeline of diffusers"
    ):
        semantic_edit.load(model)


def test_a_folder_without_an_index(tmp_path, no_network):
    with pytest.raises(OSError, match=r"no file named model_index\.json"):
        semantic_edit.load(tmp_path)


def test_a_hub_id_is_looked_for_in_the_cache_alone_where_that_is_asked_for(tmp_path, no_network, monkeypatch):
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(OSError, match=r"owner/name|cached snapshot"):
        semantic_edit.load("owner/name", local_files_only=True, cache_dir=tmp_path)
    assert constants.HF_HUB_OFFLINE is before


def test_a_single_file_takes_a_configuration_that_is_named(single_file, model_folder, pipe, no_network):
    loaded = semantic_edit.load(single_file, config=str(model_folder), unet=pipe.unet, vae=pipe.vae)
    assert type(loaded) is DiffEditPipeline
    for name, tensor in pipe.text_encoder.state_dict().items():
        assert tensor.equal(loaded.text_encoder.state_dict()[name])


@METHODS
def test_a_single_file_of_sdxl(make_xl_pipe, tmp_path, method, no_network):
    """A single file with only the first text encoder: diffusers converts the others only at their real sizes."""
    pipe = make_xl_pipe()
    pipe.save_pretrained(tmp_path / "config")
    parts = pipe.components
    tensors = {
        f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}": one.contiguous()
        for name, one in parts["text_encoder"].state_dict().items()
    }
    # by which diffusers tells the model
    for name in ("transformer.resblocks.9.mlp.c_proj.bias", "positional_embedding"):
        tensors[f"conditioner.embedders.1.model.{name}"] = torch.zeros(1)
    save_file(tensors, tmp_path / "model.safetensors")
    others = {name: parts[name] for name in ("unet", "vae", "text_encoder_2")}
    loaded = semantic_edit.load(
        tmp_path / "model.safetensors", method, config=str(tmp_path / "config"), **others
    )
    assert type(loaded) is CLASSES["xl", method]
    assert loaded.unet is parts["unet"]
    for name, tensor in parts["text_encoder"].state_dict().items():
        assert tensor.equal(loaded.text_encoder.state_dict()[name])


def test_a_pickle_is_not_read(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04")
    with pytest.raises(
        ValueError, match=r"may be a pickle, which can run any code; use a \.safetensors file"
    ):
        semantic_edit.load(tmp_path / "model.ckpt")


@pytest.mark.parametrize("index", ["[]", "{}", '{"transformer": ["diffusers", "SD3Transformer2DModel"]}'])
def test_a_folder_whose_index_names_no_pipeline(tmp_path, no_network, index):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ValueError, match=r"model_index\.json of '.*' does not name a pipeline"):
        semantic_edit.load(tmp_path)
