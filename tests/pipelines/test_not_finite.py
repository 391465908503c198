"""NaN and infinite values end a call with the stage and the step where they arose, and nothing is returned."""

import copy

import numpy as np
import pytest
import torch

from semantic_edit.mapping_networks import LearningSettings

pytestmark = [
    pytest.mark.families("sd", slow=["sdxl"]),
    pytest.mark.filterwarnings("ignore:The mask.* covers the whole picture"),
]

SOURCE, TARGET = "a red apple on grass", "a green pear on grass"
MASK = np.eye(8)[:6]
EVERYWHERE = np.ones((6, 8))
WHAT_TO_DO = r"run the model in float32 or bfloat16, or its VAE alone in float32"


@pytest.fixture
def spoiled(family):
    """A copy of a pipeline in which one layer gives NaN starting with a given call."""

    def copied(pipe, layer, first=0):
        component, _, path = layer.partition(".")
        parts = {**pipe.components, component: copy.deepcopy(pipe.components[component])}
        calls = []

        def spoil(module, inputs, output):
            calls.append(1)
            return output if len(calls) <= first else torch.full_like(output, float("nan"))

        parts[component].get_submodule(path).register_forward_hook(spoil)
        changed = type(pipe)(**parts, **family.silent)
        changed.set_progress_bar_config(disable=True)
        return changed

    return copied


def names(stage):
    return pytest.raises(FloatingPointError, match=f"came from {stage}.* {WHAT_TO_DO}")


def read_text(pipe):
    """The layer that produces the embeddings in both families."""
    inner = "text_model." if hasattr(pipe.text_encoder, "text_model") else ""
    return f"text_encoder.{inner}embeddings"


@pytest.mark.parametrize("output_type", ["pil", "latent"])
@pytest.mark.parametrize(
    ("layer", "first", "stage"),
    [
        ("vae.encoder.conv_out", 0, "the VAE's encoder"),
        ("text_encoder", 0, "the embeddings of `prompt`"),
        ("unet.conv_out", 0, r"the mask's predictions \(timestep 201\)"),
        ("unet.conv_out", 1, r"the inversion at step 0 \(timestep 1\)"),
        ("unet.conv_out", 2, r"the inversion at step 3 \(timestep 601\)"),
        ("unet.conv_out", 3, r"the decoding at step 0 \(timestep 601\)"),
        ("unet.conv_out", 6, r"the decoding at step 3 \(timestep 1\)"),
    ],
)
def test_diffedit_names_the_stage_and_the_step(pipe, spoiled, picture, layer, first, stage, output_type):
    layer = read_text(pipe) if layer == "text_encoder" else layer
    options = {"num_inference_steps": 5, "num_maps_per_mask": 5, "output_type": output_type}
    with names(stage):
        spoiled(pipe, layer, first)(picture, TARGET, SOURCE, focus=False, mask_threshold=0.1, **options)


def test_no_mask_hides_what_is_not_finite(pipe, spoiled, picture):
    """A mask of weight 0 does not help: `lerp(original, nan, 0)` is NaN."""
    for mask in (MASK, EVERYWHERE):
        with names("the decoding at step 1"):
            spoiled(pipe, "unet.conv_out", 3)(picture, TARGET, mask_image=mask, num_inference_steps=5)


def test_the_decoders_pictures(pipe, spoiled, picture):
    options = {"mask_image": MASK, "num_inference_steps": 2}
    bad = spoiled(pipe, "vae.decoder.conv_out")
    for output_type in ("pil", "np", "pt"):
        with names("the VAE's decoder"):
            bad(picture, TARGET, output_type=output_type, **options)
    assert torch.isfinite(bad(picture, TARGET, output_type="latent", **options).images).all()


def test_the_search_for_what_is_small(make_pipe, spoiled, picture):
    large = picture.resize((512, 384))
    with names(r"the prediction that is looked into \(timestep 1\)"):
        spoiled(make_pipe(), "unet.conv_out")(large, TARGET, SOURCE, focus=True, num_inference_steps=5)


@pytest.mark.families("sd", "sdxl")
def test_the_stages_alone(pipe, spoiled, picture):
    with names("the VAE's encoder"):
        spoiled(pipe, "vae.encoder.conv_out").generate_mask(picture, TARGET, source_prompt=SOURCE)
    with names("the embeddings of `target_prompt`"):
        spoiled(pipe, read_text(pipe)).generate_mask(picture, TARGET, source_prompt=SOURCE)
    with names("the mask's predictions"):
        spoiled(pipe, "unet.conv_out").generate_mask(picture, TARGET, source_prompt=SOURCE)
    with names("the inversion at step 3"):
        spoiled(pipe, "unet.conv_out", 1).invert(image=picture, num_inference_steps=5)
    with names("the VAE's decoder"):
        spoiled(pipe, "vae.decoder.conv_out").invert(
            image=picture, num_inference_steps=2, decode_latents=True
        )


@pytest.mark.families("sd")
def test_embeddings_that_the_unets_type_cannot_hold(make_pipe, make_unet, picture):
    pipe = make_pipe(unet=make_unet().half())
    with names("the embeddings of `prompt`"):
        pipe(picture, prompt_embeds=torch.full((1, 16, 32), 1e6), mask_image=MASK, num_inference_steps=2)


@pytest.mark.parametrize("name", ["latents", "prompt_embeds", "negative_prompt_embeds"])
def test_what_a_callback_returns(pipe, style_pipe, learned, picture, name):
    def spoil(pipe, step, timestep, tensors):
        return {name: torch.full_like(tensors[name], float("inf"))} if step == 2 else {}

    hook = {"callback_on_step_end": spoil, "callback_on_step_end_tensor_inputs": [name]}
    with names(f"the callback's `{name}` at step 2"):
        pipe(picture, TARGET, mask_image=MASK, num_inference_steps=4, output_type="latent", **hook)
    with names(f"the callback's `{name}` at step 2"):
        style_pipe(TARGET, learned, output_type="latent", **hook)


@pytest.mark.parametrize("output_type", ["pil", "latent"])
def test_restyling_names_the_stage_and_the_step(style_pipe, spoiled, learned, output_type):
    with names("the embeddings of `prompt`"):
        spoiled(style_pipe, read_text(style_pipe))(TARGET, learned, output_type=output_type)
    for step in (0, 3):
        with names(f"the decoding at step {step} "):
            spoiled(style_pipe, "unet.conv_out", step)(TARGET, learned, output_type=output_type)
    with names("the VAE's decoder"):
        spoiled(style_pipe, "vae.decoder.conv_out")(TARGET, learned)


def test_a_mapping_network_of_huge_values(style_pipe, learned):
    huge = copy.deepcopy(learned)
    with torch.no_grad():
        huge.conv_out_weight[2] = 1e38
    with names(r"the mapping network at step 2"):
        style_pipe(TARGET, huge, tau_v=1.0)


@pytest.mark.parametrize(
    ("layer", "first", "stage"),
    [
        ("image_encoder.vision_model.post_layernorm", 0, "the image encoder"),
        ("vae.encoder.conv_out", 0, "the VAE's encoder"),
        ("unet.conv_out", 1, r"the inversion at step 1 \(timestep 501\)"),
        ("vae.decoder.conv_out", 0, "the VAE's decoder"),
    ],
)
def test_learning_names_the_stage(style_pipe, spoiled, picture, layer, first, stage):
    if layer.startswith("image_encoder") and not hasattr(style_pipe.image_encoder, "vision_model"):
        layer = "image_encoder.post_layernorm"
    settings = LearningSettings(converged_below=100.0)
    with names(stage):
        spoiled(style_pipe, layer, first).learn_mapping(picture, SOURCE, 2, settings=settings)


def test_learning_names_the_step_and_keeps_none_of_it(style_pipe, spoiled, picture, tmp_path):
    bad = spoiled(style_pipe, "unet.conv_out", 6)
    settings = LearningSettings(inner_steps=1, stop_below=0.0, converged_below=100.0)
    with pytest.raises(FloatingPointError, match=r"learning's loss at step 1 is NaN .* float32 or bfloat16"):
        bad.learn_mapping(picture, SOURCE, 2, settings=settings, checkpoint=tmp_path / "kept")
    assert [path.name for path in sorted((tmp_path / "kept").glob("step*"))] == ["step-0000.safetensors"]


@pytest.mark.families("sd")
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("x", "must return None or a dict from names to tensors, got 'x'"),
        ({"latents": None}, r"returned None for `latents`, where floats of shape \(.*, 4, 6, 8\) are needed"),
        ({"latents": torch.empty(0)}, r"returned torch.float32 \(0,\) for `latents`"),
        ({"latents": torch.zeros(1, 4, 6, 8, dtype=torch.long)}, r"returned torch.int64 \(1, 4, 6, 8\) for"),
        ({"prompt_embeds": torch.zeros(1, 16, 31)}, r"returned .* \(1, 16, 31\) for `prompt_embeds`"),
        ({"negative_prompt_embeds": "x"}, "returned 'x' for `negative_prompt_embeds`"),
    ],
)
def test_a_callback_that_returns_something_else(pipe, style_pipe, learned, picture, returned, message):
    hook = {"callback_on_step_end": lambda *_: returned}
    with pytest.raises(ValueError, match=f"`callback_on_step_end` {message}"):
        pipe(picture, TARGET, mask_image=MASK, num_inference_steps=4, **hook)
    with pytest.raises(ValueError, match=f"`callback_on_step_end` {message}"):
        style_pipe(TARGET, learned, **hook)


@pytest.mark.families("sd")
def test_a_callback_that_returns_what_cannot_be_computed_with(pipe, picture):
    for options, kind in (
        ({"layout": torch.sparse_coo}, "sparse_coo, on cpu"),
        ({"device": "meta"}, "on meta"),
    ):
        hook = {
            "callback_on_step_end": lambda *_, options=options: {
                "latents": torch.zeros(1, 4, 6, 8, **options)
            }
        }
        with pytest.raises(
            ValueError, match=rf"returned torch.float32 \(1, 4, 6, 8\) \(.*{kind}\) for `latents`"
        ):
            pipe(picture, TARGET, mask_image=MASK, num_inference_steps=4, **hook)


@pytest.mark.families("sd")
def test_a_callback_that_returns_another_precision(pipe, picture):
    """Steps are still computed in the pipeline's own dtype."""
    options = {"mask_image": MASK, "num_inference_steps": 4, "output_type": "pt"}
    doubled = pipe(
        picture,
        TARGET,
        callback_on_step_end=lambda pipe, step, timestep, tensors: {"latents": tensors["latents"].double()},
        **options,
    )
    assert torch.equal(doubled.images, pipe(picture, TARGET, **options).images)


@pytest.mark.families("sd")
def test_the_vae_alone_in_float32(make_pipe, make_unet, text_encoder, vae, picture):
    """The error's advice works: everything else keeps its own precision."""
    seen = []

    class Checker(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.bfloat16

        def forward(self, images, clip_input):
            seen.append(clip_input.dtype)
            return images, [False] * len(images)

    class Extractor:
        pixel_values = torch.zeros(1, 3, 8, 8)

        def __call__(self, pictures, return_tensors):
            return self

        def to(self, device):
            return self

    halves = {"unet": make_unet().bfloat16(), "text_encoder": copy.deepcopy(text_encoder).bfloat16()}
    pipe = make_pipe(vae=vae, **halves, safety_checker=None)
    pipe.safety_checker, pipe.feature_extractor = Checker(), Extractor()
    done = pipe(picture, TARGET, mask_image=MASK, num_inference_steps=4, output_type="pt")
    assert torch.isfinite(done.images).all()
    assert seen == [torch.bfloat16]


@pytest.mark.families("sd")
def test_guidance_may_be_ended_by_none(pipe, picture):
    """Values that are not tensors are not checked."""
    ends = pipe(
        picture,
        TARGET,
        mask_image=MASK,
        num_inference_steps=4,
        callback_on_step_end=lambda *_: {"negative_prompt_embeds": None},
    )
    assert len(ends.images) == 1
