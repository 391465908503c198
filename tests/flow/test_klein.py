"""FLUX.2 klein: its latents and levels, what distilled ones do without, and what is refused."""

import copy
import json

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch.testing import assert_close

import semantic_edit
from semantic_edit.denoisers.flow_schedules import shift_of_steps
from semantic_edit.denoisers.transformer import latents_from
from semantic_edit.disk.models import family_of_folder, family_of_modules, unserved_folder
from semantic_edit.pipelines import Flux2KleinDiffEditPipeline, pipeline_around, read_images
from tests.conftest import make_picture
from tests.flow.flux2_klein import KLEIN, KLEIN_DISTILLED, SHORT, make_klein
from tests.flow.test_chat import small_edit
from tests.flow.test_laws import received

base = pytest.mark.parametrize("family", [KLEIN], indirect=True, ids=str)
distilled = pytest.mark.parametrize("family", [KLEIN_DISTILLED], indirect=True, ids=str)


@pytest.mark.parametrize("tokens", [12, 1024, 4096, 4300, 4301, 16384])
@pytest.mark.parametrize("steps", [1, 4, 10, 50, 200])
def test_the_shift_is_its_pipelines_own(tokens, steps):
    assert shift_of_steps(steps, tokens) == pytest.approx(compute_empirical_mu(tokens, steps), rel=1e-9)


@base
def test_a_picture_is_encoded_as_by_its_pipelines_own_code(own, denoiser, picture):
    pixels = read_images(picture).pixels
    with torch.no_grad():
        theirs = own._pack_latents(own._encode_vae_image(2 * pixels - 1, None))
        ours = denoiser.encode(pixels)
    assert_close(ours, latents_from(theirs, *ours.shape[-2:]), rtol=0, atol=1e-5)


@base
def test_words_are_looked_for_in_blocks_of_both_kinds(denoiser):
    assert denoiser.attention_layers() == [
        "transformer_blocks.0.attn",
        "single_transformer_blocks.0.attn",
        "single_transformer_blocks.1.attn",
    ]


@distilled
def test_a_distilled_model_takes_eight_steps_from_noise_without_guidance(pipe):
    with received(pipe.transformer) as calls:
        usual = small_edit(pipe, num_inference_steps=None, mask_image=torch.ones(1, 1, 6, 8), **SHORT)
    assert [len(call["hidden_states"]) for call in calls] == [1, 1, 1]
    told = {"encoding": "noise", "guidance_scale": 1.0, "num_inference_steps": 8, "negative_prompt": ""}
    again = small_edit(pipe, mask_image=torch.ones(1, 1, 6, 8), **told, **SHORT)
    assert torch.equal(again.images, usual.images)


@distilled
def test_the_mask_of_a_distilled_model_is_found_without_guidance(pipe):
    told = {"source_prompt": "a red apple", "height": 48, "width": 64, "output_type": "pt", **SHORT}
    one, other = (
        pipe.generate_mask(
            make_picture(1, 64, 48),
            "a green pear",
            guidance_scale=scale,
            generator=torch.Generator().manual_seed(0),
            **told,
        )
        for scale in (4.0, 1.0)
    )
    assert torch.equal(one, other)


@distilled
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"encoding": "inversion"}, "`encoding='inversion'` does not work with a step-distilled .*`is_distilled`"),
        ({"encoding": "flowedit"}, "`encoding='flowedit'` does not work with a step-distilled model"),
        ({"guidance_scale": 4.0}, "`guidance_scale` has no effect with a step-distilled model"),
        ({"negative_prompt": "a mug"}, "`negative_prompt` has no effect with a step-distilled model"),
        ({"guidance_scale": "4"}, "`guidance_scale` must be .*got '4'"),
    ],
)  # fmt: skip
def test_what_a_distilled_model_does_not_take(pipe, given, words):
    with pytest.raises(ValueError, match=words):
        small_edit(pipe, **given)


@distilled
def test_a_distilled_model_is_not_inverted(pipe):
    with pytest.raises(ValueError, match="`invert` does not work with a step-distilled model"):
        pipe.invert("", make_picture(1, 64, 48))


@distilled
def test_that_a_model_is_distilled_is_kept_wherever_it_is_loaded(pipe, own, tmp_path):
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert (index["_class_name"], index["is_distilled"]) == ("Flux2KleinPipeline", True)
    own_class = type(own)
    for made in (
        semantic_edit.load(tmp_path),
        semantic_edit.load(own),
        Flux2KleinDiffEditPipeline.from_pretrained(tmp_path, local_files_only=True),
        Flux2KleinDiffEditPipeline.from_pipe(own),
        own_class.from_pipe(pipe),
        DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True),
    ):
        assert made.config.is_distilled is True


@base
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 3, 16)}, "16 wide, but the transformer takes 24"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 3, 24)}, "the same number of tokens, got .*`prompt` 3"),
        ({"max_sequence_length": 513}, "`max_sequence_length` must be .*512.*got 513"),
        ({"guidance_scale": 1, "negative_prompt": "a mug"}, "`negative_prompt` has no effect with `guidance_scale` 1"),
    ],
)  # fmt: skip
def test_what_a_base_model_does_not_take(pipe, given, words):
    with pytest.raises(ValueError, match=words):
        small_edit(pipe, **given)


def test_flux_2_dev_is_refused_by_its_text_encoder_and_by_its_transformer():
    own = make_klein()
    index = {name: ["", type(one).__name__] for name, one in own.components.items()}
    assert family_of_folder({"_class_name": "Flux2KleinPipeline", **index}).title == "FLUX.2 klein"
    assert family_of_modules({**own.components, "text_encoder": None}).title == "FLUX.2 klein"
    index |= {
        "_class_name": "Flux2Pipeline",
        "text_encoder": ["transformers", "Mistral3ForConditionalGeneration"],
    }
    assert family_of_folder(index) is None
    assert unserved_folder(index).startswith("is the model of a Flux2Pipeline, and only models of")
    transformer = copy.deepcopy(own.transformer)
    transformer.register_to_config(guidance_embeds=True)
    pipe = pipeline_around(Flux2KleinDiffEditPipeline, make_klein(transformer=transformer))
    with pytest.raises(ValueError, match=r"guidance_embeds=True, as FLUX\.2 dev has"):
        small_edit(pipe)


def test_parts_of_other_models_are_refused():
    pipe = pipeline_around(Flux2KleinDiffEditPipeline, make_klein())
    transformer = copy.deepcopy(pipe.transformer)
    transformer.register_to_config(joint_attention_dim=16)
    other = pipeline_around(Flux2KleinDiffEditPipeline, make_klein(transformer=transformer))
    with pytest.raises(ValueError, match="embeddings 24 wide, but the transformer takes 16"):
        small_edit(other)
    pipe.register_modules(vae=AutoencoderKL(block_out_channels=(4,), norm_num_groups=4))
    with pytest.raises(
        ValueError, match="The `vae` is a AutoencoderKL, which has no statistics of its latents"
    ):
        small_edit(pipe)
