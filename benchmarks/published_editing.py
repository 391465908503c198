"""StyleDiffusion's editing as the authors' demo computes it, written plainly, to be timed against ours.

What is compared stays as it is there: for every edit, the image is encoded and inverted again, and the VAE's
reconstruction and the source's branch are computed again; each step evaluates the rows [source, target] without the
text and then with it, in two calls of two rows; attention maps are materialised, and in the conditional branch those of
at most 32 x 32 positions are kept and summed over the steps; the CLIP image encoder runs for each row inside every
cross-attention call of that branch.

Four things are as in our code, so that the images can be compared: words are aligned by our tokens; self-attention maps
are swapped up to half the latent's side (there, up to 32 x 32 of 64 x 64, which is the same); cross-attention maps are
swapped for `floor(tau_c * N)` of N steps (there, `int(tau_c * (N + 1))`, which is the same for tenths of 30 steps); and
the image is prepared for the encoder once. LocalBlend and reweighting, which the demo also switches on, are left out in
both. Ours takes networks `without_inversion` for it, because there the source is not put back on its inversion.

Source: github.com/sen-mao/StyleDiffusion, `text2image_ldm_stable` and `eval_init` in stylediffusion.py,
`diffusion_step` in ptp_utils_v.py; rewritten from scratch.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from benchmarks.explicit_attention import swap_maps
from benchmarks.published_learning import KEPT_QUERIES, PlainAttnProcessor, ddim
from semantic_edit.attention_processors.borrowing import BorrowedNetwork
from semantic_edit.attention_processors.install import installed
from semantic_edit.attention_processors.swaps import CrossSwap, SelfSwap
from semantic_edit.denoisers import denoiser_of
from semantic_edit.evaluation.method import latents_of
from semantic_edit.mapping_networks import MappingNetwork
from semantic_edit.mapping_networks.mapping import mapping_forward, value_embeds_of
from semantic_edit.pipelines import RestyleSettings, read_prompt_rows


def without_inversion(network: MappingNetwork) -> MappingNetwork:
    """The same in format version 1, whose source is not put back on its inversion, as in the published loop."""
    config = {name: value for name, value in network.config.items() if not name.startswith("_")}
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    image_tokens, trajectory = tensors.pop("image_tokens"), tensors.pop("trajectory")
    away = tensors.pop("negative_embeds", None)
    return MappingNetwork(**{**config, "format_version": 1}).fill(tensors, image_tokens, trajectory, away)


@torch.no_grad()
def edit_as_published(
    pipe: Any,
    network: MappingNetwork,
    image: Image.Image,
    prompt: str,
    settings: RestyleSettings | None = None,
) -> torch.Tensor:
    """The reconstruction and the edit, pixels (2, 3, height, width) in [0, 1]."""
    editor = _Editor(pipe, network, image, prompt, settings or RestyleSettings())
    with (
        BorrowedNetwork(pipe.unet) as unet,
        installed(unet, lambda layer, present: PlainAttnProcessor(editor)),
    ):
        noisy = editor.inverted(image)
        latents = editor.edited(noisy)
    return editor.denoiser.decode(latents)


class _Editor:
    """One edit, with what every attention layer needs from it.

    step: Counted from the noisiest; `None` while inverting.
    conditional: Whether the rows are evaluated with their text.
    store: The maps of the conditional branch, summed over the steps; `seen` are those of the current step.
    """

    def __init__(
        self,
        pipe: Any,
        network: MappingNetwork,
        image: Image.Image,
        prompt: str,
        settings: RestyleSettings,
    ) -> None:
        config = network.config
        self.pipe, self.network, self.settings = pipe, network, settings
        self.denoiser = denoiser_of(pipe)
        self.guidance_scale, self.steps = config.guidance_scale, config.num_inference_steps
        self.schedule = self.denoiser.schedule(self.steps)
        prompts, negatives = [config.prompt, prompt], [config.negative_prompt] * 2
        tokens = [self.denoiser.tokens(text) for text in prompts]
        self.swaps = read_prompt_rows(tokens, settings).to(pipe.device).swaps
        self.text, self.negative = pipe.encode_prompt(
            prompts, pipe.device, 1, True, negative_prompt=negatives
        )
        pixels = pipe.feature_extractor(images=[image], return_tensors="pt").pixel_values
        self.pixels = pixels.to(pipe.device, pipe.image_encoder.dtype)
        self.self_queries = (-(-config.latent_shape[1] // 2)) * (-(-config.latent_shape[2] // 2))
        self.step: int | None = None
        self.conditional = True
        self.store: list[torch.Tensor] = []
        self.seen: list[torch.Tensor] = []

    def inverted(self, image: Image.Image) -> torch.Tensor:
        """The image's noisiest latents, inverted under its own prompt without guidance."""
        latents = latents_of(self.denoiser, [image])
        self.denoiser.decode(latents)  # the demo also shows the VAE's reconstruction
        for level in range(1, self.steps + 1):
            noise_pred = self._predicted(latents, level, self.text[:1])
            latents = ddim(latents, noise_pred, self.schedule, level - 1, level)
        return latents

    def edited(self, latents: torch.Tensor) -> torch.Tensor:
        """The edited latents of the source and the target, (2, channels, height, width)."""
        latents = latents.expand(2, -1, -1, -1)
        for step in range(self.steps):
            level, self.step = self.steps - step, step
            self.conditional = False
            unconditional = self._predicted(latents, level, self.negative)
            self.conditional = True
            conditional = self._predicted(latents, level, self.text)
            guided = unconditional + self.guidance_scale * (conditional - unconditional)
            latents = ddim(latents, guided, self.schedule, level, level - 1)
            if self.store:
                for total, maps in zip(self.store, self.seen, strict=True):
                    total += maps
            else:
                self.store = self.seen
            self.seen = []
        return latents

    def _predicted(self, latents: torch.Tensor, level: int, text: torch.Tensor) -> torch.Tensor:
        unet = self.pipe.unet
        timestep = self.schedule.timestep(level)
        return unet(latents.to(unet.dtype), timestep, encoder_hidden_states=text).sample.float()

    def value_input(self, text: torch.Tensor) -> torch.Tensor:
        """The input of the value projections for the rows of `text`."""
        if self.step is None or not self.conditional:
            return text
        learns = 2 if self.step < self.settings.tau_v * self.steps else 1
        rows = [self._learned(self.step, row) if index < learns else row for index, row in enumerate(text)]
        return torch.stack(rows)

    def _learned(self, step: int, text: torch.Tensor) -> torch.Tensor:
        encoder = self.pipe.image_encoder
        hidden = encoder(self.pixels).last_hidden_state
        tokens = getattr(encoder, "vision_model", encoder).post_layernorm(hidden).float()
        parameters = {name: getattr(self.network, name)[step : step + 1] for name in self.network.shapes}
        mapped = mapping_forward(parameters, tokens)
        config = self.network.config
        away = self.network.negative_embeds[None] if config.guided_start else None
        return value_embeds_of(config.variant, mapped, text[None], away, config.guidance_scale)[0]

    def see(self, maps: torch.Tensor, is_cross: bool) -> None:
        """Store the maps, (rows, heads, queries, keys), and change them in place as Prompt-to-Prompt does."""
        if self.step is None:
            return
        if self.conditional and maps.shape[2] <= KEPT_QUERIES:
            self.seen.append(maps)
        own: CrossSwap | SelfSwap | None = None
        if is_cross and self.conditional:
            own = self.swaps.cross_swap(self.step, self.steps, 0, (1,))
        elif not is_cross and maps.shape[2] <= self.self_queries:
            fraction = self.settings.tau_s if self.conditional else self.settings.tau_u
            own = SelfSwap(0, (1,)) if self.step < int(fraction * self.steps) else None
        swap_maps(maps, () if own is None else (own,))
