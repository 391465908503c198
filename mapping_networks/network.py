"""One learned picture as a diffusers model: the mapping networks of all steps, and whatever else an edit needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn

from semantic_edit.disk.fitting import (
    KnownModel,
    KnownSchedule,
    check_agrees,
    compared_if_known,
    compared_models,
    compared_schedules,
    compared_sizes,
)
from semantic_edit.disk.models import STABLE_DIFFUSION, check_same_family
from semantic_edit.disk.reading import shortened
from semantic_edit.disk.sizes import Sizes
from semantic_edit.mapping_networks.config import FORMAT_VERSION, check_config, stored_latents
from semantic_edit.mapping_networks.mapping import mapping_forward, parameter_shapes, value_embeds_of
from semantic_edit.mapping_networks.report import LearningReport
from semantic_edit.mapping_networks.storage import StoredModel, check_tensors


class MappingNetwork(StoredModel):
    """What StyleDiffusion learns from one picture; with it the picture can be edited without having the picture.

    Its tensors stay float32 whatever it is cast to: `half()`, `to(dtype)` and `from_pretrained(dtype)` move it between
    devices and do nothing else. A newly constructed network holds zeros until `fill` or `from_pretrained` fills it.

    Args:
        variant: "modulate" (value input = text * scale + shift) or "direct" (value input = the network's output).
        num_text_tokens, text_width: Of the embeddings that the base model's cross-attention reads.
        num_image_tokens, image_width: Of the CLIP vision tokens.
        latent_shape: (channels, height, width) of the picture's latents.
        num_inference_steps: Steps of the schedule; there is one network for each.
        timesteps: The model's timestep at each step, least noisy first.
        schedule_fingerprint: Identifies the schedule.
        prediction_type: "epsilon", "v_prediction" or "sample".
        prompt: The prompt under which the picture was inverted and learned.
        negative_prompt: What guidance steered away from during learning; `None` if no text at all.
        guidance_scale: Guidance during learning.
        scaling_factor: The VAE's.
        model_family: Of the base model: "stable-diffusion" (1.x and 2.x) or "stable-diffusion-xl".
        base_model: Hub id or folder of the base model, or "".
        base_fingerprint: Identifies the base model and, after a "+", the adapters that were active; "" if unknown.
        learning: The settings that it was learned with, by name.
        reconstruction_psnr, reconstruction_ssim: Against the VAE's reconstruction, in dB and in [-1, 1], if known.
        frame: What it was learned from: the size of the whole "picture", (width, height); the "box" that was cut out of
            it, (left, upper, right, lower); the "size" to which that was scaled, (width, height); and the "look" by
            which the picture is recognised. `None` if unknown.
        text_fingerprint: Identifies what both prompts' embeddings told the model; "" if unknown.
        guided_start: Whether values were learned from between the negative prompt's and the text's; see
            `value_embeds_of`.
        sizes: The sizes that conditioned the model besides its prompts, (height, width) or (top, left), by argument
            name; `None` if there were none, or they are unknown.
        digest: Of the config and the tensors; "" in a network that was never saved.
        format_version: Of this config and its tensors.

    Raises:
        ValueError: If an entry is invalid.

    Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.2.
    """

    report: LearningReport | None = None
    """What learning took. It is not saved, so it is `None` in a network that was loaded."""

    @register_to_config
    def __init__(
        self,
        *,
        variant: str,
        num_text_tokens: int,
        text_width: int,
        num_image_tokens: int,
        image_width: int,
        latent_shape: Sequence[int],
        num_inference_steps: int,
        timesteps: Sequence[int],
        schedule_fingerprint: str,
        prediction_type: str,
        prompt: str,
        guidance_scale: float,
        scaling_factor: float,
        negative_prompt: str | None = "",
        model_family: str = STABLE_DIFFUSION.name,
        base_model: str = "",
        base_fingerprint: str = "",
        learning: Mapping[str, object] | None = None,
        reconstruction_psnr: float | None = None,
        reconstruction_ssim: float | None = None,
        frame: Mapping[str, object] | None = None,
        text_fingerprint: str = "",
        guided_start: bool = False,
        sizes: Sizes | None = None,
        digest: str = "",
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        self.register_to_config(learning={} if learning is None else learning)
        check_config(self.config)
        self.shapes = parameter_shapes(variant, num_text_tokens, text_width, num_image_tokens, image_width)
        for name, shape in self.shapes.items():
            values = torch.zeros(num_inference_steps, *shape, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(values))
        tokens = torch.zeros(num_image_tokens, image_width, dtype=torch.float32)
        self.register_buffer("image_tokens", tokens)
        name, shape = stored_latents(self.config)
        self.register_buffer(name, torch.zeros(shape, dtype=torch.float32))
        if guided_start:
            away = torch.zeros(num_text_tokens, text_width, dtype=torch.float32)
            self.register_buffer("negative_embeds", away)

    def extra_repr(self) -> str:
        """What the network was made for, on one line, which `repr` puts into its parentheses."""
        config = self.config
        psnr = config.reconstruction_psnr
        shown = {
            "prompt": config.prompt,
            "model_family": config.model_family,
            "base_model": config.base_model,
            "num_inference_steps": config.num_inference_steps,
            "latent_shape": tuple(config.latent_shape),
            "variant": config.variant,
            "reconstruction_psnr": psnr if psnr is None else round(psnr, 1),
        }
        return ", ".join(f"{name}={shortened(value)}" for name, value in shown.items())

    @property
    def walk(self) -> torch.Tensor | None:
        """The inversion, (levels + 1, channels, height, width), level 0 first; `None` in format version 1."""
        return getattr(self, "trajectory", None)

    @property
    def noisiest(self) -> torch.Tensor:
        """z at the noisiest level, (channels, height, width)."""
        latents: torch.Tensor = getattr(self, stored_latents(self.config)[0])
        return latents if self.walk is None else latents[-1]

    @torch.no_grad()
    def fill(
        self,
        parameters: Mapping[str, torch.Tensor],
        image_tokens: torch.Tensor,
        trajectory: torch.Tensor,
        negative_embeds: torch.Tensor | None = None,
    ) -> MappingNetwork:
        """Copy in what was learned.

        Args:
            parameters: (steps, *shape) for each name of `parameter_shapes`.
            image_tokens: (image tokens, image width).
            trajectory: The inversion, (levels + 1, channels, height, width), level 0 first.
            negative_embeds: (text tokens, text width), with `guided_start`.

        Returns:
            This network.

        Raises:
            ValueError: Naming the tensors that are missing, unexpected or of the wrong shape.
        """
        name, _ = stored_latents(self.config)
        latents = trajectory[-1] if self.walk is None else trajectory
        given = {**parameters, "image_tokens": image_tokens, name: latents}
        if negative_embeds is not None:
            given["negative_embeds"] = negative_embeds
        own = self.state_dict()
        check_tensors(
            missing=own.keys() - given.keys(),
            extra=given.keys() - own.keys(),
            shapes=[(name, given[name].shape, own[name].shape) for name in own.keys() & given.keys()],
        )
        for name, value in own.items():
            value.copy_(given[name])
        return self

    def forward(self, step: int, text_embeds: torch.Tensor) -> torch.Tensor:
        """See `value_embeds`; being `forward`, it runs the hooks that offloading relies on."""
        config = self.config
        if not 0 <= step < config.num_inference_steps:
            raise ValueError(
                f"`step` must lie between 0, the noisiest, and {config.num_inference_steps - 1}, the last that this "
                f"mapping network learned, got {step}."
            )
        if tuple(text_embeds.shape[1:]) != (config.num_text_tokens, config.text_width):
            raise ValueError(
                f"`text_embeds` must have shape (batch, {config.num_text_tokens}, {config.text_width}), with "
                f"which this mapping network was learned, got {tuple(text_embeds.shape)}."
            )
        parameters = {name: getattr(self, name)[step : step + 1] for name in self.shapes}
        mapped = mapping_forward(parameters, self.image_tokens.unsqueeze(0))
        away = self.negative_embeds.unsqueeze(0) if config.guided_start else None
        return value_embeds_of(config.variant, mapped, text_embeds, away, config.guidance_scale)

    def value_embeds(self, step: int, text_embeds: torch.Tensor) -> torch.Tensor:
        """The input of the value projections of every cross-attention layer at a step.

        Args:
            step: 0-based index, 0 the noisiest.
            text_embeds: (batch, text tokens, text width), each row with its own text.

        Returns:
            A tensor of the same shape and dtype, computed in float32.

        Raises:
            ValueError: If there is no such step, or the text has another shape than it was learned with.
        """
        return self(step, text_embeds)

    def check_fits(
        self,
        schedule: KnownSchedule,
        text_shape: tuple[int, int],
        model: KnownModel,
        latent_shape: Sequence[int] | None = None,
    ) -> None:
        """Raise unless the network was learned for a call like this one.

        Args:
            schedule: The call's schedule.
            text_shape: The call's (text tokens, text width).
            model: The call's base model; only what is known of both is compared.
            latent_shape: The call's (channels, height, width), if known.

        Raises:
            ValueError: Listing what differs, with the network's value and the call's; or if the network's tensors are
                missing, of the wrong shape or not finite.
        """
        config = self.config
        check_same_family(
            "mapping_network",
            config.model_family,
            model.family,
            "stylediffusion",
            "learn the picture again",
            config.base_model,
        )
        kept = (config.num_inference_steps, config.prediction_type, config.schedule_fingerprint)
        num_text_tokens, text_width = text_shape
        shape = latent_shape and tuple(latent_shape)
        learned_on = f" on {config.base_model!r}" if config.base_model else ""
        check_agrees(
            "mapping_network",
            [
                *compared_schedules(kept, schedule),
                ("number of text tokens", config.num_text_tokens, num_text_tokens),
                ("text width", config.text_width, text_width),
                *compared_if_known("latent shape", tuple(config.latent_shape), shape),
                *compared_if_known("VAE scaling factor", config.scaling_factor, model.scaling_factor),
                *compared_models("base model", config.base_fingerprint, model.fingerprint),
                *compared_sizes(config.sizes or {}, model.sizes),
            ],
            f"Call with the model and settings that it was learned with{learned_on}, or learn the picture again.",
        )
        self._check_tensors()
        if not all(torch.isfinite(value).all() for value in self.state_dict().values()):
            raise ValueError("The `mapping_network` holds NaN or infinite values; learn the picture again.")

    def _check_tensors(self) -> None:
        config, own = self.config, self.state_dict()
        sizes = (config.num_text_tokens, config.text_width, config.num_image_tokens, config.image_width)
        shapes = parameter_shapes(config.variant, *sizes)
        wanted = {name: (config.num_inference_steps, *shape) for name, shape in shapes.items()}
        wanted |= {"image_tokens": sizes[2:], **dict([stored_latents(config)])}
        if config.guided_start:
            wanted["negative_embeds"] = sizes[:2]
        check_tensors(
            missing=wanted.keys() - own.keys(),
            extra=own.keys() - wanted.keys(),
            shapes=[(name, own[name].shape, wanted[name]) for name in own.keys() & wanted.keys()],
        )
        if any(value.is_meta for value in own.values()):
            raise ValueError(
                'The `mapping_network` has no values because it is on the device "meta". Load it again, or learn the '
                "picture again."
            )
