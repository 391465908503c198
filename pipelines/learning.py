"""How a UNet learns a picture: what StyleDiffusion's learning needs, built from a pipeline's components."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import PIL.Image
import torch

from semantic_edit.attention_processors.borrowing import BorrowedNetwork, frozen, recomputed_blocks
from semantic_edit.attention_processors.control import AttentionControl, AttentionPlan, controlled_attention
from semantic_edit.attention_processors.locks import lock_of
from semantic_edit.attention_processors.prefix import Prefix, remembered_prefix
from semantic_edit.denoisers.identity import text_look
from semantic_edit.denoisers.prompts import Prompt
from semantic_edit.denoisers.unet import UNetDenoiser
from semantic_edit.editing.conditioning import Conditioning
from semantic_edit.editing.finite import FiniteWatch, at_step, check_finite
from semantic_edit.editing.frames import Frame
from semantic_edit.editing.inversion import ddim_inverse_step, ddim_step
from semantic_edit.editing.similarity import batch_psnr, batch_ssim
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
from semantic_edit.pipelines.images import Images
from semantic_edit.pipelines.stages import Session

Maps = list[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is to be learned, for one batch of pictures of one size.

    prompts: The prompts of the pictures, one for each or one for all, and the negative prompt.
    clean: Latents, (pictures, channels, height, width).
    given, negative: The prompts embedded, one for each picture.
    image_tokens: (pictures, image tokens, image width).
    queries: Number of positions of the layers whose maps are kept close to the source's; see `nearest_queries`.
    frames: The part of each picture, or of the only one, that is learned.
    base_model: The model's name, or "".
    """

    prompts: tuple[Prompt, Prompt]
    clean: torch.Tensor
    given: Conditioning
    negative: Conditioning
    image_tokens: torch.Tensor
    variant: str
    guidance_scale: float
    settings: LearningSettings
    queries: int
    gradient_checkpointing: bool = False
    frames: tuple[Frame, ...] = ()
    base_model: str = ""

    @property
    def start(self) -> torch.Tensor | None:
        """The negative prompt's embeddings, if values are learned from between them and the text's."""
        starts_there = self.variant == "modulate" and self.settings.start == "guidance"
        return self.negative.prompt_embeds.float() if starts_there else None

    def prompt(self, index: int) -> str:
        """The prompt of one picture."""
        texts = self.prompts[0].texts or ()
        return texts[index if len(texts) > 1 else 0]

    @property
    def negative_prompt(self) -> str | None:
        """The negative prompt of all pictures; `None` if it is no text at all."""
        (text,) = self.prompts[1].texts or ()
        return None if self.prompts[1].is_absent else text


@torch.no_grad()
def encode_image_tokens(pipe: Any, images: Images) -> torch.Tensor:
    """All vision tokens after the tower's last normalisation, (pictures, image tokens, image width) in float32.

    transformers normalises only the class token; StyleDiffusion uses all tokens normalised.

    Args:
        pipe: A pipeline with an image encoder and its feature extractor.
        images: In pixels.

    Raises:
        FloatingPointError: If the encoder gives NaN or infinite values.
    """
    assert images.planes is not None  # `learn_mapping` refuses bare latents
    pixels = eight_bits(images.planes).permute(0, 2, 3, 1).cpu().numpy()
    inputs = [PIL.Image.fromarray(np.ascontiguousarray(one)) for one in pixels]
    encoder = pipe.image_encoder
    features = pipe.feature_extractor(images=inputs, return_tensors="pt").pixel_values
    hidden = encoder(features.to(pipe._execution_device, encoder.dtype)).last_hidden_state
    tower = getattr(encoder, "vision_model", encoder)
    tokens = tower.post_layernorm(hidden).float()
    check_finite("the image encoder", tokens)
    return tokens


def attention_resolution(denoiser: UNetDenoiser, clean: torch.Tensor, side: int | None) -> int:
    """The number of positions of the layers whose maps the attention loss compares."""
    height, width = clean.shape[-2:]
    return math.prod(denoiser.attention_size(height, width, side))


@dataclass(frozen=True, eq=False)
class Learned:
    """The outcome of a lesson.

    trajectory: The inversion, (levels + 1, pictures, channels, height, width), level 0 first.
    identity: Which model it was computed with; see `network_identity`.
    """

    result: LearningResult
    trajectory: torch.Tensor
    identity: str


def learn_images(session: Session[UNetDenoiser], lesson: Lesson, checkpoint: Any = None) -> Learned:
    """Invert the pictures and learn their networks.

    Args:
        session: Of the call.
        lesson: What to learn.
        checkpoint: A folder to continue from after an interruption, or `None`.
    """
    denoiser, schedule = session.denoiser, session.schedule
    with (
        lock_of(denoiser.unet),
        BorrowedNetwork(denoiser.unet) as unet,
        frozen(unet),
        recomputed_blocks(unet) if lesson.gradient_checkpointing else nullcontext(),
        controlled_attention(unet) as control,
        remembered_prefix(unet) as prefix,
    ):
        branch = _ConditionalBranch(session, lesson, unet, control, prefix)
        trajectory, branch.maps = _inverted(session, lesson, branch)
        with session.bar("learn", schedule.num_inference_steps) as progress_bar, torch.enable_grad():

            def advance(report: Any) -> None:
                progress_bar.set_postfix(loss=f"{max(report.latent_after):.1e}")
                progress_bar.update()

            result = learn_mappings(
                branch,
                LearningInputs(
                    trajectory, lesson.given.prompt_embeds.float(), lesson.image_tokens, lesson.start
                ),
                LearningOptions(lesson.variant, lesson.guidance_scale, lesson.settings),
                checkpoint,
                advance,
            )
    return Learned(result, trajectory, branch.identity["model"])


class _ConditionalBranch:
    """The UNet in the form that `learn_mappings` needs: differentiable with respect to the value embeddings, with its
    maps.

    graphs: In a block of `cuda_graphs`, the forward and backward graphs for each number of pictures.
    maps: The maps of each level of the inversion from 1 on, once it has been made.
    """

    def __init__(
        self,
        session: Session[UNetDenoiser],
        lesson: Lesson,
        unet: BorrowedNetwork,
        control: AttentionControl,
        prefix: Prefix,
    ) -> None:
        self.denoiser, self.schedule = session.denoiser.through(unet), session.schedule
        self.lesson, self.control, self.prefix = lesson, control, prefix
        dtype = unet.network.dtype
        self.given, self.negative = lesson.given.to(dtype), lesson.negative.to(dtype)
        self.kept_queries = lesson.queries if lesson.settings.attention_weight else None
        recomputes = unet.network.is_gradient_checkpointing
        self.replays = records_graphs(unet.network) and lesson.clean.is_cuda and not recomputes
        self.graphs: dict[int, Callable[..., tuple[torch.Tensor, ...]]] = {}
        self.maps: list[Maps] = []

    @cached_property
    def identity(self) -> dict[str, str]:
        told = {
            "model": self.denoiser.identity(),
            "schedule": self.schedule.fingerprint,
            "negative_prompt": self.lesson.negative_prompt,
            "queries": str(self.lesson.queries),
        }
        return {name: value for name, value in told.items() if value is not None}

    def evaluate(
        self, latents: torch.Tensor, level: int, value_embeds: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, Maps]:
        given = self.given.rows(rows)
        if self.replays:
            return self._replayed(latents, level, given, value_embeds)
        self.prefix.begin(latents, torch.tensor(level), rows)  # only the values change within a step
        noise_pred, *maps = self._with_maps(latents, self._timestep(level), given, value_embeds)
        return noise_pred, maps

    def evaluate_unconditional(self, latents: torch.Tensor, level: int) -> torch.Tensor:
        if self.replays:
            values = self.lesson.negative.prompt_embeds.float()
            return self._replayed(latents, level, self.negative, values)[0].clone()
        self.control.plan = AttentionPlan()
        return self.denoiser.predict(latents, self._timestep(level), self.negative)  # type: ignore[arg-type]

    def step_back(self, latents: torch.Tensor, noise_pred: torch.Tensor, level: int) -> torch.Tensor:
        return ddim_step(latents, noise_pred, self.schedule, level)

    def source_maps(self, level: int) -> Maps:
        return self.maps[level - 1]

    def evaluate_plain(self, latents: torch.Tensor, level: int) -> tuple[torch.Tensor, Maps]:
        """Evaluate with the text's own values."""
        if self.replays:
            values = self.lesson.given.prompt_embeds.float()
            noise_pred, maps = self._replayed(latents, level, self.given, values)
            return noise_pred.clone(), [layer.clone() for layer in maps]
        noise_pred, *maps = self._with_maps(latents, self._timestep(level), self.given, None)
        return noise_pred, maps

    def _replayed(
        self, latents: torch.Tensor, level: int, given: Conditioning, value_embeds: torch.Tensor
    ) -> tuple[torch.Tensor, Maps]:
        """The same as `_with_maps`, valid until the next call. Unlearned values are computed from the text."""
        names = tuple(given.tensors)

        def run(
            latents: torch.Tensor, timestep: torch.Tensor, *others: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            *told, values = others
            return self._with_maps(
                latents, timestep, Conditioning(dict(zip(names, told, strict=True))), values
            )

        inputs = (latents, self._timestep(level), *given.tensors.values(), value_embeds)
        if len(latents) not in self.graphs:
            self.graphs[len(latents)] = differentiable_graph(run, *inputs)
        noise_pred, *maps = self.graphs[len(latents)](*inputs)
        return noise_pred, maps

    def _with_maps(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        given: Conditioning,
        value_embeds: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        """The prediction, followed by the maps."""
        plan = AttentionPlan(value_embeds, kept_queries=self.kept_queries)
        self.control.plan = plan
        return self.denoiser.predict(latents, timestep, given), *plan.maps  # type: ignore[arg-type]

    def _timestep(self, level: int) -> torch.Tensor:
        return torch.full((), self.schedule.timestep(level), device=self.lesson.clean.device)


@torch.no_grad()
def _inverted(
    session: Session[UNetDenoiser], lesson: Lesson, branch: _ConditionalBranch
) -> tuple[torch.Tensor, list[Maps]]:
    """The inversion under the source prompt without guidance, and the maps of each of its evaluations.

    The evaluation that leads up to a level sees the latents of the level below at this level's timestep, so its maps
    show what attention at that timestep looked like on the way up: learning compares with them at the same timestep.
    The published code uses the maps of the same latent at the next noisier timestep; ours are closer on average, but
    not at every step.

    Returns:
        Latents, (levels + 1, pictures, channels, height, width), level 0 first; the maps of each level from 1 on.
    """
    latents, schedule = lesson.clean.float(), session.schedule
    levels = schedule.num_inference_steps
    watch, kept, maps = FiniteWatch(), [latents], []
    with session.bar("invert", levels) as progress_bar:
        for level in range(1, levels + 1):
            noise_pred, seen = branch.evaluate_plain(latents, level)
            latents = ddim_inverse_step(latents, noise_pred, schedule, level)
            watch.see(at_step("the inversion", level - 1, schedule.timestep(level)), latents)
            kept.append(latents)
            maps.append(seen)
            progress_bar.update()
    watch.check()
    return torch.stack(kept), maps


@torch.no_grad()
def learned_network(
    session: Session[UNetDenoiser], lesson: Lesson, learned: Learned, index: int
) -> MappingNetwork:
    """The network of one picture, with its reconstruction measured against the VAE's own.

    Args:
        session: Of the call.
        lesson: What was to be learned.
        learned: The outcome.
        index: Which picture.

    Raises:
        FloatingPointError: If the network has NaN or infinite values.
    """
    row, result, schedule = slice(index, index + 1), learned.result, session.schedule
    best, reached = (session.denoiser.decode(latents[row]) for latents in (lesson.clean, result.latents))
    large_enough = min(best.shape[-2:]) >= 11
    _, num_text_tokens, text_width = lesson.given.prompt_embeds.shape
    network = MappingNetwork(
        variant=lesson.variant,
        num_text_tokens=num_text_tokens,
        text_width=text_width,
        num_image_tokens=lesson.image_tokens.shape[1],
        image_width=lesson.image_tokens.shape[2],
        latent_shape=tuple(lesson.clean.shape[1:]),
        num_inference_steps=schedule.num_inference_steps,
        timesteps=schedule.timesteps,
        schedule_fingerprint=schedule.fingerprint,
        prediction_type=schedule.prediction_type,
        prompt=lesson.prompt(index),
        negative_prompt=lesson.negative_prompt,
        guidance_scale=lesson.guidance_scale,
        scaling_factor=session.denoiser.scaling_factor,
        model_family=session.denoiser.family.name,
        base_model=lesson.base_model,
        base_fingerprint=learned.identity,
        learning=asdict(lesson.settings),
        reconstruction_psnr=min(batch_psnr(best, reached).item(), 120.0),
        reconstruction_ssim=batch_ssim(best, reached).item() if large_enough else None,
        text_fingerprint=text_look(lesson.given.rows(row), lesson.negative.rows(row)),
        guided_start=lesson.start is not None,
        sizes=session.denoiser.sizes(*lesson.clean.shape[2:]) or None,
        frame=lesson.frames[index if len(lesson.frames) > 1 else 0].stored() if lesson.frames else None,
    )
    network.fill(
        result.image(index),
        lesson.image_tokens[index],
        learned.trajectory[:, index],
        None if lesson.start is None else lesson.start[index],
    )
    watch = FiniteWatch()
    for name, values in network.state_dict().items():
        watch.see(f"the learning, in what it leaves as {name}", values)
    watch.check()
    network.report = _own_report(result.report, index)
    return network.to(learned.trajectory.device)


def _own_report(report: LearningReport, index: int) -> LearningReport:
    """The part of the report for one picture; its seconds are those of all pictures together."""

    def own(step: StepReport) -> StepReport:
        parts: dict[str, Any] = {
            name: value[index : index + 1] for name, value in vars(step).items() if isinstance(value, tuple)
        }
        return replace(step, **parts)

    steps = tuple(own(step) for step in report.steps)
    return replace(report, steps=steps, converged=report.converged[index : index + 1])
