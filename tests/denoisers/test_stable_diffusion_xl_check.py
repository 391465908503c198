import copy

import diffusers
import pytest
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

from semantic_edit.denoisers import StableDiffusionXLDenoiser


class StableDiffusionXLDiffEditPipeline(StableDiffusionXLPipeline):
    """Has the name of our pipeline, because errors suggest another one by it."""


class TestCheck:
    def check(self, make_xl_pipe, **changes):
        pipe = StableDiffusionXLDiffEditPipeline(
            **{**make_xl_pipe().components, **changes}, add_watermarker=False
        )
        StableDiffusionXLDenoiser(pipe).check()

    def test_the_tiny_model_passes(self, make_xl_pipe):
        self.check(make_xl_pipe)
        self.check(make_xl_pipe, text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None)
        self.check(make_xl_pipe, text_encoder=None, tokenizer=None)

    @pytest.mark.parametrize("missing", ["unet", "vae", "scheduler"])
    def test_a_missing_model_is_named(self, make_xl_pipe, missing):
        with pytest.raises(ValueError, match=f"This pipeline has no `{missing}`"):
            self.check(make_xl_pipe, **{missing: None})

    def test_a_stable_diffusion_unet_has_its_own_pipeline(self, make_xl_pipe, unet):
        with pytest.raises(
            ValueError,
            match=r"of Stable Diffusion 1\.x and 2\.x, which StableDiffusionXLDiffEditPipeline does not support; use "
            r"DiffEditPipeline instead",
        ):
            self.check(make_xl_pipe, unet=unet)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"in_channels": 9}, "9 input channels where the VAE gives 4, as inpainting models do"),
            ({"time_cond_proj_dim": 16}, "an embedded guidance scale, as latent consistency models do"),
            ({"num_class_embeds": 3}, "class labels, as upscalers do"),
            (
                {"encoder_hid_dim_type": "ip_image_proj"},
                r"an IP-Adapter's image; call `unload_ip_adapter\(\)`",
            ),
            ({"encoder_hid_dim_type": "text_proj"}, "further embeddings, as Kandinsky's and Kolors' do"),
            ({"addition_embed_type": "image"}, "further embeddings, as Kandinsky's"),
            ({"cross_attention_dim": [56, 32]}, "text of several widths"),
        ],
    )
    def test_other_unets(self, make_xl_pipe, xl_unet, changes, message):
        other = copy.deepcopy(xl_unet)
        other.register_to_config(**changes)
        with pytest.raises(
            ValueError, match=rf"This `unet` needs {message}.* Use a text-to-image SDXL base model"
        ):
            self.check(make_xl_pipe, unet=other)

    def test_a_width_for_each_block_may_be_one(self, make_xl_pipe, xl_unet):
        other = copy.deepcopy(xl_unet)
        other.register_to_config(cross_attention_dim=[56, 56])
        self.check(make_xl_pipe, unet=other)

    def test_the_refiner_by_its_five_numbers(self, make_xl_pipe, make_xl_unet):
        refiner = make_xl_unet(cross_attention_dim=24, projection_class_embeddings_input_dim=20 + 5 * 8)
        with pytest.raises(ValueError, match=r"SDXL's refiner, .* Use the base model"):
            self.check(make_xl_pipe, unet=refiner, text_encoder=None, tokenizer=None)

    def test_the_refiner_by_its_config(self, make_xl_pipe):
        pipe = make_xl_pipe()
        pipe.register_to_config(requires_aesthetics_score=True)
        with pytest.raises(ValueError, match="SDXL's refiner"):
            StableDiffusionXLDenoiser(pipe).check()

    @pytest.mark.parametrize(
        "scheduler",
        [
            diffusers.EDMEulerScheduler(),
            diffusers.EDMDPMSolverMultistepScheduler(),
            EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"),
        ],
        ids=lambda one: type(one).__name__,
    )
    def test_edm_schedulers(self, make_xl_pipe, scheduler):
        name = type(scheduler).__name__
        with pytest.raises(
            ValueError, match=rf"The scheduler, {name}, is of the EDM kind, .* Use an SDXL model with a usual"
        ):
            self.check(make_xl_pipe, scheduler=scheduler)

    @pytest.mark.parametrize(
        ("scheduler", "kind"),
        [
            (diffusers.LCMScheduler(), "latent consistency models"),
            (diffusers.TCDScheduler(), "models distilled by trajectory consistency, Hyper-SD among them"),
            (diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing"), "SDXL Turbo"),
        ],
    )
    def test_schedulers_of_distilled_models(self, make_xl_pipe, scheduler, kind):
        name = type(scheduler).__name__
        with pytest.raises(
            ValueError,
            match=rf"scheduler, {name}, is that of {kind}\. .* Use the SDXL model that it was distilled from; if only",
        ):
            self.check(make_xl_pipe, scheduler=scheduler)

    @pytest.mark.parametrize(
        "scheduler",
        [
            EulerDiscreteScheduler(timestep_spacing="trailing"),  # Lightning's, and a good choice for others
            EulerDiscreteScheduler(
                timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True
            ),
            EulerDiscreteScheduler(timestep_type="continuous"),
            diffusers.DDIMScheduler(clip_sample=False),
            diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True),
            diffusers.EulerAncestralDiscreteScheduler(),  # which `schedule` refuses
        ],
    )
    def test_what_a_base_model_may_have_passes(self, make_xl_pipe, scheduler):
        self.check(make_xl_pipe, scheduler=scheduler)

    def test_encoders_of_another_model(self, make_xl_pipe, make_xl_unet, text_encoder):
        with pytest.raises(
            ValueError, match=r"embeddings 32 \+ 24 wide, but the UNet's cross attention takes 64: .*768 \+ "
        ):
            self.check(make_xl_pipe, unet=make_xl_unet(cross_attention_dim=64))
        wide = make_xl_unet(projection_class_embeddings_input_dim=24 + 6 * 8)
        with pytest.raises(
            ValueError, match=r"`text_encoder_2` gives pooled embeddings 20 wide, but the UNet takes 24"
        ):
            self.check(make_xl_pipe, unet=wide)

    def test_tokenizers_of_other_lengths(self, make_xl_pipe, tokenizer_2):
        longer = copy.deepcopy(tokenizer_2)
        longer.model_max_length = 20
        with pytest.raises(ValueError, match="pad to 16 and 20 tokens, which cannot be joined; set both"):
            self.check(make_xl_pipe, tokenizer_2=longer)

    @pytest.mark.parametrize("name", ["original_size", "crops_coords_top_left", "target_size"])
    @pytest.mark.parametrize(
        "value", [64, (64,), (64, 64, 64), (-1, 64), (64, 65505), (64.0, 64), (True, 64), "ab"]
    )
    def test_sizes_that_are_none(self, make_xl_pipe, name, value):
        with pytest.raises(
            ValueError, match=rf"`{name}` must be two whole numbers of pixels, .* from [01] to 65504, got"
        ):
            StableDiffusionXLDenoiser(make_xl_pipe(), **{name: value})


def test_what_the_model_is_made_for(make_xl_pipe, make_xl_unet):
    denoiser = StableDiffusionXLDenoiser(make_xl_pipe(unet=make_xl_unet(sample_size=128)))
    assert (denoiser.own_size, denoiser.cell, denoiser.multiple) == ((1024, 1024), 8, 8)
    assert (denoiser.latent_channels, denoiser.usual_guidance) == (4, 5.0)
