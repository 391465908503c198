from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from semantic_edit.disk.fitting import KnownModel
from semantic_edit.disk.models import STABLE_DIFFUSION, STABLE_DIFFUSION_XL
from semantic_edit.mapping_networks import MappingNetwork, mapping_forward, value_embeds_of
from semantic_edit.mapping_networks.config import FORMAT_VERSION

SCHEDULE = SimpleNamespace(num_inference_steps=3, prediction_type="epsilon", fingerprint="5c0dc4ed01e50000")
FITS = {
    "schedule": SCHEDULE,
    "text_shape": (4, 6),
    "model": KnownModel(STABLE_DIFFUSION, "0123456789abcdef", 0.18215),
    "latent_shape": (2, 2, 3),
}


def another_schedule(**changes):
    return {"schedule": SimpleNamespace(**{**vars(SCHEDULE), **changes})}


@pytest.mark.parametrize("variant", ["modulate", "direct"])
@pytest.mark.parametrize("image_width", [6, 7])
def test_each_step_has_its_own_network(make_network, variant, image_width):
    network = make_network(variant=variant, image_width=image_width)
    text = torch.randn(2, 4, 6)
    for step in range(3):
        parameters = {name: getattr(network, name)[step].unsqueeze(0) for name in network.shapes}
        mapped = mapping_forward(parameters, network.image_tokens.unsqueeze(0))
        assert torch.equal(network.value_embeds(step, text), value_embeds_of(variant, mapped, text))
    assert not torch.equal(network.value_embeds(0, text), network.value_embeds(1, text))


def test_steps_and_texts_it_did_not_learn_are_refused(network):
    with pytest.raises(ValueError, match=r"`step` must lie between 0, the noisiest, and 2, .* got 3"):
        network.value_embeds(3, torch.zeros(1, 4, 6))
    with pytest.raises(ValueError, match=r"shape \(batch, 4, 6\), .* got \(1, 77, 6\)"):
        network.value_embeds(0, torch.zeros(1, 77, 6))


def test_filling_refuses_what_is_not_the_networks(network):
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    image_tokens, trajectory = tensors.pop("image_tokens"), tensors.pop("trajectory")
    tensors["other"] = tensors.pop("norm_bias")
    tensors["conv_in_bias"] = torch.zeros(3, 9)
    message = (
        r"\(norm_bias: missing; other: not one of this network's; "
        r"conv_in_bias: got \(3, 9\), the config asks for \(3, 8\)\)"
    )
    with pytest.raises(ValueError, match=message):
        network.fill(tensors, image_tokens, trajectory)


@pytest.mark.parametrize(
    "cast",
    [
        lambda network: network.half(),
        lambda network: network.bfloat16(),
        lambda network: network.double(),
        lambda network: network.to(torch.float16),
        lambda network: network.to("cpu", torch.float16),
        lambda network: network.to(dtype=torch.bfloat16),
        lambda network: torch.nn.ModuleList([network]).half()[0],
    ],
)
def test_tensors_stay_float32_to_the_bit(network, cast):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    after = cast(network).state_dict()
    assert network.dtype == torch.float32
    for name, value in before.items():
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], value)


def test_tensors_move_between_devices(network):
    assert {value.device.type for value in network.to("meta").state_dict().values()} == {"meta"}


class Holder(DiffusionPipeline):
    def __init__(self, network: MappingNetwork, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(network=network, scheduler=scheduler)


def test_tensors_stay_float32_inside_a_pipeline(network):
    before = network.conv_in_weight.clone()
    Holder(network, DDIMScheduler()).to(torch.float16)
    assert torch.equal(network.conv_in_weight, before)


def test_default_dtype_does_not_matter(config):
    torch.set_default_dtype(torch.float64)
    try:
        network = MappingNetwork(**config)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_its_repr_says_in_one_line_what_it_was_made_for(make_network):
    network = make_network(prompt="an apple " * 20, reconstruction_psnr=31.4159)
    assert repr(network) == (
        "MappingNetwork(prompt='an apple an apple an apple an apple an apple an apple an..., "
        "model_family='stable-diffusion', base_model='someone/still-life', num_inference_steps=3, "
        "latent_shape=(2, 2, 3), variant='modulate', reconstruction_psnr=31.4)"
    )
    assert "reconstruction_psnr=None" in repr(make_network(reconstruction_psnr=None))
    assert "(0): MappingNetwork(prompt=" in repr(torch.nn.ModuleList([network]))


def test_what_it_was_learned_for_fits(network):
    network.check_fits(**FITS)
    network.check_fits(**{**FITS, "latent_shape": None, "model": KnownModel()})
    network.check_fits(**{**FITS, "model": KnownModel(sizes={"target_size": (16, 24)})})  # it knows of none
    network.register_to_config(sizes={"target_size": [16, 24]})  # as in a file
    network.check_fits(**{**FITS, "model": KnownModel(sizes={"target_size": (16, 24)})})
    with pytest.raises(ValueError, match=r"`target_size`: mapping network \(16, 24\), this call \(8, 8\)"):
        network.check_fits(**{**FITS, "model": KnownModel(sizes={"target_size": (8, 8)})})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_schedule(num_inference_steps=50), "`num_inference_steps`: mapping network 3, this call 50"),
        (
            another_schedule(prediction_type="sample"),
            r"prediction_type: mapping network epsilon \(.*\), this call sample",
        ),
        (
            another_schedule(fingerprint="ff"),
            "noise schedule: mapping network 5c0dc4ed01e50000, this call ff",
        ),
        ({"text_shape": (77, 6)}, "number of text tokens: mapping network 4, this call 77"),
        ({"text_shape": (4, 768)}, "text width: mapping network 6, this call 768"),
        ({"latent_shape": (2, 8, 8)}, r"latent shape: mapping network \(2, 2, 3\), this call \(2, 8, 8\)"),
        (
            {"model": KnownModel(scaling_factor=0.5)},
            "VAE scaling factor: mapping network 0.18215, this call 0.5",
        ),
        (
            {"model": KnownModel(STABLE_DIFFUSION_XL, "ff", 0.5)},
            r"^The `mapping_network` was made with a model of another family: it is of Stable Diffusion 1\.x and "
            r"2\.x, and this pipeline's model is of SDXL\. Use the model that it was made with "
            r"\('someone/still-life'\), in a StyleDiffusionPipeline, or learn the picture again\.$",
        ),
        (
            {"model": KnownModel(fingerprint="ff")},
            "base model: mapping network 0123456789abcdef, this call ff.* on 'someone/still-life'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(network, change, message):
    with pytest.raises(ValueError, match=message):
        network.check_fits(**{**FITS, **change})


def test_broken_tensors_are_refused(network):
    with torch.no_grad():
        network.norm_bias[1, 2] = float("nan")
    with pytest.raises(ValueError, match="holds NaN or infinite values"):
        network.check_fits(**FITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "add"}, "'variant' of a mapping network must be one of modulate, direct, got 'add'"),
        ({"variant": ["modulate"]}, "'variant' .* got"),
        ({"num_text_tokens": 0}, "'num_text_tokens' .* an integer from 1 to 8192, got 0"),
        ({"text_width": 6.0}, "'text_width' .* an integer from 1 to 65536, got 6.0"),
        ({"num_image_tokens": True}, "'num_image_tokens' .* got True"),
        ({"image_width": "7"}, "'image_width' .* got '7'"),
        ({"latent_shape": [2, 2]}, r"'latent_shape' .* a list of 3, each an integer from 1 .* got \[2, 2\]"),
        ({"latent_shape": "234"}, "'latent_shape' .* got '234'"),
        ({"num_inference_steps": -1}, "'num_inference_steps' .* got -1"),
        ({"num_inference_steps": 4}, "of 4 steps must list one for each step, got 3"),
        ({"timesteps": [667, 334, 1]}, r"'timesteps' .* increasing .* got \[667, 334, 1\]"),
        ({"timesteps": [0.5, 1, 2]}, "'timesteps'"),
        ({"timesteps": 3}, "'timesteps'"),
        ({"schedule_fingerprint": None}, "'schedule_fingerprint' .* text .* got None"),
        (
            {"prediction_type": "flow"},
            "'prediction_type' .* one of epsilon, v_prediction, sample, got 'flow'",
        ),
        ({"prompt": None}, "'prompt' .* text"),
        ({"negative_prompt": 7}, "'negative_prompt' .* text"),
        ({"guidance_scale": float("nan")}, "'guidance_scale' .* number from 0 to 1e.06, got nan"),
        ({"scaling_factor": 0}, "'scaling_factor' .* number from 1e-06 .*, got 0"),
        ({"base_model": None}, "'base_model'"),
        ({"base_fingerprint": 3}, "'base_fingerprint'"),
        ({"learning": {"seed": [1]}}, "'learning'"),
        ({"learning": "import os"}, "'learning' .* got 'import os'"),
        ({"reconstruction_psnr": "40"}, "'reconstruction_psnr' .* or nothing, got '40'"),
        ({"reconstruction_ssim": float("inf")}, "'reconstruction_ssim'"),
        ({"sizes": {"target_size": [1, 2, 3]}}, "'sizes' .* two numbers of pixels each, or nothing, got"),
        ({"num_text_tokens": 10**9}, "'num_text_tokens' .* an integer from 1 to 8192, got 1000000000"),
        ({"timesteps": [1, 334, 10**30]}, "'timesteps' .* increasing integers from 0 to 1000000"),
        ({"prompt": "half \ud800"}, "'prompt' .* text"),
        ({"text_width": 65536, "image_width": 65535}, "would hold 12,88.* values .* text_width 65536"),
        (
            {"latent_shape": [65536, 65536, 2]},
            "No picture needs that many; the limit is 1,073,741,824",
        ),
        ({"format_version": "1"}, "'format_version' .* got '1'"),
        ({"format_version": FORMAT_VERSION + 1}, rf"version {FORMAT_VERSION + 1}, .* up to {FORMAT_VERSION}"),
    ],
)
def test_a_wrong_config_is_refused(config, change, message):
    with pytest.raises(ValueError, match=message):
        MappingNetwork(**{**config, **change})
