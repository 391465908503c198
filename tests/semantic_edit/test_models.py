"""What `--model` names is checked before it is used: its family, its files and its configuration."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import FluxControlPipeline, FluxFillPipeline, FluxKontextPipeline
from huggingface_hub import constants
from safetensors.torch import save_file

from semantic_edit import load
from semantic_edit.cli import main
from semantic_edit.disk.models import ONLY_SERVED
from semantic_edit.loading import load_pipeline
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.options import ModelChoice
from semantic_edit.pipelines import (
    DiffEditPipeline,
    FluxDiffEditPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
    StyleDiffusionPipeline,
)
from tests.flow.flux import make_flux

PARTS = {
    name: ["diffusers", "X"]
    for name in ("vae", "unet", "text_encoder", "tokenizer", "scheduler", "safety_checker")
}
UNET = {"unet": ["diffusers", "UNet2DConditionModel"]}


@pytest.fixture
def edit(tmp_path, picture):
    picture.save(tmp_path / "picture.png")

    def run(model, *options):
        given = [str(tmp_path / "picture.png"), "--prompt", "a pear", "--steps", "2", *options]
        return main(["edit", *given, "--model", str(model), "-o", str(tmp_path / "out.png")])

    return run


@pytest.fixture(scope="module")
def half_folder(make_style_pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    make_style_pipe().save_pretrained(folder, variant="fp16")
    return folder


def test_a_folder_of_a_variant_alone(edit, half_folder, only_error, tmp_path):
    assert edit(half_folder) == 2
    line = only_error()
    assert (
        "has only files of a variant for image_encoder (fp16), text_encoder (fp16), unet (fp16), vae" in line
    )
    assert line.endswith("add --model-variant fp16")
    assert edit(half_folder, "--model-variant", "fp16") == 0
    assert (tmp_path / "out.png").is_file()


def test_every_command_takes_a_variant(half_folder, mapping_folder, picture_file, tmp_path):
    half = ["--model", str(half_folder), "--model-variant", "fp16"]
    restyle = ["restyle", "--mapping", str(mapping_folder), "--prompt", "a red pear on grass"]
    assert main([*restyle, *half, "-o", str(tmp_path / "restyled.png")]) == 0
    drawn = ["attention", "--mapping", str(mapping_folder), *half, "-o", str(tmp_path / "words.png")]
    assert main(drawn) == 0
    learn = ["learn", str(picture_file), "--prompt", "a pear", "--steps", "1"]
    assert main([*learn, *half, "-o", str(tmp_path / "learned")]) == 0


@pytest.mark.parametrize("command", ["learn", "restyle", "attention", "evaluate"])
def test_every_command_refuses_them_without(
    half_folder, mapping_folder, picture_file, tmp_path, only_error, command
):
    given = {
        "learn": [str(picture_file), "--prompt", "a pear", "-o", str(tmp_path / "learned")],
        "restyle": ["--mapping", str(mapping_folder), "--prompt", "a pear", "-o", str(tmp_path / "out.png")],
        "attention": ["--mapping", str(mapping_folder), "-o", str(tmp_path / "out.png")],
        "evaluate": ["--out", str(tmp_path / "results")],
    }
    assert main([command, *given[command], "--model", str(half_folder)]) == 2
    assert "add --model-variant fp16" in only_error()


def test_a_variant_that_is_not_there(edit, half_folder, model_folder, only_error):
    assert edit(half_folder, "--model-variant", "ema") == 2
    assert "add --model-variant fp16" in only_error()
    assert edit(model_folder, "--model-variant", "fp16") == 2
    assert only_error().endswith(
        f"--model-variant fp16: {model_folder} has no such files, only the usual ones"
    )
    assert main(["edit", "picture.png", "--prompt", "a", "-o", "out.png", "--model-variant", "fp16"]) == 2


def test_a_variant_without_a_model(picture_file, tmp_path, only_error):
    command = ["edit", str(picture_file), "--prompt", "a pear", "-o", str(tmp_path / "out.png")]
    assert main([*command, "--model-variant", "fp16"]) == 2
    assert "--model-variant needs a --model" in only_error()


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("StableDiffusion3Pipeline", {**PARTS, "transformer": ["diffusers", "SD3Transformer2DModel"]}),
        ("KandinskyV22Pipeline", {**UNET, "scheduler": ["diffusers", "X"], "movq": ["diffusers", "VQModel"]}),
        ("TextToVideoSDPipeline", {**PARTS, "unet": ["diffusers", "UNet3DConditionModel"]}),
        (["my_file", "FluxPipeline"], {"transformer": ["diffusers", "X"]}),
    ],
)
def test_other_families_are_named(tmp_path, picture_file, kind, parts):
    """At once: nothing slow is imported for it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": kind, "_diffusers_version": "0.42", **parts})
    )
    script = (
        "import sys; from semantic_edit.cli import main; code = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [
        "edit",
        str(picture_file),
        "--prompt",
        "a",
        "-o",
        str(tmp_path / "out.png"),
        "--model",
        str(folder),
    ]
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    name = kind if isinstance(kind, str) else kind[-1]
    words = f"is the model of a {name}, and {ONLY_SERVED}"
    assert done.stderr == f"semantic-edit: error: --model {folder} {words}\n"


OWN = [
    DiffEditPipeline,
    StyleDiffusionPipeline,
    StableDiffusionXLDiffEditPipeline,
    StableDiffusionXLStyleDiffusionPipeline,
]
OTHER_FAMILY = {
    DiffEditPipeline: (StableDiffusionXLDiffEditPipeline, "SDXL"),
    StyleDiffusionPipeline: (StableDiffusionXLStyleDiffusionPipeline, "SDXL"),
    StableDiffusionXLDiffEditPipeline: (DiffEditPipeline, r"Stable Diffusion 1\.x and 2\.x"),
    StableDiffusionXLStyleDiffusionPipeline: (StyleDiffusionPipeline, r"Stable Diffusion 1\.x and 2\.x"),
}


@pytest.mark.parametrize("own", OWN)
def test_a_folder_that_no_pipeline_serves_is_named(tmp_path, own):
    index = {"_class_name": "StableDiffusion3Pipeline", **PARTS, "transformer": ["diffusers", "X"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=f"is the model of a StableDiffusion3Pipeline, and {re.escape(ONLY_SERVED)}"
    ):
        own.from_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"nowhere|cached snapshot"):
        own.from_pretrained("owner/nowhere", local_files_only=True)


@pytest.mark.parametrize("own", OWN)
def test_a_model_that_another_pipeline_serves_names_it(own, pipe, make_xl_edit_pipe, tmp_path):
    right, family = OTHER_FAMILY[own]
    match = rf"is of {family}, which {own.__name__} does not support; use {right.__name__} instead"
    loaded = make_xl_edit_pipe() if family == "SDXL" else pipe
    with pytest.raises(ValueError, match=f"`pipeline` {match}"):
        own.from_pipe(loaded)
    (tmp_path / "model_index.json").write_text(loaded.to_json_string())
    with pytest.raises(ValueError, match=match):
        own.from_pretrained(tmp_path)


def test_a_text_encoder_of_another_width(make_pipe, make_style_pipe, make_unet, picture, counted):
    wide = make_unet(cross_attention_dim=48)
    match = "`text_encoder` gives embeddings 32 wide, but the UNet's cross attention takes 48"
    calls = (
        lambda: make_pipe(unet=wide)(picture, "a pear"),
        lambda: make_pipe(unet=wide).invert(image=picture),
        lambda: make_pipe(unet=wide).generate_mask(picture, "a pear"),
        lambda: make_style_pipe(unet=wide).learn_mapping(picture, "a pear"),
    )
    for call in calls:
        with pytest.raises(ValueError, match=match):
            call()
    assert make_pipe(unet=wide, text_encoder=None, tokenizer=None).text_encoder is None


def test_a_single_file_needs_a_configuration(edit, single_file, only_error, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert edit(single_file) == 2
    line = only_error()
    origin = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert f"holds only weights, and the configuration that belongs to them, that of {origin}, is not" in line
    assert f"hf download {origin}" in line


def test_a_single_file_loads_with_a_configuration_from_the_cache(
    single_file, model_folder, pipe, monkeypatch, picture
):
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda origin, local_files_only: str(model_folder)
    )
    loaded = load_pipeline("diffedit", ModelChoice(str(single_file), "cpu"), unet=pipe.unet, vae=pipe.vae)
    loaded.set_progress_bar_config(disable=True)
    edits = [
        one(picture, "a pear", mask_image=np.eye(8)[:6], num_inference_steps=2).images[0]
        for one in (loaded, pipe)
    ]
    assert np.array_equal(*map(np.asarray, edits))


XL_BASE = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
SINGLE_FILES = {
    "inpainting": (
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)},
        "is an inpainting model",
    ),
    "xl-inpainting": (
        {"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3), XL_BASE: (1,)},
        "is an inpainting model",
    ),
    "refiner": ({XL_BASE.replace("embedders.1", "embedders.0"): (1,)}, "is SDXL's refiner"),
    "playground": ({"edm_mean": (1,), XL_BASE: (1,)}, "is of the EDM kind"),
    "flux2": (
        {"single_stream_modulation.lin.weight": (1,)},
        f"is a copy of black-forest-labs/FLUX.2-dev, and {ONLY_SERVED}",
    ),
    "flux": (
        {"double_blocks.0.img_attn.norm.key_norm.scale": (1,)},
        "hf download black-forest-labs/FLUX.1-schnell --include",
    ),
    "xl": ({XL_BASE: (1,)}, "hf download stabilityai/stable-diffusion-xl-base-1.0 --include"),
}


@pytest.mark.parametrize("name", SINGLE_FILES)
def test_single_files_of_other_models_are_named(edit, tmp_path, only_error, name, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    shapes, reason = SINGLE_FILES[name]
    path = tmp_path / f"{name}.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    assert edit(path) == 2
    line = only_error()
    assert line.startswith(f"semantic-edit: error: cannot load the model {path}: it ")
    assert reason in line
    with pytest.raises(ValueError, match=re.escape(f"{str(path)!r} ")):
        load(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.ckpt", "is a pickle, which may run any code; choose a .safetensors file"),
        ("broken.safetensors", "cannot be read as a single-file model"),
    ],
)
def test_single_files_that_are_none(edit, tmp_path, only_error, name, reason):
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    assert edit(tmp_path / name) == 2
    assert reason in only_error()
    assert not (tmp_path / "out.png").exists()


def test_a_variant_of_the_model_that_a_picture_was_learned_with(
    half_folder, mapping_folder, tmp_path, only_error
):
    """The model may be one that the user did not type; the still-life model, which is the default, has no variants."""
    out = ["-o", str(tmp_path / "out.png"), "--model-variant", "fp16"]
    assert main(["restyle", "--mapping", str(mapping_folder), "--prompt", "a red pear", *out]) == 2
    assert "the still-life model has no variants" in only_error()
    network = MappingNetwork.from_pretrained(mapping_folder)
    network.register_to_config(base_model=str(half_folder))
    network.save_pretrained(tmp_path / "mapping")
    assert main(["restyle", "--mapping", str(tmp_path / "mapping"), "--prompt", "a red pear", *out]) == 0


def test_a_variant_of_a_single_file(edit, single_file, only_error):
    assert edit(single_file, "--model-variant", "fp16") == 2
    assert "--model-variant chooses among the files of a folder, but --model is a single file" in only_error()


def test_a_single_file_without_a_part(edit, single_file, model_folder, only_error, monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda origin, local_files_only: str(model_folder)
    )
    assert edit(single_file) == 2
    assert "Weights for this component appear to be missing" in only_error()


@pytest.mark.parametrize("kind", [FluxKontextPipeline, FluxFillPipeline, FluxControlPipeline])
def test_models_with_the_parts_of_another_are_told_by_their_pipeline(edit, tmp_path, only_error, kind):
    """In a folder and loaded, by every way to load them."""
    loaded = kind(**{name: make_flux().components.get(name) for name in kind._get_signature_types()})
    loaded.save_config(tmp_path)
    words = f"is the model of a {kind.__name__}, wh.*use FLUX.1 dev or schnell instead"
    for load_it, given in (
        (load, tmp_path),
        (load, loaded),
        (FluxDiffEditPipeline.from_pretrained, tmp_path),
        (FluxDiffEditPipeline.from_pipe, loaded),
    ):
        with pytest.raises(ValueError, match=words):
            load_it(given)
    assert edit(tmp_path) == 2
    assert re.search(words, only_error())
