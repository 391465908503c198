"""Learning the mapping networks of one or several pictures, from the noisiest step to the clean picture.

Nothing here knows a UNet: predictions, attention maps and the DDIM step come from a `LearningDenoiser`.
"""

from __future__ import annotations

import dataclasses
import os

import torch

from semantic_edit.disk.sealed import tensor_digest
from semantic_edit.disk.telling import warn_caller
from semantic_edit.mapping_networks.checkpoint import FinishedStep, kept_checkpoint
from semantic_edit.mapping_networks.learner import learn_step
from semantic_edit.mapping_networks.objective import Objective
from semantic_edit.mapping_networks.problem import LearningDenoiser, LearningInputs, LearningOptions
from semantic_edit.mapping_networks.report import LearningReport, LearningResult, OnLearnedStep
from semantic_edit.mapping_networks.settings import LearningSettings


def learn_mappings(
    denoiser: LearningDenoiser,
    inputs: LearningInputs,
    options: LearningOptions | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    on_step: OnLearnedStep | None = None,
) -> LearningResult:
    """Learn, for each step, the network whose value embeddings make guidance follow the inversion.

    All pictures learn side by side and, apart from rounding, as if each were alone: each has its own loss, its own Adam
    and its own early stop, after which it takes no part in the step's evaluations. Only the networks receive gradients.

    Args:
        denoiser: Predicts noise and attention maps, and takes the steps between levels.
        inputs: The pictures, as latents and embeddings.
        options: `LearningOptions()` if `None`.
        checkpoint: A folder. Repeating an interrupted call with the same folder resumes after the last finished step;
            on the same CPU the result has the same bits.
        on_step: Called with a `StepReport` after each step, including those restored from the checkpoint.

    Returns:
        [`LearningResult`]; parameters are float32, or float64 if the trajectory is.

    Raises:
        ValueError: If the maps do not match those of `source_maps`, `evaluate` is not differentiable, or the checkpoint
            belongs to another run of learning.
        FloatingPointError: If a loss or a gradient is not finite.

    Source: StyleDiffusion, arXiv:2303.15649, Sec. 3.2; the schedule as in the authors' published code.
    """
    objective = Objective(denoiser, inputs.at_learning_precision(), options or LearningOptions())
    with kept_checkpoint(checkpoint, _described(objective)) as stored:
        finished = stored.load(objective.start()) if stored else []
        for done in finished:
            _tell(on_step, done)
        for step in range(len(finished), len(inputs.trajectory) - 1):
            parameters, latents = finished[-1].carried if finished else objective.start()
            finished.append(learn_step(objective, step, parameters, latents))
            if stored:
                stored.save(finished[-1])
            _tell(on_step, finished[-1])
    return _result(finished, objective.settings)


def _described(objective: Objective) -> dict[str, object]:
    """Everything that the result depends on, as JSON values."""
    inputs, options = objective.inputs, objective.options
    return {
        **{name: tensor_digest(tensor) for name, tensor in vars(inputs).items() if tensor is not None},
        "variant": options.variant,
        "guidance_scale": options.guidance_scale,
        **{f"settings.{name}": value for name, value in dataclasses.asdict(options.settings).items()},
        **{f"identity.{name}": value for name, value in objective.denoiser.identity.items()},
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
        warn_caller(
            f"The learning did not converge for picture {listed}: the mean squared error of the reconstructed latents "
            f"is {settings.converged_below:.2g} or more. Raise `inner_steps`, or learn with "
            "`LearningSettings.published()`."
        )
    parameters = {
        name: torch.stack([done.parameters[name] for done in finished], dim=1) for name in last.parameters
    }
    return LearningResult(parameters, last.latents, report)
