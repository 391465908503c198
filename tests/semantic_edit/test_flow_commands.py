"""The commands with rectified flows: what they are guided by, and errors in terms of what was typed."""

import re

import numpy as np
import pytest
from PIL import Image

from semantic_edit.cli import main
from tests.flow.flux import make_flux
from tests.flow.qwen import make_qwen
from tests.flow.sd3 import make_sd3
from tests.flow.z_image import make_z_image

MAKE = {
    "flux": make_flux,
    "qwen": make_qwen,
    "sd3": make_sd3,
    "turbo": lambda: make_z_image(shift=3.0),
    "z-image": make_z_image,
}
NEGATIVE = ("--negative", "a mug")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders, written when they are first asked for."""
    root = tmp_path_factory.mktemp("flows")

    def folder(name):
        if not (root / name).is_dir():
            MAKE[name]().save_pretrained(root / name)
        return str(root / name)

    return folder


@pytest.fixture
def edit(models, picture_file, tmp_path, capsys):
    def run(model, *options):
        steps = () if "--steps" in options else ("--steps", "4")
        given = [
            "--prompt",
            "a green pear",
            "--size",
            "64x48",
            *steps,
            "-o",
            str(tmp_path / "out.png"),
            *options,
        ]
        folder = models(model)
        capsys.readouterr()  # transformers draws a bar when it writes
        return main(["edit", str(picture_file), *given, "--model", folder])

    return run


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("flux", NEGATIVE, "--negative has an effect only with --true-cfg-scale above 1, .* --true-cfg-scale 4, for"),
        ("flux", ("--true-cfg-scale", "4"), "--true-cfg-scale 4 guides away from a negative prompt, and there is none"),
        ("qwen", ("--guidance-scale", "4"), "--guidance-scale is not for models of Qwen-Image; use --true-cfg-scale$"),
        ("qwen", (*NEGATIVE, "--true-cfg-scale", "1"), "--negative has no effect with --true-cfg-scale 1: .*"),
        ("qwen", ("--steps", "1"), "The scheduler gives no 1 different noise levels; change --steps, or"),
        ("sd3", ("--true-cfg-scale", "4"), "is not for models of Stable Diffusion 3; use --guidance-scale$"),
        ("sd3", (*NEGATIVE, "--guidance-scale", "1"), "--negative has no effect with a --guidance-scale of 1 or less"),
        ("z-image", (*NEGATIVE, "--guidance-scale", "0"), "--negative has no effect with .* 0"),
        ("turbo", NEGATIVE, "no effect with this model, whose usual --guidance-scale is 0: there is no guidance"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_refused_in_typed_words(edit, only_error, tmp_path, model, options, words):
    assert edit(model, *options) == 2
    assert re.search(words, only_error())
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("flux", (*NEGATIVE, "--true-cfg-scale", "4")),
        pytest.param("qwen", ("--true-cfg-scale", "9"), marks=pytest.mark.slow),
        pytest.param("z-image", (*NEGATIVE, "--guidance-scale", "0.5"), marks=pytest.mark.slow),
    ],
)
def test_what_has_an_effect_reaches_the_pipeline(edit, tmp_path, model, options):
    assert edit(model) == 0
    usual = np.asarray(Image.open(tmp_path / "out.png"))
    assert edit(model, *options) == 0
    assert not np.array_equal(usual, np.asarray(Image.open(tmp_path / "out.png")))


def test_what_needs_cross_attention_says_so(models, picture_file, tmp_path, only_error, capsys):
    folder = models("flux")
    capsys.readouterr()
    given = [str(picture_file), "--prompt", "a pear", "-o", str(tmp_path / "learned"), "--model", folder]
    assert main(["learn", *given]) == 2
    assert "is of FLUX.1, and only those with a UNet's cross-attention learn and restyle" in only_error()
