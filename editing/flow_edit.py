"""FlowEdit: move a picture straight towards another prompt, without encoding it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from semantic_edit.editing.finite import FiniteWatch, at_step
from semantic_edit.editing.guidance import Predictor, PromptPair, predict_guided
from semantic_edit.editing.inversion import StepHooks
from semantic_edit.editing.schedule import Schedule


@dataclass(frozen=True, eq=False)
class GuidedSide:
    """One of the two velocities that FlowEdit subtracts.

    predictor: The model.
    prompts: One for each sample.
    scale: Guidance away from the unconditional prompts, if there are any.
    """

    predictor: Predictor
    prompts: PromptPair
    scale: float

    def velocity(self, latents: torch.Tensor, timestep: float) -> torch.Tensor:
        """The velocity at latents, (batch, channels, height, width); a scale of up to 1 does not guide."""
        scale = self.scale if self.scale > 1 else None
        return predict_guided(self.predictor, latents, timestep, self.prompts, scale)

    def changed(self, changes: Mapping[str, Any]) -> GuidedSide:
        """The same with the prompts' tensors and the "guidance_scale" that a hook returned."""
        scale = changes.get("guidance_scale", self.scale)
        return replace(self, prompts=self.prompts.changed(changes), scale=scale)


@dataclass(frozen=True, eq=False)
class FlowEditWalk:
    """What FlowEdit moves, how far, and where.

    clean: (batch, channels, height, width).
    levels: Number of levels to walk down.
    draw_noise: Called once a step; gives noise of the shape of `clean`.
    mask: (batch, 1, height, width) in [0, 1], 1 where an edit applies; `None` edits everywhere.
    """

    clean: torch.Tensor
    levels: int
    draw_noise: Callable[[], torch.Tensor]
    mask: torch.Tensor | None = None


def flow_edit(
    schedule: Schedule,
    walk: FlowEditWalk,
    source: GuidedSide,
    target: GuidedSide,
    hooks: StepHooks | None = None,
) -> torch.Tensor:
    """Follow the difference of the velocities under two prompts from the clean latents on.

    At each level the picture is noised anew, and the latents reached so far by the same noise; where the mask is 0,
    the latents are the picture's own in every bit.

    Args:
        schedule: Of a rectified flow.
        walk: What to move.
        source, target: The two velocities.
        hooks: Called around the steps; the prompts and the guidance scale that they get and may change are the
            target's.

    Returns:
        Latents of level 0, (batch, channels, height, width) in float32.

    Raises:
        FloatingPointError: Naming the first step that gave NaN or infinite latents, or after which a hook returned such
            values.

    Source: FlowEdit, arXiv:2412.08629, Alg. 1; the mask is ours.
    """
    hooks, watch = hooks or StepHooks(), FiniteWatch()
    latents = clean = walk.clean.float()
    for step, level in enumerate(range(walk.levels, 0, -1)):
        if hooks.should_stop is not None and hooks.should_stop():
            break
        timestep = schedule.timestep(level)
        noised = schedule.add_noise(clean, walk.draw_noise(), level)
        moved = noised + (latents - clean)
        stays, goes = source.velocity(noised, timestep), target.velocity(moved, timestep)
        _, added = schedule.step_factors(level)
        reached = latents + added * (goes - stays)
        # at weight 0, lerp returns its first argument exactly
        latents = reached if walk.mask is None else torch.lerp(latents, reached, walk.mask)
        watch.see(at_step("FlowEdit", step, timestep), latents)
        if hooks.after is not None:
            tensors: dict[str, Any] = {"latents": latents, **target.prompts.tensors()}
            changed = hooks.after(step, timestep, tensors)
            watch.see_returned(changed, step, timestep)
            latents = changed.get("latents", latents)
            target = target.changed(changed)
    watch.see("the callback of the last step", latents)
    watch.check()
    return latents
