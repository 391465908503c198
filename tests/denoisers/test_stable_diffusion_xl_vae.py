import copy
import threading

import pytest
import torch
from accelerate import cpu_offload
from diffusers import StableDiffusionXLImg2ImgPipeline
from diffusers.models import modeling_utils
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from semantic_edit.denoisers import StableDiffusionXLDenoiser


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PIXELS = seeded(1, 3, 48, 64).sigmoid()
STATISTICS = {"latents_mean": [-1.6, 2.2, -0.2, 1.5], "latents_std": [8.4, 5.9, 5.5, 4.0]}


class TestTheVAE:
    @pytest.fixture
    def make(self, make_xl_pipe, vae):
        """Builds a denoiser with its own VAE in a dtype, and with changes to its config."""

        def denoiser(dtype=torch.float32, **config):
            own = copy.deepcopy(vae).to(dtype)
            own.register_to_config(**config)
            return StableDiffusionXLDenoiser(make_xl_pipe(vae=own))

        return denoiser

    def types_in(self, vae, run):
        """The dtype in which the VAE computes during a call, and its dtype afterwards."""
        seen = []
        handles = [
            module.register_forward_pre_hook(lambda module, args: seen.append((args[0].dtype, vae.dtype)))
            for module in (vae.encoder, vae.decoder)
        ]
        try:
            result = run()
        finally:
            for handle in handles:
                handle.remove()
        return result, {dtype for pair in seen for dtype in pair}, {one.dtype for one in vae.parameters()}

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_a_forced_upcast_is_float32_and_then_what_it_was(self, make, dtype):
        denoiser = make(dtype, force_upcast=True)
        whole = make(dtype, force_upcast=False)
        whole.pipe.vae.float()  # the same weights, rounded to half
        latents, during, after = self.types_in(denoiser.pipe.vae, lambda: denoiser.encode(PIXELS))
        assert (during, after) == ({torch.float32}, {dtype})
        assert torch.equal(latents, whole.encode(PIXELS))
        pixels, during, after = self.types_in(denoiser.pipe.vae, lambda: denoiser.decode(latents))
        assert (during, after) == ({torch.float32}, {dtype})
        assert torch.equal(pixels, whole.decode(latents))

    def test_an_upcast_says_nothing(self, make, monkeypatch):
        """diffusers' own `to` warns about modules to be kept in float32, even if there are none."""
        denoiser, told = make(torch.float16, force_upcast=True), []
        monkeypatch.setattr(modeling_utils.logger, "warning", told.append)
        denoiser.decode(denoiser.encode(PIXELS))
        assert not told

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_a_vae_made_for_half_precision_stays_in_it(self, make, dtype):
        denoiser = make(dtype, force_upcast=False)
        latents, during, _ = self.types_in(denoiser.pipe.vae, lambda: denoiser.encode(PIXELS))
        assert during == {dtype}
        _, during, _ = self.types_in(denoiser.pipe.vae, lambda: denoiser.decode(latents))
        assert during == {dtype}
        assert latents.dtype == torch.float32

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    @pytest.mark.parametrize("where", ["encoder", "decoder"])
    def test_it_is_put_back_after_an_error(self, make, monkeypatch, error, where):
        denoiser = make(torch.float16, force_upcast=True)

        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(getattr(denoiser.pipe.vae, where), "forward", fail)
        run = {
            "encoder": lambda: denoiser.encode(PIXELS),
            "decoder": lambda: denoiser.decode(seeded(1, 4, 6, 8)),
        }
        with pytest.raises(error):
            run[where]()
        assert {one.dtype for one in denoiser.pipe.vae.parameters()} == {torch.float16}

    def test_it_is_put_back_where_it_is_offloaded(self, make):
        denoiser = make(torch.float16, force_upcast=True)
        expected = denoiser.decode(seeded(1, 4, 6, 8))
        cpu_offload(denoiser.pipe.vae, torch.device("cpu"))
        latents, _, after = self.types_in(denoiser.pipe.vae, lambda: denoiser.decode(seeded(1, 4, 6, 8)))
        torch.testing.assert_close(latents, expected)
        assert after == {torch.float16}

    def test_threads_upcast_one_after_the_other(self, make, monkeypatch):
        denoiser = make(torch.float16, force_upcast=True)
        latents = seeded(1, 4, 6, 8)
        expected, decoder, inside, results = denoiser.decode(latents), denoiser.pipe.vae.decoder, [], []
        forward = decoder.forward

        def slow(*args, **kwargs):
            inside.append(threading.get_ident())
            threading.Event().wait(0.05)
            assert inside[-1] == threading.get_ident()
            return forward(*args, **kwargs)

        monkeypatch.setattr(decoder, "forward", slow)
        threads = [
            threading.Thread(target=lambda: results.append(denoiser.decode(latents))) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(results) == 3
        assert all(torch.equal(one, expected) for one in results)
        assert denoiser.pipe.vae.dtype == torch.float16

    @pytest.mark.parametrize("config", [{}, STATISTICS, {**STATISTICS, "latents_std": None}])
    def test_latents_are_scaled_as_diffusers_scales_them(self, make, monkeypatch, config):
        denoiser = make(scaling_factor=0.5, **config)
        pipe, pixels = denoiser.pipe, torch.cat([PIXELS, 1 - PIXELS])
        image_pipe = StableDiffusionXLImg2ImgPipeline(**pipe.components)
        # ours is the posterior's mode, theirs drawn from it
        monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
        theirs = image_pipe.prepare_latents(
            2 * pixels - 1, None, 2, 1, torch.float32, torch.device("cpu"), add_noise=False
        )
        ours = denoiser.encode(pixels)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        images = pipe(
            ["a mug", "a pear"],
            height=48,
            width=64,
            num_inference_steps=1,
            output_type="pt",
            callback_on_step_end=lambda *args: {"latents": theirs},
        ).images
        torch.testing.assert_close(denoiser.decode(ours), images, atol=1e-5, rtol=1e-5)
        is_plain = torch.allclose(ours, make(scaling_factor=0.5).encode(pixels))
        assert is_plain == (config.get("latents_std") is None)

    @pytest.mark.parametrize("statistics", [{}, STATISTICS])
    def test_encoding_and_decoding_scale_there_and_back(self, make, statistics):
        denoiser = make(**statistics)
        latents = seeded(2, 4, 6, 8)
        back = denoiser._normalised(denoiser._denormalised(latents))
        torch.testing.assert_close(back, latents)

    @pytest.mark.parametrize("where", ["encoder", "decoder"])
    @pytest.mark.parametrize(
        ("dtype", "force_upcast"), [(torch.float16, False), (torch.float16, True), (None, False)]
    )
    def test_an_overflow_says_what_helps(self, make, monkeypatch, where, dtype, force_upcast):
        denoiser = make(dtype or torch.float32, force_upcast=force_upcast)
        vae = denoiser.pipe.vae
        part, forward = getattr(vae, where), getattr(vae, where).forward
        monkeypatch.setattr(part, "forward", lambda *args, **kwargs: forward(*args, **kwargs) * torch.inf)
        run = {
            "encoder": lambda: denoiser.encode(PIXELS),
            "decoder": lambda: denoiser.decode(seeded(1, 4, 6, 8)),
        }
        with pytest.raises(FloatingPointError, match=f"came from the VAE's {where}") as caught:
            run[where]()
        hint = r"register_to_config(force_upcast=True)` lets it compute in float32; or load one that was made"
        assert (hint in str(caught.value)) == (dtype == torch.float16 and not force_upcast)
