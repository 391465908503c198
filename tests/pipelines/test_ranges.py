"""Every number in every public call has a range; anything out of range, or not a number, is refused before any work."""

import inspect
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from semantic_edit.mapping_networks import LearningSettings
from semantic_edit.pipelines.diffedit import DiffEditPipeline
from semantic_edit.pipelines.ranges import NUMBERS
from semantic_edit.pipelines.stylediffusion import StyleDiffusionPipeline

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
MASK = np.eye(8)[:6]
CALLS = {
    "diffedit": DiffEditPipeline.__call__,
    "generate_mask": DiffEditPipeline.generate_mask,
    "invert": DiffEditPipeline.invert,
    "stylediffusion": StyleDiffusionPipeline.__call__,
    "learn_mapping": StyleDiffusionPipeline.learn_mapping,
}
OTHERWISE = {
    "num_inference_steps",
    "eta",
    "clip_skip",
}  # as many as a scheduler, none, and as a text encoder has


def numbers_of(call):
    """The arguments of a call that are numbers according to their annotations."""
    parameters = inspect.signature(call).parameters.values()
    return [
        one.name for one in parameters if re.search(r"\b(int|float)\b", str(one.annotation).split("[")[0])
    ]


CASES = [(name, argument) for name, call in CALLS.items() for argument in numbers_of(call)]
NO_NUMBERS = [
    True,
    "1",
    1j,
    Decimal(1),
    [1],
    np.array(1),
    np.array([1, 2]),
    np.True_,
    torch.tensor(1),
    torch.ones(2),
    float("nan"),
    float("inf"),
    -float("inf"),
]
TOO_LARGE = [10**9, 10**30, 10**5000, -(10**9), -1e300, 1e308, Fraction(10**400, 3), np.float64(1e300)]


@pytest.fixture
def call(pipe, style_pipe, learned, picture):
    """Any of the public calls, with its required arguments."""
    calls = {
        "diffedit": lambda **more: pipe(
            **{"image": picture, "prompt": TARGET, "source_prompt": SOURCE, "num_inference_steps": 5, **more}
        ),
        "generate_mask": lambda **more: pipe.generate_mask(
            **{"image": picture, "target_prompt": TARGET, "num_inference_steps": 5, **more}
        ),
        "invert": lambda **more: pipe.invert(**{"image": picture, "num_inference_steps": 5, **more}),
        "stylediffusion": lambda **more: style_pipe(TARGET, learned, **more),
        "learn_mapping": lambda **more: style_pipe.learn_mapping(picture, SOURCE, **more),
    }
    return lambda name, **more: calls[name](**more)


def test_no_number_is_without_a_range():
    assert {argument for _, argument in CASES} <= NUMBERS.keys() | OTHERWISE
    assert {"num_maps_per_mask", "mask_grow", "lambda_kl", "tau_u", "attention_side", "height"} <= {
        argument for _, argument in CASES
    }


@pytest.mark.filterwarnings("ignore:`latents` has no effect")
@pytest.mark.parametrize(("name", "argument"), CASES, ids=lambda case: case)
def test_what_is_no_number_or_too_large_is_refused_before_any_work(call, counted, name, argument):
    other = {"height": {"width": 48}, "width": {"height": 48}}.get(argument, {})
    for value in [*NO_NUMBERS, *TOO_LARGE]:
        with pytest.raises(ValueError, match=rf"^`{argument}` (must be|is) "):
            call(name, **other, **{argument: value})
    assert counted.samples == 0


@pytest.mark.parametrize(
    ("name", "argument", "value", "message"),
    [
        ("diffedit", "guidance_scale", 1e308, r"a number from 0 to 1000, got 1e\+308\. Above 1 it guides"),
        (
            "diffedit",
            "num_inference_steps",
            10**30,
            r"an integer from 1 to 1000, got 10+\. .* 1000 timesteps",
        ),
        ("diffedit", "mask_grow", 10**9, "an integer from -10000 to 10000, .* got 1000000000. It widens"),
        ("diffedit", "clip_skip", 100, r"an integer from 0 to 2, got 100\. It is how many"),
        ("diffedit", "clip_skip", -3, r"an integer from 0 to 2, got -3"),
        ("diffedit", "eta", Decimal(1), r"0, got Decimal\('1'\)"),
        ("invert", "lambda_auto_corr", float("inf"), r"a number from 0 to 1e\+06, got inf"),
        ("invert", "num_reg_steps", 10**30, "an integer from 0 to 1000, got 10+"),
        ("generate_mask", "num_maps_per_mask", 10**30, "an integer from 1 to 1000, got 10+"),
        ("learn_mapping", "attention_side", 10**9, "an integer from 1 to 16384, or nothing, got 1000000000"),
    ],
)
def test_the_errors_name_the_range(call, counted, name, argument, value, message):
    with pytest.raises(ValueError, match=f"^`{argument}` must be {message}"):
        call(name, **{argument: value})
    assert counted.samples == 0


def test_weights_of_words(call, counted):
    for value in (float("nan"), 1e308, Decimal(1), "2", None):
        with pytest.raises(
            ValueError, match=r"^`reweight\['pear'\]` must be a number from -1000 to 1000, got"
        ):
            call("stylediffusion", reweight={"pear": value})
    with pytest.raises(
        ValueError, match=r"^`word_tau_c\['pear'\]` must be a number from 0 to 1, got 1e\+308"
    ):
        call("stylediffusion", word_tau_c={"pear": 1e308})
    assert counted.samples == 0


def test_whole_numbers_and_fractions_of_any_type_are_what_they_are(call, tmp_path):
    seeded = {"output_type": "np", "generator": torch.Generator().manual_seed(0)}
    plain = call("diffedit", num_maps_per_mask=2, mask_grow=1, guidance_scale=7.5, **seeded)
    seeded["generator"].manual_seed(0)
    other = call(
        "diffedit",
        num_inference_steps=np.int64(5),
        num_maps_per_mask=np.int16(2),
        mask_grow=np.int8(1),
        inpaint_strength=Fraction(4, 5),
        guidance_scale=np.float32(7.5),
        mask_threshold=Fraction(1, 2),
        num_images_per_prompt=np.uint8(1),
        eta=np.float32(0),
        **seeded,
    )
    assert np.array_equal(plain.images, other.images)
    other.trajectory.save(tmp_path / "kept.safetensors")  # whose fields are JSON


def test_learning_takes_numbers_of_any_type(call, tmp_path):
    settings = LearningSettings(
        inner_steps=np.int64(1), learning_rate=np.float32(0.5), latent_weight=Fraction(1), converged_below=100
    )
    network = call(
        "learn_mapping", num_inference_steps=np.int64(2), guidance_scale=Fraction(15, 2), settings=settings
    )
    network.save_pretrained(tmp_path / "kept")
    assert network.config.guidance_scale == 7.5
    assert network.config.learning["learning_rate"] == 0.5
