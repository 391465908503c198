"""Learning the mapping networks of one or several pictures, from the noisiest step to the clean picture.

Nothing here knows a UNet: the denoiser, its attention maps and the DDIM step come in as functions.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping

import torch

from semantic_edit.disk.sealed import tensor_digest
from semantic_edit.mapping_networks.checkpoint import FinishedStep, kept_checkpoint
from semantic_edit.mapping_networks.learner import learn_step
from semantic_edit.mapping_networks.mapping import VARIANTS
from semantic_edit.mapping_networks.objective import Evaluate, Objective
from semantic_edit.mapping_networks.report import LearningReport, LearningResult, OnLearnedStep
from semantic_edit.mapping_networks.settings import LearningSettings


def learn_mappings(
    evaluate: Evaluate,
    evaluate_unconditional: Callable[[torch.Tensor, int], torch.Tensor],
    step_back: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
    source_maps: Callable[[int], list[torch.Tensor]],
    trajectory: torch.Tensor,
    text_embeds: torch.Tensor,
    image_tokens: torch.Tensor,
    variant: str = "modulate",
    guidance_scale: float = 7.5,
    settings: LearningSettings | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    identity: Mapping[str, str] | None = None,
    on_step: OnLearnedStep | None = None,
) -> LearningResult:
    """Learn for each step the network whose value embeddings make guidance follow the inversion.

    The networks of all pictures learn side by side, each as if it were alone, but for rounding: its own loss, its own
    Adam, its own early stop, after which it takes no part in the step's evaluations. Only the networks get gradients.

    Args:
        evaluate: `evaluate(latents, level, value_embeds, rows)`: the conditional prediction of the pictures `rows`
            (a tensor of indices into the batch), differentiable in `value_embeds`, and the cross-attention maps to
            compare, each with a row for each of `rows`.
        evaluate_unconditional: `evaluate_unconditional(latents, level)`, of all pictures; called once a step.
        step_back: `step_back(latents, noise_pred, level)`: the DDIM step from `level` to `level - 1`.
        source_maps: `source_maps(level)`: what `evaluate`'s maps at a level are compared with, for all pictures.
        trajectory: The inversion's latents, (levels + 1, pictures, channels, height, width), level 0 first.
        text_embeds: (pictures, text tokens, text width); value embeddings have its dtype.
        image_tokens: (pictures, image tokens, image width).
        variant: "modulate" or "direct".
        guidance_scale: Guidance that the edit will have too.
        settings: `LearningSettings.short()` if `None`.
        checkpoint: A folder; an interrupted call made again with it goes on after the last finished step, and on the
            same CPU ends with the same bits.
        identity: What else the functions depend on (the model, the negative prompt), by names; a checkpoint made
            under another one is refused.
        on_step: Called with a `StepReport` after each step, those restored from the checkpoint included.

    Returns:
        [`LearningResult`]; parameters are float32, or float64 if the trajectory is.

    Raises:
        ValueError: If shapes disagree, the maps are not those of `source_maps`, `evaluate` is not differentiable, or
            the checkpoint is of another learning.
        FloatingPointError: If a loss or a gradient is not finite.

    Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.2; the schedule as in the authors' published code.
    """
    settings = settings or LearningSettings.short()
    _check_inputs(trajectory, text_embeds, image_tokens, variant)
    dtype = torch.promote_types(trajectory.dtype, torch.float32)  # learned at half precision, updates vanish
    trajectory, image_tokens = trajectory.to(dtype), image_tokens.to(dtype)
    objective = Objective(
        evaluate,
        evaluate_unconditional,
        step_back,
        source_maps,
        trajectory,
        text_embeds,
        image_tokens,
        variant,
        guidance_scale,
        settings,
    )
    inputs = _describe(trajectory, text_embeds, image_tokens, variant, guidance_scale, settings, identity)
    with kept_checkpoint(checkpoint, inputs) as stored:
        finished = stored.load(objective.start()) if stored else []
        for done in finished:
            _tell(on_step, done)
        for step in range(len(finished), len(trajectory) - 1):
            parameters, latents = finished[-1].carried if finished else objective.start()
            finished.append(learn_step(objective, step, parameters, latents))
            if stored:
                stored.save(finished[-1])
            _tell(on_step, finished[-1])
    return _result(finished, settings)


def _check_inputs(
    trajectory: torch.Tensor, text_embeds: torch.Tensor, image_tokens: torch.Tensor, variant: str
) -> None:
    if trajectory.ndim != 5 or len(trajectory) < 2:
        raise ValueError(
            "`trajectory` must have shape (levels + 1, pictures, channels, height, width) with at least one level, "
            f"got {tuple(trajectory.shape)}."
        )
    pictures = trajectory.shape[1]
    for name, tensor in (("text_embeds", text_embeds), ("image_tokens", image_tokens)):
        if tensor.ndim != 3 or len(tensor) != pictures:
            raise ValueError(
                f"`{name}` must have shape ({pictures}, tokens, width), a row for each picture of the trajectory, "
                f"got {tuple(tensor.shape)}."
            )
    if variant not in VARIANTS:
        raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}, got {variant!r}.")


def _describe(
    trajectory: torch.Tensor,
    text_embeds: torch.Tensor,
    image_tokens: torch.Tensor,
    variant: str,
    guidance_scale: float,
    settings: LearningSettings,
    identity: Mapping[str, str] | None,
) -> dict[str, object]:
    tensors = {"trajectory": trajectory, "text_embeds": text_embeds, "image_tokens": image_tokens}
    return {
        **{name: tensor_digest(tensor) for name, tensor in tensors.items()},
        "variant": variant,
        "guidance_scale": guidance_scale,
        **{f"settings.{name}": value for name, value in dataclasses.asdict(settings).items()},
        **{f"identity.{name}": value for name, value in (identity or {}).items()},
    }


def _tell(on_step: OnLearnedStep | None, finished: FinishedStep) -> None:
    if on_step is not None:
        on_step(finished.report)


def _result(finished: list[FinishedStep], settings: LearningSettings) -> LearningResult:
    last = finished[-1]
    converged = tuple(error < settings.converged_below for error in last.report.latent_after)
    report = LearningReport(tuple(done.report for done in finished), converged)
    if not all(converged):
        listed = ", ".join(
            f"{index} ({error:.2g})"
            for index, (error, good) in enumerate(zip(report.latent_errors, converged, strict=True))
            if not good
        )
        warnings.warn(
            f"The learning did not converge for picture {listed}: the reconstruction's latents have a mean squared "
            f"error of {settings.converged_below:.2g} or more. Raise `inner_steps`, or learn with "
            "`LearningSettings.published()`.",
            stacklevel=3,
        )
    parameters = {
        name: torch.stack([done.parameters[name] for done in finished], dim=1) for name in last.parameters
    }
    return LearningResult(parameters, last.latents, report)
