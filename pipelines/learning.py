"""How a UNet learns a picture: what StyleDiffusion's learning asks for, made of a pipeline's components."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, frozen, recomputed_blocks
from semantic_edit.attention_processors.control import AttentionControl, AttentionPlan, controlled_attention
from semantic_edit.attention_processors.layers import nearest_queries
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.prefix import Prefix, remembered_prefix
from semantic_edit.editing.finite import FiniteWatch, at_step, check_finite
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.inversion import ddim_inverse_step, ddim_step
from semantic_edit.editing.schedule import Schedule
from semantic_edit.editing.similarity import psnr, ssim
from semantic_edit.editing.stitching import eight_bits
from semantic_edit.mapping_networks import (
    LearningInputs,
    LearningOptions,
    LearningReport,
    LearningResult,
    LearningSettings,
    MappingNetwork,
    StepReport,
    learn_mappings,
)
from semantic_edit.pipelines.graphs import differentiable_graph, records_graphs
from semantic_edit.pipelines.identity import network_identity, text_look
from semantic_edit.pipelines.pictures import Pictures
from semantic_edit.pipelines.progress import named_bar
from semantic_edit.pipelines.stages import decode_pixels

Maps = list[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned, for one batch of pictures of one size.

    prompts: One for each picture.
    clean: Latents, (pictures, channels, height, width).
    text_embeds, negative_embeds: (pictures, tokens, width).
    image_tokens: (pictures, image tokens, image width).
    queries: Positions of the layers whose maps are kept close; see `nearest_queries`.
    frames: What is learned of each picture, or of the only one.
    """

    schedule: Schedule
    prompts: tuple[str, ...]
    negative_prompt: str
    clean: torch.Tensor
    text_embeds: torch.Tensor
    negative_embeds: torch.Tensor
    image_tokens: torch.Tensor
    variant: str
    guidance_scale: float
    settings: LearningSettings
    queries: int
    gradient_checkpointing: bool = False
    frames: tuple[Frame, ...] = ()


@torch.no_grad()
def encode_image_tokens(pipe: Any, pictures: Pictures) -> torch.Tensor:
    """All vision tokens after the tower's last normalisation, (pictures, image tokens, image width) in float32.

    transformers normalises the class token alone; StyleDiffusion takes them all.

    Raises:
        FloatingPointError: If the encoder gives NaN or infinite values.
    """
    assert pictures.planes is not None  # `learn_mapping` takes no bare latents
    pixels = eight_bits(pictures.planes).permute(0, 2, 3, 1).cpu().numpy()
    images = [PIL.Image.fromarray(np.ascontiguousarray(one)) for one in pixels]
    encoder = pipe.image_encoder
    inputs = pipe.feature_extractor(images=images, return_tensors="pt").pixel_values
    hidden = encoder(inputs.to(pipe._execution_device, encoder.dtype)).last_hidden_state
    tower = getattr(encoder, "vision_model", encoder)
    tokens = tower.post_layernorm(hidden).float()
    check_finite("the image encoder", tokens)
    return tokens


def attention_resolution(pipe: Any, clean: torch.Tensor, side: int | None) -> int:
    """The number of positions of the layers whose maps the attention loss compares."""
    height, width = clean.shape[-2:]
    return math.prod(nearest_queries(pipe.unet, height, width, side))


def learn_pictures(
    pipe: Any, lesson: Lesson, checkpoint: Any = None, cross_attention_kwargs: dict[str, Any] | None = None
) -> tuple[LearningResult, torch.Tensor]:
    """Invert the pictures and learn their networks.

    Returns:
        What was learned, and the noisiest latents, (pictures, channels, height, width).
    """
    with (
        lock_of(pipe.unet),
        BorrowedNetwork(pipe.unet) as unet,
        frozen(unet),
        recomputed_blocks(unet) if lesson.gradient_checkpointing else nullcontext(),
        controlled_attention(unet) as control,
        remembered_prefix(unet) as prefix,
    ):
        branch = _ConditionalBranch(unet, lesson, control, prefix, cross_attention_kwargs)
        trajectory, branch.maps = _inverted(pipe, lesson, branch)
        levels = lesson.schedule.num_inference_steps
        with named_bar(pipe, "learn", levels) as progress_bar, torch.enable_grad():

            def advance(report: Any) -> None:
                progress_bar.set_postfix(loss=f"{max(report.latent_after):.1e}")
                progress_bar.update()

            result = learn_mappings(
                branch,
                LearningInputs(trajectory, lesson.text_embeds.float(), lesson.image_tokens),
                LearningOptions(lesson.variant, lesson.guidance_scale, lesson.settings),
                checkpoint,
                advance,
            )
    return result, trajectory[-1]


class _ConditionalBranch:
    """The UNet as `learn_mappings` wants it: differentiable in the value embeddings, with its maps.

    graphs: In a block of `cuda_graphs` one for each number of pictures, of forward and backward passes.
    maps: Those of each level of the inversion from 1 on, once there is one.
    """

    def __init__(
        self,
        unet: BorrowedNetwork,
        lesson: Lesson,
        control: AttentionControl,
        prefix: Prefix,
        kwargs: dict[str, Any] | None,
    ) -> None:
        self.unet, self.lesson, self.control, self.kwargs = unet, lesson, control, kwargs
        self.prefix = prefix
        self.dtype = unet.network.dtype
        self.kept_queries = lesson.queries if lesson.settings.attention_weight else None
        recomputes = unet.network.is_gradient_checkpointing
        self.replays = records_graphs(unet.network) and lesson.clean.is_cuda and not recomputes
        self.graphs: dict[int, Callable[..., tuple[torch.Tensor, ...]]] = {}
        self.maps: list[Maps] = []

    @property
    def identity(self) -> dict[str, str]:
        return {
            "model": network_identity(self.unet.network, self.kwargs),
            "schedule": self.lesson.schedule.fingerprint,
            "negative_prompt": self.lesson.negative_prompt,
            "queries": str(self.lesson.queries),
        }

    def evaluate(
        self, latents: torch.Tensor, level: int, value_embeds: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, Maps]:
        if self.replays:
            return self._replayed(latents, level, self.lesson.text_embeds[rows], value_embeds)
        self.prefix.begin(latents, torch.tensor(level), rows)  # within a step only the values change
        noise_pred, *maps = self._with_maps(
            latents, self._timestep(level), self.lesson.text_embeds[rows], value_embeds
        )
        return noise_pred, maps

    def evaluate_unconditional(self, latents: torch.Tensor, level: int) -> torch.Tensor:
        negative = self.lesson.negative_embeds
        if self.replays:
            return self._replayed(latents, level, negative, negative.float())[0].clone()
        self.control.plan = AttentionPlan()
        return self._predict(latents, self._timestep(level), negative)

    def step_back(self, latents: torch.Tensor, noise_pred: torch.Tensor, level: int) -> torch.Tensor:
        return ddim_step(latents, noise_pred, self.lesson.schedule, level)

    def source_maps(self, level: int) -> Maps:
        return self.maps[level - 1]

    def evaluate_plain(self, latents: torch.Tensor, level: int) -> tuple[torch.Tensor, Maps]:
        """With the text as it is."""
        text = self.lesson.text_embeds
        if self.replays:
            noise_pred, maps = self._replayed(latents, level, text, text.float())
            return noise_pred.clone(), [layer.clone() for layer in maps]
        noise_pred, *maps = self._with_maps(latents, self._timestep(level), text, None)
        return noise_pred, maps

    def _replayed(
        self, latents: torch.Tensor, level: int, text_embeds: torch.Tensor, value_embeds: torch.Tensor
    ) -> tuple[torch.Tensor, Maps]:
        """What `_with_maps` gives, until the next call. Where nothing was learned, values are made from the text."""
        inputs = (latents, self._timestep(level), text_embeds, value_embeds)
        if len(latents) not in self.graphs:
            self.graphs[len(latents)] = differentiable_graph(self._with_maps, *inputs)
        noise_pred, *maps = self.graphs[len(latents)](*inputs)
        return noise_pred, maps

    def _with_maps(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text_embeds: torch.Tensor,
        value_embeds: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        """The prediction, then the maps."""
        plan = AttentionPlan(value_embeds, kept_queries=self.kept_queries)
        self.control.plan = plan
        return self._predict(latents, timestep, text_embeds), *plan.maps

    def _timestep(self, level: int) -> torch.Tensor:
        return torch.full((), self.lesson.schedule.timestep(level), device=self.lesson.clean.device)

    def _predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, text_embeds: torch.Tensor
    ) -> torch.Tensor:
        return self.unet(
            latents.to(self.dtype),
            timestep,
            encoder_hidden_states=text_embeds.to(self.dtype),
            cross_attention_kwargs=self.kwargs,
            return_dict=False,
        )[0].float()


@torch.no_grad()
def _inverted(pipe: Any, lesson: Lesson, branch: _ConditionalBranch) -> tuple[torch.Tensor, list[Maps]]:
    """The inversion under the source prompt without guidance, and each of its evaluations' maps.

    The evaluation that leads up to a level sees the level below at this level's timestep, so its maps are what the
    attention at that timestep looked like on the way up: they are what learning compares with at the same timestep. The
    published code takes those of the same latent at the timestep that is one noisier; ours are nearer on average, not
    at every step.

    Returns:
        Latents, (levels + 1, pictures, channels, height, width), level 0 first; the maps of each level from 1 on.
    """
    latents, levels = lesson.clean.float(), lesson.schedule.num_inference_steps
    watch, kept, maps = FiniteWatch(), [latents], []
    with named_bar(pipe, "invert", levels) as progress_bar:
        for level in range(1, levels + 1):
            noise_pred, seen = branch.evaluate_plain(latents, level)
            latents = ddim_inverse_step(latents, noise_pred, lesson.schedule, level)
            watch.see(at_step("the inversion", level - 1, lesson.schedule.timestep(level)), latents)
            kept.append(latents)
            maps.append(seen)
            progress_bar.update()
    watch.check()
    return torch.stack(kept), maps


@torch.no_grad()
def learned_network(
    pipe: Any,
    lesson: Lesson,
    result: LearningResult,
    noisiest: torch.Tensor,
    index: int,
    identity: str,
) -> MappingNetwork:
    """One picture's [`MappingNetwork`], with its reconstruction measured against the VAE's own.

    Args:
        identity: From `network_identity`.
    """
    row = slice(index, index + 1)
    best, reached = (decode_pixels(pipe, latents[row]) for latents in (lesson.clean, result.latents))
    large_enough = min(best.shape[-2:]) >= 11
    network = MappingNetwork(
        variant=lesson.variant,
        num_text_tokens=lesson.text_embeds.shape[1],
        text_width=lesson.text_embeds.shape[2],
        num_image_tokens=lesson.image_tokens.shape[1],
        image_width=lesson.image_tokens.shape[2],
        latent_shape=tuple(lesson.clean.shape[1:]),
        num_inference_steps=lesson.schedule.num_inference_steps,
        timesteps=lesson.schedule.timesteps,
        schedule_fingerprint=lesson.schedule.fingerprint,
        prediction_type=lesson.schedule.prediction_type,
        prompt=lesson.prompts[index],
        negative_prompt=lesson.negative_prompt,
        guidance_scale=lesson.guidance_scale,
        scaling_factor=pipe.vae.config.scaling_factor,
        base_model=str(pipe.config.get("_name_or_path") or ""),
        base_fingerprint=identity,
        learning=asdict(lesson.settings),
        reconstruction_psnr=min(psnr(best, reached).item(), 120.0),
        reconstruction_ssim=ssim(best, reached).item() if large_enough else None,
        text_fingerprint=text_look(lesson.text_embeds[index], lesson.negative_embeds[index]),
        frame=asdict(lesson.frames[index if len(lesson.frames) > 1 else 0]) if lesson.frames else None,
    )
    network.fill(result.picture(index), lesson.image_tokens[index], noisiest[index])
    watch = FiniteWatch()
    for name, values in network.state_dict().items():
        watch.see(f"the learning, in what it leaves as {name}", values)
    watch.check()
    network.report = _own_report(result.report, index)
    return network.to(noisiest.device)


def _own_report(report: LearningReport, index: int) -> LearningReport:
    """One picture's part of the report; seconds are those of all pictures together."""

    def own(step: StepReport) -> StepReport:
        parts: dict[str, Any] = {
            name: value[index : index + 1] for name, value in vars(step).items() if isinstance(value, tuple)
        }
        return replace(step, **parts)

    steps = tuple(own(step) for step in report.steps)
    return replace(report, steps=steps, converged=report.converged[index : index + 1])
